//! 3×3 convolution and the gradient of its inputs on tensor cores: which kernel makes a map, and in how many blocks.

use std::ops::Range;

use crate::backend::MapShape;
use crate::cuda::conv::ConvShape;
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::partial::first_blocks;
use crate::cuda::{Cuda, blocks, blocks_with, int};
use crate::precision::Precision;

// What kernels/conv_mma.cuh is cut into.
const SIDE: usize = 8;
const STEP: usize = 8;
const WARPS: usize = 4;
pub const THREADS: u32 = 128;
const FILTER_WORDS: usize = 9 * 64;
const FILTERS_THREADS: u32 = 256;
/// Bytes of a channel's constants and place.
const CONSTANTS: usize = 24;

/// The multiprocessors of an H100. Blocks are cut for so many; smaller GPUs have more than enough of them.
pub const MULTIPROCESSORS: usize = 132;
/// Bytes of shared memory that blocks of one multiprocessor share, less what each takes without asking.
const SHARED: usize = 220 << 10;

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

macro_rules! kernels_by_tiling {
    ($($tiling:ident, $by:literal: $forward:ident or $forward_bf16:ident, $inputs:ident or $inputs_bf16:ident;)*) => {
        crate::kernels! {
            fn conv3x3_filters_tf32(layers: FilterLayers);
            fn conv3x3_filters_bf16(layers: FilterLayers);
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

/// How the warps of a block share its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tiling {
    Wide,
    Deep,
}

impl Tiling {
    /// Squares of pixels across and down, and steps of a slice.
    fn warps(self) -> [usize; 3] {
        match self {
            Self::Wide => [4, 1, 1],
            Self::Deep => [1, 2, 2],
        }
    }

    fn tiles(self, map: MapShape) -> usize {
        let [across, down, _] = self.warps();
        map.height.div_ceil(SIDE * down) * map.width.div_ceil(SIDE * across)
    }

    /// Pixels of a tile with what filters read around it: by words of a map, of `pack` pixels each, on either side.
    fn positions(self, pack: usize) -> usize {
        let [across, down, _] = self.warps();
        (SIDE * across + 2 * pack) * (SIDE * down + 2)
    }
}

/// Two numbers in a register where the format has 16 bits.
pub fn pack(precision: Precision) -> usize {
    if precision == Precision::Bf16 { 2 } else { 1 }
}

/// What is made: a convolution's output, or the gradient of its inputs.
#[derive(Clone, Copy)]
pub enum Makes {
    Output,
    InputGradients,
}

/// Instructions of a warp, as the machine code for 9.0 has them where tiles lie inside of the image.
struct Instructions {
    /// For four words of channels: so many, and more for each eight channels out, with the products.
    multiplying: [f64; 2],
    /// For a word of 32 pixels.
    staging: f64,
    /// Whatever is summed over: so many to find pixels, and more for each eight channels out to finish and store them.
    fixed: [f64; 2],
}

impl Instructions {
    fn of(precision: Precision, makes: Makes) -> Self {
        let bf16 = precision == Precision::Bf16;
        Self {
            multiplying: [69.0, 30.0],
            staging: match makes {
                _ if !bf16 => 14.5,
                Makes::Output => 18.5,
                Makes::InputGradients => 24.0,
            },
            fixed: match makes {
                Makes::Output => [300.0, 130.0],
                Makes::InputGradients => [320.0, 235.0],
            },
        }
    }
}

/// Clocks that a block waits, and nobody else works.
const WAIT: f64 = 400.0;

/// How a map is cut into blocks.
#[derive(Clone, Debug)]
pub struct Cut {
    tiling: Tiling,
    /// Eights of channels that a block makes.
    by: usize,
    /// Tiles of an image, and groups of channels.
    pub tiles: usize,
    groups: usize,
    /// Steps of eight words of channels in.
    steps: usize,
    shared: usize,
}

impl Cut {
    /// What makes `outs` channels of maps like `map` from `ins` channels in the least time, by [`Self::clocks`].
    pub fn of(precision: Precision, makes: Makes, map: MapShape, ins: usize, outs: usize) -> Self {
        let pack = pack(precision);
        let words = ins.div_ceil(pack);
        let cut = |&(tiling, by): &(Tiling, usize)| {
            let [.., deep] = tiling.warps();
            let slice = STEP * deep;
            let plane = (tiling.positions(pack) - 8).next_multiple_of(16) + 8;
            let buffer = slice * plane + deep * by * FILTER_WORDS;
            let constants = words.next_multiple_of(slice) * pack * CONSTANTS;
            Self {
                tiling,
                by,
                tiles: tiling.tiles(map),
                groups: outs.div_ceil(8 * by),
                steps: words.div_ceil(STEP),
                shared: 2 * buffer * size_of::<u32>() + constants,
            }
        };
        let instructions = Instructions::of(precision, makes);
        let clocks = |cut: &Self| cut.clocks(map.n, words, &instructions);
        CUTS.iter().map(cut).min_by(|a, b| clocks(a).total_cmp(&clocks(b))).expect("there are kernels")
    }

    /// What a multiprocessor is thought to take, in clocks: a model, to choose by. A block takes what the busiest of
    /// its parts takes: tensor cores (0.64 products a clock, of 1 that wgmma would reach), instructions (four a clock),
    /// or filters from the level-2 cache (24 bytes a clock). Few blocks at a time do not fill it.
    fn clocks(&self, n: usize, words: usize, instructions: &Instructions) -> f64 {
        let block = self.block(words, instructions) + WAIT;
        let blocks = (self.tiles * self.groups * n).div_ceil(MULTIPROCESSORS) as f64;
        let at_once = blocks.min((SHARED / self.shared) as f64).min(4.0);
        blocks * block * (at_once + 0.7) / at_once
    }

    /// Of a block, with all of a multiprocessor's other blocks at work.
    fn block(&self, words: usize, instructions: &Instructions) -> f64 {
        let [.., deep] = self.tiling.warps();
        let fours = words.div_ceil(4) as f64;
        let products = (WARPS / deep * 4 * 9 * self.by) as f64 * fours / 2.0;
        let of_warp = |[each, by_eight]: [f64; 2]| each + by_eight * self.by as f64;
        let multiplied = (WARPS / deep) as f64 * of_warp(instructions.multiplying) * fours;
        let staged = (self.tiling.positions(1) * 4) as f64 * fours / 32.0 * instructions.staging;
        let fixed = WARPS as f64 * of_warp(instructions.fixed);
        (products / 0.64)
            .max((multiplied + staged + fixed) / 4.0)
            .max((self.steps * self.by * FILTER_WORDS * size_of::<u32>()) as f64 / 24.0)
    }

    fn launch(&self, n: usize) -> Launch {
        blocks_with(self.tiles, self.groups, n, THREADS, self.shared)
    }

    /// Reals of working memory that filters take.
    pub fn filters(&self) -> usize {
        self.groups * self.steps * self.by * FILTER_WORDS
    }
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
    /// [`Cut::filters`].
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
        let blocks_of = |layer: &Layer| layer.words.div_ceil(FILTERS_THREADS as usize);
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

/// An input, its statistics where the gradient is to be finished, and where that and its sums go.
#[derive(Clone, Copy)]
pub struct InputPlace<T> {
    pub values: Const<T>,
    pub stats: Const<f32>,
    pub d: Mut<T>,
    pub partial: Mut<f32>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::conv_mma_weights;

    /// An H100: multiprocessors' clock while all work, and bytes a second.
    const CLOCK: f64 = 1.7e9;
    const BANDWIDTH: f64 = 3e12;

    /// What one launch is predicted to take.
    struct Prediction {
        kernel: String,
        blocks: usize,
        products: f64,
        /// Products' share that stands for channels and pixels that there are.
        useful: f64,
        bytes: f64,
        microseconds: f64,
        /// Where other launches fill whatever it leaves idle.
        busy: f64,
    }

    impl Prediction {
        /// `bytes` read and written at least once; `clocks` of a multiprocessor: alone, and with everything at work.
        fn new(
            kernel: String,
            blocks: usize,
            products: f64,
            macs: f64,
            bytes: usize,
            clocks: [f64; 2],
            k: usize,
        ) -> Self {
            let bytes = bytes as f64;
            let [microseconds, busy] = clocks.map(|clocks| 1e6 * (clocks / CLOCK).max(bytes / BANDWIDTH));
            let useful = macs / (products * (128 * k) as f64);
            Self { kernel, blocks, products, useful, bytes, microseconds, busy }
        }

        fn row(&self, layer: &str, pass: &str) -> String {
            let Self { kernel, blocks, products, useful, bytes, microseconds, busy } = self;
            let [products, megabytes, useful] = [products / 1e6, bytes / 1e6, useful * 100.0];
            format!(
                "| {layer} | {pass} | {kernel} | {blocks} | {products:.2} | {useful:.0} % | {megabytes:.1} | \
                 {busy:.1} | {microseconds:.1} |"
            )
        }
    }

    /// `read`, `written`: how many values of maps for each of what is summed over, and of what is made.
    #[allow(clippy::too_many_arguments)]
    fn correlation(
        precision: Precision,
        makes: Makes,
        map: MapShape,
        ins: usize,
        outs: usize,
        read: usize,
        written: usize,
    ) -> Prediction {
        let cut = Cut::of(precision, makes, map, ins, outs);
        let instructions = Instructions::of(precision, makes);
        let k = 8 * pack(precision);
        let words = ins.div_ceil(pack(precision));
        let warps = map.n * cut.tiles * cut.groups * WARPS / cut.tiling.warps()[2];
        let products = (warps * 4 * 9 * cut.by) as f64 * words.div_ceil(4) as f64 / 2.0;
        let pixels = map.n * map.pixels();
        let macs = (pixels * ins * outs * 9) as f64;
        let maps = precision.map_bytes() * pixels * (read * ins + written * outs);
        let bytes = maps + size_of::<u32>() * cut.filters();
        let name = format!("{:?} by {}", cut.tiling, cut.by).to_lowercase();
        Prediction::new(
            name,
            cut.tiles * cut.groups * map.n,
            products,
            macs,
            bytes,
            [
                cut.clocks(map.n, words, &instructions),
                cut.block(words, &instructions) * (cut.tiles * cut.groups * map.n) as f64
                    / MULTIPROCESSORS as f64,
            ],
            k,
        )
    }

    fn sum(precision: Precision, map: MapShape, ins: usize) -> Prediction {
        let cut = conv_mma_weights::Cut::of(precision, map, ins);
        let pixels = map.n * map.pixels();
        let macs = (pixels * ins * map.channels * 9) as f64;
        let maps = precision.map_bytes() * pixels * (ins + 2 * map.channels);
        let bytes = maps + size_of::<f32>() * cut.parts * ins * map.channels * 9;
        let products = cut.products(precision);
        Prediction::new(
            cut.name(),
            cut.blocks(),
            products,
            macs,
            bytes,
            [cut.clocks(precision), cut.busy(precision)],
            8 * pack(precision),
        )
    }

    /// The layers of a U-Net that sees `n` images at a time: size, channels in and out, and how many there are of each.
    fn layers(n: usize, chans: usize) -> Vec<(String, MapShape, usize, usize)> {
        let mut layers = Vec::new();
        for level in 0..=4 {
            let c = chans << level;
            let shape = MapShape { n, channels: c, height: 640 >> level, width: 368 >> level };
            let below = if level == 0 { 2 } else { c / 2 };
            let bottom = level == 4;
            for (ins, times) in [(below, 1), (c, 2 - usize::from(bottom)), (2 * c, usize::from(!bottom))] {
                let name = format!("{n} × {ins} → {c}, {} × {}", shape.height, shape.width);
                layers.push((name, shape, ins, times));
            }
        }
        layers.retain(|layer| layer.3 > 0);
        layers
    }

    /// Prints what stands in docs/tensor-cores.md:
    /// `cargo test --release --lib prediction -- --nocapture`.
    #[test]
    fn prediction() {
        for precision in [Precision::Tf32, Precision::Bf16] {
            println!("\n### {precision}\n");
            println!(
                "| layer | pass | kernel | blocks | 10⁶ mma | useful | MB | busy, µs | µs |\n\
                 |---|---|---|--:|--:|--:|--:|--:|--:|"
            );
            let mut totals = [0.0f64; 2];
            for (network, (n, chans, times_all)) in [(1, 18, 12), (4, 8, 4)].into_iter().enumerate() {
                for (layer, map, ins, times) in layers(n, chans) {
                    let (outs, inputs) = (map.channels, map.with_channels(ins));
                    let passes = [
                        ("forward", correlation(precision, Makes::Output, map, ins, outs, 1, 1)),
                        ("inputs", correlation(precision, Makes::InputGradients, inputs, outs, ins, 2, 2)),
                        ("filters", sum(precision, map, ins)),
                    ];
                    for (pass, predicted) in passes {
                        println!("{}", predicted.row(&layer, pass));
                        assert!(predicted.useful > 0.1 && predicted.useful <= 1.0, "{layer} {pass}");
                        totals[network] += predicted.microseconds * (times * times_all) as f64;
                    }
                }
            }
            println!("\n12 cascades: {:.1} ms; 16 coils: {:.1} ms.", totals[0] / 1e3, totals[1] / 1e3);
        }
    }
}
