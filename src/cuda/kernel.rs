//! Kernels as Rust functions, with the types that their C++ side must have too.
//!
//! The driver takes arguments as bare pointers and checks nothing. So `kernels!` declares each kernel once, gives it
//! a function whose parameters are typed, and keeps its signature as text; the emulated build derives the same text
//! from the C++ function, and a test compares the two.

use std::ffi::c_void;
use std::marker::PhantomData;

use half::bf16;

use crate::cuda::driver::{Argument, Inspect, Touched};

/// What a kernel may be given.
pub trait Parameter: Copy + Inspect {
    /// The type as the C++ side spells it.
    fn spelling() -> String;
}

macro_rules! scalar {
    ($($rust:ty => $name:literal),*) => {
        $(impl Inspect for $rust {
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

impl Inspect for C32 {
    fn show(&self) -> Option<String> {
        None
    }
}

impl Parameter for C32 {
    fn spelling() -> String {
        "c32".into()
    }
}

impl Inspect for bf16 {
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Parameter for bf16 {
    fn spelling() -> String {
        "bf16".into()
    }
}

/// What the values of a buffer are: `f32`, or `bf16` in the feature maps of [`crate::precision::Precision::Bf16`].
pub trait Stored: Parameter {
    const ELEMENT: Element;
}

impl Stored for f32 {
    const ELEMENT: Element = Element::F32;
}

impl Stored for bf16 {
    const ELEMENT: Element = Element::Bf16;
}

/// The types that are [`Stored`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    Bf16,
}

impl Element {
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<bf16>(),
        }
    }
}

impl<T: Inspect, const N: usize> Inspect for [T; N] {
    fn show(&self) -> Option<String> {
        let values: Option<Vec<String>> = self.iter().map(Inspect::show).collect();
        values.map(|values| format!("[{}]", values.join(", ")))
    }

    fn addresses(&self, found: &mut dyn FnMut(Touched)) {
        self.iter().for_each(|value| value.addresses(found));
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
    ($pointer:ident, $spelling:literal, $written:literal) => {
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
        impl<T: Stored> $pointer<T> {
            /// For a kernel that there is for float32 alone.
            ///
            /// # Panics
            /// Where these are no float32.
            pub fn singles(self) -> $pointer<f32> {
                assert!(T::ELEMENT == Element::F32, "{:?} is taken for float32", T::ELEMENT);
                $pointer::at(self.address)
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
            pub fn is_null(self) -> bool {
                self.address == 0
            }
            pub fn address(self) -> u64 {
                self.address
            }
        }
        impl<T> Inspect for $pointer<T> {
            fn show(&self) -> Option<String> {
                None
            }
            fn addresses(&self, found: &mut dyn FnMut(Touched)) {
                if self.address != 0 {
                    found(Touched { address: self.address, written: $written });
                }
            }
        }
        impl<T: Parameter> Parameter for $pointer<T> {
            fn spelling() -> String {
                format!($spelling, T::spelling())
            }
        }
    };
}
pointer!(Const, "const {}*", false);
pointer!(Mut, "{}*", true);

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

    /// As many values of a map, or twice as many.
    pub fn stored<T: Stored>(self) -> Mut<T> {
        Mut::at(self.address)
    }
}

/// The first name where T is `f32`, the second where it is `bf16`.
pub fn name_for<T: Stored>(name: &'static str, of_bf16: &'static str) -> &'static str {
    match T::ELEMENT {
        Element::F32 => name,
        Element::Bf16 => of_bf16,
    }
}

/// A value as an argument of a launch.
pub fn argument<'v, P: Parameter>(name: &'static str, value: &'v P) -> Argument<'v> {
    Argument {
        name,
        value: std::ptr::from_ref(value).cast::<c_void>(),
        bytes: size_of::<P>(),
        inspect: value,
    }
}

/// A kernel's name and the types of its parameters.
pub struct Declaration {
    pub name: &'static str,
    pub signature: fn() -> String,
}

/// A kernel's name, and the stem of the file in kernels/ that has it, whose fatbin goes by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    pub name: &'static str,
    pub file: &'static str,
}

/// Declares kernels, in a module `kernel`: for each a function `kernel::name(cuda, launch, …)`, and `KERNELS` with all
/// their declarations. `fn name<T>(…)` stands for two: `name`, where T is `f32`, and `name_bf16`, where it is `bf16`;
/// `fn one or other<T>(…)` names the second otherwise.
#[macro_export]
macro_rules! kernels {
    ($(
        $(#[$doc:meta])*
        fn $name:ident $(or $other:ident)? $(<$stored:ident>)? ($($argument:ident: $type:ty),* $(,)?);
    )*) => {
        pub(in $crate::cuda) mod kernel {
            #[allow(unused_imports)]
            use super::*;
            $($crate::kernel_function! {
                $(#[$doc])* fn $name $(or $other)? $(<$stored>)? ($($argument: $type),*)
            })*
            /// What this file launches.
            pub const KERNELS: &[&[$crate::cuda::kernel::Declaration]] = &[$(
                $crate::kernel_declarations!($name $(or $other)? $(<$stored>)? ($($type),*))
            ),*];
        }
    };
}

/// One function of [`kernels!`].
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_function {
    ($(#[$doc:meta])* fn $name:ident ($($argument:ident: $type:ty),*)) => {
        $crate::kernel_function! { @ $(#[$doc])* $name [stringify!($name)] [] ($($argument: $type),*) }
    };
    ($(#[$doc:meta])* fn $name:ident<$stored:ident> ($($argument:ident: $type:ty),*)) => {
        $crate::kernel_function! {
            @ $(#[$doc])* $name
            [$crate::cuda::kernel::name_for::<$stored>(stringify!($name), concat!(stringify!($name), "_bf16"))]
            [$stored: $crate::cuda::kernel::Stored,]
            ($($argument: $type),*)
        }
    };
    ($(#[$doc:meta])* fn $name:ident or $other:ident<$stored:ident> ($($argument:ident: $type:ty),*)) => {
        $crate::kernel_function! {
            @ $(#[$doc])* $name
            [$crate::cuda::kernel::name_for::<$stored>(stringify!($name), stringify!($other))]
            [$stored: $crate::cuda::kernel::Stored,]
            ($($argument: $type),*)
        }
    };
    (@ $(#[$doc:meta])* $name:ident [$text:expr] [$($generics:tt)*] ($($argument:ident: $type:ty),*)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name<$($generics)* D: $crate::cuda::driver::Driver>(
            cuda: &$crate::cuda::Cuda<D>,
            launch: $crate::cuda::driver::Launch,
            $($argument: $type),*
        ) {
            let arguments = [$($crate::cuda::kernel::argument(stringify!($argument), &$argument)),*];
            // SAFETY: the types are those of the kernel (tests/cuda_signatures.rs), and pointers come from
            // buffers that were asked for as much as the kernel touches.
            unsafe { cuda.launch($text, launch, &arguments) }
        }
    };
}

/// The declarations of one function of [`kernels!`].
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_declarations {
    ($name:ident ($($type:ty),*)) => {
        &[$crate::kernel_declarations!(@one stringify!($name), ($($type),*))]
    };
    ($name:ident<$stored:ident> ($($type:ty),*)) => {
        $crate::kernel_declarations!(@both stringify!($name), concat!(stringify!($name), "_bf16"), $stored, ($($type),*))
    };
    ($name:ident or $other:ident<$stored:ident> ($($type:ty),*)) => {
        $crate::kernel_declarations!(@both stringify!($name), stringify!($other), $stored, ($($type),*))
    };
    (@both $name:expr, $other:expr, $stored:ident, ($($type:ty),*)) => {
        &[
            { type $stored = f32; $crate::kernel_declarations!(@one $name, ($($type),*)) },
            { type $stored = half::bf16; $crate::kernel_declarations!(@one $other, ($($type),*)) },
        ]
    };
    (@one $name:expr, ($($type:ty),*)) => {
        $crate::cuda::kernel::Declaration {
            name: $name,
            signature: || {
                let types: &[String] = &[$(<$type as $crate::cuda::kernel::Parameter>::spelling()),*];
                types.join(", ")
            },
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
        impl $crate::cuda::driver::Inspect for $name {
            fn show(&self) -> Option<String> {
                let fields = [$((stringify!($field), $crate::cuda::driver::Inspect::show(&self.$field))),*];
                Some(format!("({})", $crate::cuda::driver::listed(fields.into_iter())))
            }
            fn addresses(&self, found: &mut dyn FnMut($crate::cuda::driver::Touched)) {
                $($crate::cuda::driver::Inspect::addresses(&self.$field, found);)*
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
