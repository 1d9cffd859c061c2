//! 3×3 convolution and its gradients without tensor cores, in float32.

use crate::backend::MapShape;
use crate::cuda::conv::arguments::{ConvShape, InputPlace, Inputs};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Cuda, blocks_with, int};

// What kernels/conv_planes.cuh, conv_correlate.cuh and conv_weights.cuh are cut into.
const TILE: usize = 16;
const WARP: usize = 32;
/// Warps of a block that correlates, at most.
const CORRELATE_WARPS: usize = 6;
/// Channels of a group, and threads of a block, of the weight gradient, at most.
const GROUP: usize = 18;
const WEIGHTS_THREADS: usize = 256;
/// Strips of a tile, that the threads of the weight gradient share out among them.
const STRIPS: usize = 32;

/// Blocks, and warps, that keep every multiprocessor of a large GPU busy.
const ENOUGH_BLOCKS: usize = 264;
const ENOUGH_WARPS: usize = 528;
/// Channels that a map has at most in the upper half of the network, where it is large.
const FEW_CHANNELS: usize = 36;
/// Reals that the parts of a weight gradient may take: 64 MiB.
const MOST_PARTIAL: usize = 16 << 20;

crate::parameter_struct! {
    /// See kernels/conv_weights.cuh.
    pub struct ConvCut {
        pub tiles: i32, pub per_part: i32, pub inputs: i32, pub outputs: i32, pub splits: i32,
    }
}

macro_rules! kernels_by_channels {
    ($($forward:ident, $inputs:ident, $weights:ident;)*) => {
        crate::kernels! {
            $(
                fn $forward(
                    first: Const<f32>, first_stats: Const<f32>, second: Const<f32>, second_stats: Const<f32>,
                    weights: Const<f32>, output: Mut<f32>, partial: Mut<f32>, shape: ConvShape,
                );
                fn $inputs(
                    d_output: Const<f32>, output: Const<f32>, stats: Const<f32>, sums: Const<f32>,
                    weights: Const<f32>,
                    first: Const<f32>, first_stats: Const<f32>, d_first: Mut<f32>, first_partial: Mut<f32>,
                    second: Const<f32>, second_stats: Const<f32>, d_second: Mut<f32>, second_partial: Mut<f32>,
                    shape: ConvShape, begin: i32, end: i32,
                );
                fn $weights(
                    first: Const<f32>, first_stats: Const<f32>, second: Const<f32>, second_stats: Const<f32>,
                    d_output: Const<f32>, output: Const<f32>, stats: Const<f32>, sums: Const<f32>,
                    partial: Mut<f32>, shape: ConvShape, cut: ConvCut,
                );
            )*
        }
    };
}
kernels_by_channels! {
    conv3x3_by2, conv3x3_inputs_by2, conv3x3_weights_by2;
    conv3x3_by6, conv3x3_inputs_by6, conv3x3_weights_by6;
    conv3x3_by8, conv3x3_inputs_by8, conv3x3_weights_by8;
}

/// Channels that a thread holds in registers: there are kernels for so many.
#[derive(Clone, Copy)]
enum By {
    Two = 2,
    Six = 6,
    Eight = 8,
}

impl By {
    /// What makes `channels` with the least work; for each group the pixels are read again, as dear as two channels.
    fn least_work(channels: usize) -> Self {
        let work = |by: By| channels.div_ceil(by as usize) * (by as usize + 2);
        [Self::Eight, Self::Six, Self::Two].into_iter().min_by_key(|&by| work(by)).expect("not empty")
    }
}

/// Tiles of an image, each of which leaves a part of its plane's sums.
pub fn tiles(map: MapShape) -> usize {
    map.height.div_ceil(TILE) * map.width.div_ceil(TILE)
}

/// The launch that correlates to `channels` channels of maps like `map`.
fn correlation(map: MapShape, channels: usize) -> (By, Launch) {
    let all_tiles = map.n * tiles(map);
    let mut by = By::least_work(channels);
    if channels > FEW_CHANNELS && all_tiles * channels.div_ceil(by as usize) < ENOUGH_WARPS {
        by = By::Two;
    }
    // A block reads its inputs once for all its warps: as many as can be, as long as there are blocks for everybody.
    let groups = channels.div_ceil(by as usize);
    let enough = |warps: usize| all_tiles * groups.div_ceil(warps) >= ENOUGH_BLOCKS;
    let most = (CORRELATE_WARPS / 2..=CORRELATE_WARPS).rev().find(|&warps| enough(warps));
    let rows = groups.div_ceil(most.unwrap_or(CORRELATE_WARPS / 2));
    let warps = groups.div_ceil(rows);
    (by, blocks_with(tiles(map), rows, map.n, (warps * WARP) as u32, 0))
}

