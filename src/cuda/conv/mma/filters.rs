//! Filters, laid out as the kernels on tensor cores take them.

use std::ops::Range;

use crate::cuda::conv::mma::Cut;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::partial::first_blocks;
use crate::cuda::{Cuda, blocks, int};
use crate::precision::Precision;

const FILTERS_THREADS: u32 = 256;
/// Words that a thread makes: those of all taps.
const TAPS: usize = 9;
/// Layers whose filters a launch lays out; more take further launches.
const MOST_LAYERS: usize = 32;

crate::parameter_struct! {
    /// See kernels/conv_mma_kernels.cuh.
    pub struct FilterShape {
        pub begin: i32, pub outs: i32, pub ins: i32, pub row: i32, pub tiles: i32, pub flipped: i32,
    }
}

crate::parameter_struct! {
    /// See kernels/conv_mma_kernels.cuh.
    pub struct FilterLayers {
        pub weights: [Const<f32>; MOST_LAYERS], pub to: [Mut<u32>; MOST_LAYERS],
        pub shape: [FilterShape; MOST_LAYERS], pub words: [i32; MOST_LAYERS],
        pub first_block: [i32; MOST_LAYERS], pub count: i32,
    }
}

crate::kernels! {
    fn conv3x3_filters_tf32(layers: FilterLayers);
    fn conv3x3_filters_bf16(layers: FilterLayers);
}

/// Which filters these are, of a convolution `[outs, ins, 3, 3]`: those that make its output.
pub fn of_output(cut: &Cut, ins: usize, outs: usize) -> FilterShape {
    let [outs, ins] = [outs, ins].map(int);
    FilterShape { begin: 0, outs, ins, row: ins, tiles: int(cut.by), flipped: 0 }
}

/// Those that make the gradient of its inputs' channels `of`.
pub fn of_inputs(cut: &Cut, ins: usize, outs: usize, of: &Range<usize>) -> FilterShape {
    let [begin, made, summed, row] = [of.start, of.len(), outs, ins].map(int);
    FilterShape { begin, outs: made, ins: summed, row, tiles: int(cut.by), flipped: 1 }
}

/// Filters that are to be laid out.
#[derive(Clone, Copy)]
pub struct Layer {
    pub weights: Const<f32>,
    pub to: Mut<u32>,
    pub shape: FilterShape,
    /// [`Cut::filters`], a multiple of `TAPS`.
    pub words: usize,
}

/// Writes filters as the kernels take them.
pub fn lay_out<D: Driver>(cuda: &Cuda<D>, layers: &[Layer]) {
    let kernel = match cuda.precision() {
        Precision::Fp32 if layers.is_empty() => return,
        Precision::Fp32 => unreachable!("float32 has no tensor cores"),
        Precision::Tf32 => kernel::conv3x3_filters_tf32,
        Precision::Bf16 => kernel::conv3x3_filters_bf16,
    };
    for layers in layers.chunks(MOST_LAYERS) {
        let blocks_of = |layer: &Layer| (layer.words / TAPS).div_ceil(FILTERS_THREADS as usize);
        let (first_block, all) = first_blocks(layers.iter().map(blocks_of));
        let nothing = FilterShape { begin: 0, outs: 0, ins: 0, row: 0, tiles: 1, flipped: 0 };
        kernel(
            cuda,
            blocks(all, 1, FILTERS_THREADS),
            FilterLayers {
                weights: std::array::from_fn(|i| layers.get(i).map_or(Const::null(), |layer| layer.weights)),
                to: std::array::from_fn(|i| layers.get(i).map_or(Mut::null(), |layer| layer.to)),
                shape: std::array::from_fn(|i| layers.get(i).map_or(nothing, |layer| layer.shape)),
                words: std::array::from_fn(|i| layers.get(i).map_or(0, |layer| int(layer.words))),
                first_block,
                count: int(layers.len()),
            },
        );
    }
}
