//! The 2×2 transposed convolution and its gradients on tensor cores: which kernel makes a map, and in how many blocks.

use crate::backend::{Convolution, MapShape, Pass};
use crate::cuda::conv::arguments::{Transpose, TransposeInput};
use crate::cuda::conv::mma::{MULTIPROCESSORS, pack};
use crate::cuda::conv::problem::{Kind, Makes, Problem};
use crate::cuda::conv::tilings::{Tiled, Tilings};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Cuda, blocks_with, int};
use crate::precision::Precision;

// What kernels/conv_transpose_mma*.cuh are cut into.
const THREADS: u32 = 128;
const WARPS: usize = 4;
const WARP_PIXELS: usize = 32;
/// Words that a product sums over.
const STEP: usize = 8;
/// Channels of a block of the weight's gradient, and blocks of those that a multiprocessor has at a time.
const SUM_INPUTS: usize = 48;
const SUM_OUTPUTS: usize = 20;
const SUMS_AT_ONCE: usize = 2;
/// Lanes of a product that have pixels of their own, and bytes of these.
const RUNS: usize = 4;
const RUN_BYTES: usize = 8;

macro_rules! kernels_by_cut {
    (
        forward { $($forward_cut:tt => $forward:ident or $forward_bf16:ident;)* }
        inputs { $($inputs_cut:tt => $inputs:ident or $inputs_bf16:ident;)* }
    ) => {
        crate::kernels! {
            $(fn $forward or $forward_bf16<T>(
                values: Const<T>, stats: Const<f32>, weight: Const<f32>, output: Mut<T>, partial: Mut<f32>,
                shape: Transpose,
            );)*
            $(fn $inputs or $inputs_bf16<T>(
                values: Const<T>, stats: Const<f32>, weight: Const<f32>, output: Const<T>,
                output_stats: Const<f32>, g: Const<T>, sums: Const<f32>, d_input: Mut<T>, partial: Mut<f32>,
                shape: Transpose,
            );)*
            fn conv_transpose_weight_tf32 or conv_transpose_weight_bf16<T>(
                values: Const<T>, stats: Const<f32>, output: Const<T>, output_stats: Const<f32>, g: Const<T>,
                sums: Const<f32>, partial: Mut<f32>, shape: Transpose, n: i32, steps: i32,
            );
        }

        type Forward<T, D> =
            fn(&Cuda<D>, Launch, Const<T>, Const<f32>, Const<f32>, Mut<T>, Mut<f32>, Transpose);
        type Inputs<T, D> = fn(
            &Cuda<D>, Launch, Const<T>, Const<f32>, Const<f32>, Const<T>, Const<f32>, Const<T>, Const<f32>, Mut<T>,
            Mut<f32>, Transpose,
        );

        fn forward_kernel<T: Stored, D: Driver>(cut: &Cut) -> Forward<T, D> {
            match [cut.tiles, cut.deep] {
                $($forward_cut => kernel::$forward::<T, D>,)*
                other => unreachable!("{other:?} is none of FORWARD_CUTS"),
            }
        }

        fn inputs_kernel<T: Stored, D: Driver>(cut: &Cut) -> Inputs<T, D> {
            match [cut.tiles, cut.deep] {
                $($inputs_cut => kernel::$inputs::<T, D>,)*
                other => unreachable!("{other:?} is none of INPUTS_CUTS"),
            }
        }
    };
}
// TF32 makes the products of maps that are stored as f32.
kernels_by_cut! {
    forward {
        [3, 1] => conv_transpose_tf32_wide_by3 or conv_transpose_bf16_wide_by3;
        [5, 1] => conv_transpose_tf32_wide_by5 or conv_transpose_bf16_wide_by5;
    }
    inputs {
        [3, 1] => conv_transpose_inputs_tf32_wide_by3 or conv_transpose_inputs_bf16_wide_by3;
        [5, 1] => conv_transpose_inputs_tf32_wide_by5 or conv_transpose_inputs_bf16_wide_by5;
        [4, 2] => conv_transpose_inputs_tf32_deep_by4 or conv_transpose_inputs_bf16_deep_by4;
    }
}
/// The kernels there are, in either format: sixteens of rows of a block, and warps that share pixels.
const FORWARD_CUTS: &[[usize; 2]] = &[[3, 1], [5, 1]];
const INPUTS_CUTS: &[[usize; 2]] = &[[3, 1], [5, 1], [4, 2]];

/// How a product whose columns are pixels is cut into blocks.
#[derive(Clone, Debug)]
pub struct Cut {
    tiles: usize,
    deep: usize,
    /// Of an image.
    pub parts: usize,
    groups: usize,
    /// What a multiprocessor is thought to take.
    pub clocks: f64,
}

impl Tiled for Cut {
    fn name(&self) -> String {
        name([self.tiles, self.deep])
    }
}

fn name([tiles, deep]: [usize; 2]) -> String {
    format!("{} by {tiles}", if deep == 1 { "wide" } else { "deep" })
}

fn cuts(makes: Makes) -> &'static [[usize; 2]] {
    match makes {
        Makes::Output => FORWARD_CUTS,
        Makes::InputGradients => INPUTS_CUTS,
    }
}

/// The names of [`Cut`]s.
pub fn tilings(makes: Makes) -> Vec<String> {
    cuts(makes).iter().map(|&cut| name(cut)).collect()
}

