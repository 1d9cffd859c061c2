//! The two number types that everything is generic over: f32 for work, f64 as the reference.

use bytemuck::Pod;
use num_traits::Float;
use pulp::Simd;
use rustfft::FftNum;

/// A real number type together with its SIMD registers.
pub trait Real:
    FftNum + Float + Pod + Default + std::iter::Sum + std::ops::AddAssign + std::ops::MulAssign
{
    /// One SIMD register of reals.
    type Lanes<S: Simd>: Pod + Send + Sync;

    fn real(value: f64) -> Self;
    fn as_f64(self) -> f64;

    /// Reals in a register.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Lanes<S>>() / size_of::<Self>()
    }
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S>;
    fn plus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn minus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn times<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    /// `a · b + c`, fused where the processor can.
    fn fma<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>, c: Self::Lanes<S>) -> Self::Lanes<S>;
    /// The sum of a register's reals.
    fn reduce_sum<S: Simd>(simd: S, a: Self::Lanes<S>) -> Self;

    /// The first register's worth of `from`.
    #[inline(always)]
    fn load<S: Simd>(from: &[Self]) -> Self::Lanes<S> {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..Self::lanes::<S>()]))
    }
    /// A register that holds all of `from`, which is shorter, and zeros.
    fn load_part<S: Simd>(simd: S, from: &[Self]) -> Self::Lanes<S>;
    /// Writes one register to the front of `to`.
    #[inline(always)]
    fn store<S: Simd>(value: Self::Lanes<S>, to: &mut [Self]) {
        to[..Self::lanes::<S>()].copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(&value)));
    }
    /// Writes as much of a register as `to` has room for, which is less.
    fn store_part<S: Simd>(simd: S, value: Self::Lanes<S>, to: &mut [Self]);
}

macro_rules! real {
    (
        $real:ident, $lanes:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident, $reduce_sum:ident,
        $partial_load:ident, $partial_store:ident
    ) => {
        impl Real for $real {
            type Lanes<S: Simd> = S::$lanes;

            fn real(value: f64) -> Self {
                value as $real
            }
            fn as_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S> {
                simd.$splat(value)
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S> {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S> {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S> {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn fma<S: Simd>(
                simd: S,
                a: Self::Lanes<S>,
                b: Self::Lanes<S>,
                c: Self::Lanes<S>,
            ) -> Self::Lanes<S> {
                simd.$fma(a, b, c)
            }
            #[inline(always)]
            fn reduce_sum<S: Simd>(simd: S, a: Self::Lanes<S>) -> Self {
                simd.$reduce_sum(a)
            }
            #[inline(always)]
            fn load_part<S: Simd>(simd: S, from: &[Self]) -> Self::Lanes<S> {
                simd.$partial_load(from)
            }
            #[inline(always)]
            fn store_part<S: Simd>(simd: S, value: Self::Lanes<S>, to: &mut [Self]) {
                simd.$partial_store(to, value);
            }
        }
    };
}

real!(
    f32,
    f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_e_f32s,
    reduce_sum_f32s,
    partial_load_f32s,
    partial_store_f32s
);
real!(
    f64,
    f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_e_f64s,
    reduce_sum_f64s,
    partial_load_f64s,
    partial_store_f64s
);
