//! Kernels as Rust functions, with the types that their C++ side must have too.
//!
//! The driver takes arguments as bare pointers and checks nothing. So [`kernels!`] declares each kernel once, gives it
//! a function whose parameters are typed, and keeps its signature as text; the emulated build derives the same text
//! from the C++ function, and a test compares the two.

use std::ffi::c_void;
use std::marker::PhantomData;

use crate::cuda::driver::{Argument, Show};

/// What a kernel may be given.
pub trait Parameter: Copy + Show {
    /// The type as the C++ side spells it.
    fn spelling() -> String;
}

macro_rules! scalar {
    ($($rust:ty => $name:literal),*) => {
        $(impl Show for $rust {
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
        impl Parameter for $rust {
            fn spelling() -> String {
                $name.to_string()
            }
        })*
    };
}
scalar!(f32 => "f32", f64 => "f64", i32 => "i32", u32 => "u32", u64 => "u64");

/// A complex number, as two floats.
#[derive(Clone, Copy)]
pub struct C32;

impl Show for C32 {
    fn show(&self) -> Option<String> {
        None
    }
}

impl Parameter for C32 {
    fn spelling() -> String {
        "c32".into()
    }
}

impl<T: Show, const N: usize> Show for [T; N] {
    fn show(&self) -> Option<String> {
        let values: Option<Vec<String>> = self.iter().map(Show::show).collect();
        values.map(|values| format!("[{}]", values.join(", ")))
    }
}

impl<T: Parameter, const N: usize> Parameter for [T; N] {
    fn spelling() -> String {
        format!("[{};{N}]", T::spelling())
    }
}

/// The address of values that a kernel reads, or null.
#[repr(transparent)]
pub struct Const<T> {
    address: u64,
    of: PhantomData<T>,
}

/// The address of values that a kernel writes, or null.
#[repr(transparent)]
pub struct Mut<T> {
    address: u64,
    of: PhantomData<T>,
}

macro_rules! pointer {
    ($pointer:ident, $spelling:literal) => {
        impl<T> Clone for $pointer<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for $pointer<T> {}
        impl<T> std::fmt::Debug for $pointer<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:#x}", self.address)
            }
        }
        impl<T> $pointer<T> {
            /// To what lies at an address. Whoever makes one has checked how much that is.
            pub(in crate::cuda) fn at(address: u64) -> Self {
                Self { address, of: PhantomData }
            }
            pub fn null() -> Self {
                Self::at(0)
            }
            pub fn address(self) -> u64 {
                self.address
            }
        }
        impl<T> Show for $pointer<T> {
            fn show(&self) -> Option<String> {
                None
            }
        }
        impl<T: Parameter> Parameter for $pointer<T> {
            fn spelling() -> String {
                format!($spelling, T::spelling())
            }
        }
    };
}
pointer!(Const, "const {}*");
pointer!(Mut, "{}*");

impl<T> Mut<T> {
    /// For a kernel that reads what another wrote.
    pub fn as_const(self) -> Const<T> {
        Const::at(self.address)
    }
}

impl Mut<f32> {
    /// Half as many doubles. Buffers and scratch are aligned for them.
    pub fn doubles(self) -> Mut<f64> {
        Mut::at(self.address)
    }

    /// As many words, of whatever kernels put into 32 bits.
    pub fn words(self) -> Mut<u32> {
        Mut::at(self.address)
    }
}

/// A value as an argument of a launch.
pub fn argument<'v, P: Parameter>(name: &'static str, value: &'v P) -> Argument<'v> {
    Argument { name, value: std::ptr::from_ref(value).cast::<c_void>(), bytes: size_of::<P>(), show: value }
}

/// A kernel's name and the types of its parameters.
pub struct Declaration {
    pub name: &'static str,
    pub signature: fn() -> String,
}

/// Declares kernels, in a module `kernel`: for each a function `kernel::name(cuda, launch, …)`, and `KERNELS` with all
/// their declarations.
#[macro_export]
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        pub(in $crate::cuda) mod kernel {
            #[allow(unused_imports)]
            use super::*;
            $(
                $(#[$doc])*
                #[allow(clippy::too_many_arguments)]
                pub fn $name<D: $crate::cuda::driver::Driver>(
                    cuda: &$crate::cuda::Cuda<D>,
                    launch: $crate::cuda::driver::Launch,
                    $($argument: $type),*
                ) {
                    let arguments = [$($crate::cuda::kernel::argument(stringify!($argument), &$argument)),*];
                    // SAFETY: the types are those of the kernel (tests/cuda_signatures.rs), and pointers come from
                    // buffers that were asked for as much as the kernel touches.
                    unsafe { cuda.launch(stringify!($name), launch, &arguments) }
                }
            )*
            /// What this file launches.
            pub const KERNELS: &[$crate::cuda::kernel::Declaration] = &[$(
                $crate::cuda::kernel::Declaration {
                    name: stringify!($name),
                    signature: || {
                        let types: &[String] =
                            &[$(<$type as $crate::cuda::kernel::Parameter>::spelling()),*];
                        types.join(", ")
                    },
                }
            ),*];
        }
    };
}

/// Declares a structure that kernels take by value: C++ has one of the same name and fields, with `DESCRIBE`.
#[macro_export]
macro_rules! parameter_struct {
    ($(#[$doc:meta])* pub struct $name:ident { $(pub $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct $name { $(pub $field: $type),* }
        impl $crate::cuda::driver::Show for $name {
            fn show(&self) -> Option<String> {
                let fields = [$((stringify!($field), $crate::cuda::driver::Show::show(&self.$field))),*];
                Some(format!("({})", $crate::cuda::driver::listed(fields.into_iter())))
            }
        }
        impl $crate::cuda::kernel::Parameter for $name {
            fn spelling() -> String {
                let mut text = concat!(stringify!($name), "{ ").to_string();
                $(
                    text += concat!(stringify!($field), ":");
                    text += &<$type as $crate::cuda::kernel::Parameter>::spelling();
                    text += " ";
                )*
                format!("{text}}}{}", size_of::<$name>())
            }
        }
    };
}

parameter_struct! {
    /// Complex images `[n, coils, rows, columns]`.
    pub struct ImageShape { pub n: i32, pub coils: i32, pub rows: i32, pub columns: i32 }
}

impl From<crate::backend::ImageShape> for ImageShape {
    fn from(shape: crate::backend::ImageShape) -> Self {
        let crate::backend::ImageShape { n, coils, rows, columns } = shape;
        let [n, coils, rows, columns] = [n, coils, rows, columns].map(super::int);
        Self { n, coils, rows, columns }
    }
}
