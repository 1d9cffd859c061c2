//! 3×3 convolution and the gradient of its inputs on tensor cores.

mod cut;
pub mod filters;
#[cfg(test)]
mod prediction;
pub mod weights;

use crate::cuda::Cuda;
use crate::cuda::conv::arguments::{ConvShape, InputPlace};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use cut::Tiling;

pub use cut::{BANDWIDTH, CLOCK, Cut, MULTIPROCESSORS, THREADS, pack};
pub use filters::{FilterShape, Layer, lay_out, of_inputs, of_output};

macro_rules! kernels_by_tiling {
    ($($tiling:ident, $by:literal: $forward:ident or $forward_bf16:ident, $inputs:ident or $inputs_bf16:ident;)*) => {
        crate::kernels! {
            $(
                fn $forward or $forward_bf16<T>(
                    first: Const<T>, first_stats: Const<f32>, second: Const<T>, second_stats: Const<f32>,
                    filters: Const<u32>, output: Mut<T>, partial: Mut<f32>, shape: ConvShape,
                );
                fn $inputs or $inputs_bf16<T>(
                    d_output: Const<T>, output: Const<T>, stats: Const<f32>, sums: Const<f32>, filters: Const<u32>,
                    first: Const<T>, first_stats: Const<f32>, d_first: Mut<T>, first_partial: Mut<f32>,
                    second: Const<T>, second_stats: Const<f32>, d_second: Mut<T>, second_partial: Mut<f32>,
                    shape: ConvShape, begin: i32, end: i32,
                );
            )*
        }

        type Forward<T, D> = fn(
            &Cuda<D>, Launch, Const<T>, Const<f32>, Const<T>, Const<f32>, Const<u32>, Mut<T>, Mut<f32>, ConvShape,
        );
        type Inputs<T, D> = fn(
            &Cuda<D>, Launch, Const<T>, Const<T>, Const<f32>, Const<f32>, Const<u32>, Const<T>, Const<f32>, Mut<T>,
            Mut<f32>, Const<T>, Const<f32>, Mut<T>, Mut<f32>, ConvShape, i32, i32,
        );

        /// The kernels there are, in either format: tiling and eights of channels out.
        const CUTS: &[(Tiling, usize)] = &[$((Tiling::$tiling, $by),)*];

        fn forward_kernel<T: Stored, D: Driver>(cut: &Cut) -> Forward<T, D> {
            match (cut.tiling, cut.by) {
                $((Tiling::$tiling, $by) => kernel::$forward::<T, D>,)*
                other => unreachable!("{other:?} is none of CUTS"),
            }
        }

        fn inputs_kernel<T: Stored, D: Driver>(cut: &Cut) -> Inputs<T, D> {
            match (cut.tiling, cut.by) {
                $((Tiling::$tiling, $by) => kernel::$inputs::<T, D>,)*
                other => unreachable!("{other:?} is none of CUTS"),
            }
        }
    };
}
// TF32 makes the products of maps that are stored as f32.
kernels_by_tiling! {
    Wide, 1: conv3x3_tf32_wide_by1 or conv3x3_bf16_wide_by1, conv3x3_inputs_tf32_wide_by1 or conv3x3_inputs_bf16_wide_by1;
    Wide, 2: conv3x3_tf32_wide_by2 or conv3x3_bf16_wide_by2, conv3x3_inputs_tf32_wide_by2 or conv3x3_inputs_bf16_wide_by2;
    Wide, 3: conv3x3_tf32_wide_by3 or conv3x3_bf16_wide_by3, conv3x3_inputs_tf32_wide_by3 or conv3x3_inputs_bf16_wide_by3;
    Wide, 5: conv3x3_tf32_wide_by5 or conv3x3_bf16_wide_by5, conv3x3_inputs_tf32_wide_by5 or conv3x3_inputs_bf16_wide_by5;
    Deep, 2: conv3x3_tf32_deep_by2 or conv3x3_bf16_deep_by2, conv3x3_inputs_tf32_deep_by2 or conv3x3_inputs_bf16_deep_by2;
    Deep, 3: conv3x3_tf32_deep_by3 or conv3x3_bf16_deep_by3, conv3x3_inputs_tf32_deep_by3 or conv3x3_inputs_bf16_deep_by3;
    Deep, 4: conv3x3_tf32_deep_by4 or conv3x3_bf16_deep_by4, conv3x3_inputs_tf32_deep_by4 or conv3x3_inputs_bf16_deep_by4;
}

/// The names of [`Cut`]s.
pub fn tilings() -> Vec<String> {
    CUTS.iter().map(|&(tiling, by)| cut::name(tiling, by)).collect()
}

/// Writes the output from filters that [`lay_out`] made, and where `partial` is not null the moments `[planes, cut.tiles, 3]` of its tiles.
#[allow(clippy::too_many_arguments)]
pub fn forward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &Cut,
    n: usize,
    inputs: [(Const<T>, Const<f32>); 2],
    filters: Const<u32>,
    output: Mut<T>,
    partial: Mut<f32>,
    shape: ConvShape,
) {
    let [(first, first_stats), (second, second_stats)] = inputs;
    let kernel = forward_kernel::<T, D>(cut);
    kernel(cuda, cut.launch(n), first, first_stats, second, second_stats, filters, output, partial, shape);
}

/// Writes the gradients of channels `begin` to `end` of the concatenated inputs.
#[allow(clippy::too_many_arguments)]
pub fn input_gradients<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &Cut,
    n: usize,
    gradient: OutputGradient<T>,
    filters: Const<u32>,
    places: [InputPlace<T>; 2],
    shape: ConvShape,
    [begin, end]: [i32; 2],
) {
    let OutputGradient { d, output, stats, sums } = gradient;
    let [first, second] = places;
    inputs_kernel::<T, D>(cut)(
        cuda,
        cut.launch(n),
        d,
        output,
        stats,
        sums,
        filters,
        first.values,
        first.stats,
        first.d,
        first.partial,
        second.values,
        second.stats,
        second.d,
        second.partial,
        shape,
        begin,
        end,
    );
}