impl Cut {
    /// For the output, of so many channels, or for the gradient of the input.
    pub fn of(
        tilings: &Tilings,
        precision: Precision,
        makes: Makes,
        input: MapShape,
        outputs: usize,
    ) -> Self {
        let [from, to] = match makes {
            Makes::Output => [input.channels, outputs],
            Makes::InputGradients => [outputs, input.channels],
        };
        let problem = Problem::new(Kind::Transposed(makes), input, from, to);
        tilings.pick(precision, problem, Self::all(precision, makes, input, outputs), |cut| cut.clocks)
    }

    /// All that there are kernels for.
    pub fn all(
        precision: Precision,
        makes: Makes,
        input: MapShape,
        outputs: usize,
    ) -> impl Iterator<Item = Self> + Clone {
        let pack = pack(precision);
        // Sixteens of rows, words of each pixel that are summed over, and maps of these.
        let [rows, words, maps] = match makes {
            Makes::Output => [outputs.div_ceil(4), input.channels.div_ceil(pack), 1],
            Makes::InputGradients => [input.channels.div_ceil(16), (4 * outputs).div_ceil(pack), 2],
        };
        cuts(makes).iter().map(move |&[tiles, deep]| {
            let parts = input.pixels().div_ceil(WARPS / deep * WARP_PIXELS);
            let cut = Self { tiles, deep, parts, groups: rows.div_ceil(tiles), clocks: 0.0 };
            Self { clocks: cut.clocks(input.n, rows, words, maps), ..cut }
        })
    }

    /// What a multiprocessor is thought to take, in clocks, after the model of `mma`'s: a block takes what the
    /// busiest of its parts takes, tensor cores, instructions (four a clock; about 100 for a warp's pixels of a step,
    /// 30 for the weights of a tile of one) or the level-2 cache (24 bytes a clock), and waits once for each slice of
    /// weights.
    fn clocks(&self, n: usize, rows: usize, words: usize, maps: usize) -> f64 {
        let steps = words.div_ceil(STEP);
        let tiles = self.tiles.min(rows);
        let places = WARPS / self.deep;
        let products = (places * 4 * tiles * steps) as f64;
        let instructions = products * 1.3 + (100 * maps * places * steps + 30 * tiles * steps) as f64;
        let read = (steps * STEP * 4 * (16 * tiles + maps * places * WARP_PIXELS)) as f64;
        let slices = steps.div_ceil(9 * self.deep) as f64;
        let block = (products / 0.64).max(instructions / 4.0).max(read / 24.0) + 1000.0 * (1.0 + slices);
        let blocks = (self.parts * self.groups * n).div_ceil(MULTIPROCESSORS) as f64;
        let at_once = blocks.min(4.0);
        blocks * block * (at_once + 0.7) / at_once
    }

    fn launch(&self, n: usize) -> Launch {
        blocks_with(self.parts, self.groups, n, THREADS, 0)
    }
}

/// Writes the output, and the moments `[planes, cut.parts, 3]` of its parts.
pub fn forward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &Cut,
    n: usize,
    TransposeInput { values, stats, weight, shape }: TransposeInput<T>,
    output: Mut<T>,
    partial: Mut<f32>,
) {
    forward_kernel::<T, D>(cut)(cuda, cut.launch(n), values, stats, weight, output, partial, shape);
}

/// Writes the gradient of the input, and the sums `[planes, cut.parts, 2]` of its parts.
pub fn input_gradient<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &Cut,
    n: usize,
    TransposeInput { values, stats, weight, shape }: TransposeInput<T>,
    OutputGradient { d: g, output, stats: output_stats, sums }: OutputGradient<T>,
    d_input: Mut<T>,
    partial: Mut<f32>,
) {
    let launch = cut.launch(n);
    let kernel = inputs_kernel::<T, D>(cut);
    kernel(cuda, launch, values, stats, weight, output, output_stats, g, sums, d_input, partial, shape);
}

/// How the weight's gradient is cut into blocks.
pub struct SumCut {
    groups: [usize; 2],
    /// Of an image: each takes four runs of pixels.
    steps: usize,
    pub parts: usize,
}

impl SumCut {
    pub fn of(precision: Precision, input: MapShape, outputs: usize) -> Self {
        let groups = [input.channels.div_ceil(SUM_INPUTS), outputs.div_ceil(SUM_OUTPUTS)];
        let steps = input.pixels().div_ceil(RUNS * RUN_BYTES / precision.map_bytes());
        let wanted = (SUMS_AT_ONCE * MULTIPROCESSORS / (groups[0] * groups[1])).max(1);
        Self { groups, steps, parts: wanted.min((input.n * steps).div_ceil(WARPS)) }
    }
}

/// Reals of the parts of the weight's gradient that such a convolution leaves.
pub fn parts_len(precision: Precision, convolution: &Convolution) -> usize {
    let Convolution { weight, inputs, output, ref pass, .. } = *convolution;
    let input = MapShape { channels: inputs, height: output.height / 2, width: output.width / 2, ..output };
    match pass {
        Pass::Forward => 0,
        Pass::Backward(_) => SumCut::of(precision, input, output.channels).parts * weight.len,
    }
}

/// Leaves the parts of the gradient, `[cut.parts, inputs, outputs, 4]`.
pub fn weight_gradient<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &SumCut,
    n: usize,
    TransposeInput { values, stats, shape, .. }: TransposeInput<T>,
    OutputGradient { d: g, output, stats: output_stats, sums }: OutputGradient<T>,
    partial: Mut<f32>,
) {
    let launch = blocks_with(cut.parts, cut.groups[0], cut.groups[1], THREADS, 0);
    let [n, steps] = [n, cut.steps].map(int);
    kernel::conv_transpose_weight_tf32::<T, D>(
        cuda,
        launch,
        values,
        stats,
        output,
        output_stats,
        g,
        sums,
        partial,
        shape,
        n,
        steps,
    );
}