/// How the weight gradient's work is cut.
pub struct SumCut {
    by: By,
    cut: ConvCut,
    pub parts: usize,
    launch: Launch,
}

impl SumCut {
    pub fn of(output: MapShape, inputs: usize) -> Self {
        let by = By::least_work(output.channels);
        let channels_out = by as usize;
        let outputs = output.channels.div_ceil(channels_out).min(GROUP / channels_out) * channels_out;
        let in_groups = inputs.div_ceil(GROUP);
        let in_group = inputs.div_ceil(in_groups);
        let out_groups = output.channels.div_ceil(outputs);

        let pairs = in_group * (outputs / channels_out);
        let splits = (WEIGHTS_THREADS / pairs).min(STRIPS);
        let splits = 1 << splits.ilog2(); // so that each has as many strips

        let all_tiles = output.n * tiles(output);
        let wanted = (2 * ENOUGH_BLOCKS).div_ceil(in_groups * out_groups);
        let room = (MOST_PARTIAL / (output.channels * inputs * 9)).max(1);
        let per_part = (all_tiles / wanted).max(all_tiles.div_ceil(room)).max(1);
        let parts = all_tiles.div_ceil(per_part);
        let cut = ConvCut {
            tiles: int(all_tiles),
            per_part: int(per_part),
            inputs: int(in_group),
            outputs: int(outputs),
            splits: int(splits),
        };
        let threads = (pairs * splits).next_multiple_of(WARP) as u32;
        Self { by, cut, parts, launch: blocks_with(parts, in_groups, out_groups, threads, 0) }
    }
}

/// Writes the output, of shape `map`, and where `partial` is not null the moments `[planes, tiles, 3]` of its tiles.
pub fn forward<D: Driver>(
    cuda: &Cuda<D>,
    map: MapShape,
    Inputs { shape, values, stats }: Inputs<f32>,
    weights: Const<f32>,
    output: Mut<f32>,
    partial: Mut<f32>,
) {
    let (by, launch) = correlation(map, map.channels);
    let kernel = match by {
        By::Two => kernel::conv3x3_by2,
        By::Six => kernel::conv3x3_by6,
        By::Eight => kernel::conv3x3_by8,
    };
    kernel(cuda, launch, values[0], stats[0], values[1], stats[1], weights, output, partial, shape);
}

/// Leaves the parts of the weights' gradient, `[cut.parts, out, in, 3, 3]`.
pub fn weight_gradient<D: Driver>(
    cuda: &Cuda<D>,
    SumCut { by, cut, launch, .. }: SumCut,
    Inputs { shape, values, stats }: Inputs<f32>,
    OutputGradient { d, output, stats: output_stats, sums }: OutputGradient<f32>,
    partial: Mut<f32>,
) {
    let kernel = match by {
        By::Two => kernel::conv3x3_weights_by2,
        By::Six => kernel::conv3x3_weights_by6,
        By::Eight => kernel::conv3x3_weights_by8,
    };
    let [first, second] = values;
    kernel(
        cuda,
        launch,
        first,
        stats[0],
        second,
        stats[1],
        d,
        output,
        output_stats,
        sums,
        partial,
        shape,
        cut,
    );
}

/// Writes the gradients of channels `begin` to `end` of the concatenated inputs. `map`: the output's shape.
pub fn input_gradients<D: Driver>(
    cuda: &Cuda<D>,
    map: MapShape,
    OutputGradient { d, output, stats, sums }: OutputGradient<f32>,
    weights: Const<f32>,
    [first, second]: [InputPlace<f32>; 2],
    shape: ConvShape,
    [begin, end]: [i32; 2],
) {
    let (by, launch) = correlation(map, (end - begin) as usize);
    let kernel = match by {
        By::Two => kernel::conv3x3_inputs_by2,
        By::Six => kernel::conv3x3_inputs_by6,
        By::Eight => kernel::conv3x3_inputs_by8,
    };
    kernel(
        cuda,
        launch,
        d,
        output,
        stats,
        sums,
        weights,
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
