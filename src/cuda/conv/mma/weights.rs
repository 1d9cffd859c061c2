//! The gradient of 3×3 filters on tensor cores.

use crate::backend::MapShape;
use crate::cuda::conv::arguments::ConvShape;
use crate::cuda::conv::mma::{BANDWIDTH, CLOCK, MULTIPROCESSORS, THREADS};
use crate::cuda::conv::problem::{Kind, Problem};
use crate::cuda::conv::tilings::{Tiled, Tilings};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Cuda, blocks_with, int};
use crate::precision::Precision;

// What kernels/conv_mma_weights.cuh is cut into.
const TILE: usize = 16;
const WARPS: usize = 4;

/// Words of a channel in shared memory: of the window, and of the gradient.
const fn planes(precision: Precision) -> [usize; 2] {
    match precision {
        Precision::Bf16 => [359, 164],
        Precision::Fp32 | Precision::Tf32 => [335, 292],
    }
}

/// Blocks that a multiprocessor is to have at a time, unless it was measured that others are quicker.
const AT_ONCE: usize = 2;
/// Clocks from a load to its value, where it comes from memory: what is thought of an H100.
const WAIT: f64 = 700.0;
/// Reals that the parts of a gradient may take: 64 MiB.
pub const MOST_PARTIAL: usize = 16 << 20;

macro_rules! weight_kernels {
    ($($name:ident or $of_bf16:ident),*) => {
        crate::kernels! {
            $(fn $name or $of_bf16<T>(
                first: Const<T>, first_stats: Const<f32>, second: Const<T>, second_stats: Const<f32>,
                d_output: Const<T>, output: Const<T>, stats: Const<f32>, sums: Const<f32>,
                partial: Mut<f32>, shape: ConvShape, tiles: i32,
            );)*
        }
    };
}
weight_kernels! {
    conv3x3_weights_tf32_36x24 or conv3x3_weights_bf16_36x24,
    conv3x3_weights_tf32_18x24 or conv3x3_weights_bf16_18x24,
    conv3x3_weights_tf32_16x32 or conv3x3_weights_bf16_16x32,
    conv3x3_weights_tf32_16x16 or conv3x3_weights_bf16_16x16,
    conv3x3_weights_tf32_8x8 or conv3x3_weights_bf16_8x8
}

/// The channels in and out of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Of36x24,
    Of18x24,
    Of16x32,
    Of16x16,
    Of8x8,
}

impl Group {
    const ALL: [Self; 5] = [Self::Of36x24, Self::Of18x24, Self::Of16x32, Self::Of16x16, Self::Of8x8];

    /// Those of a warp.
    fn of_warp(self) -> [usize; 2] {
        match self {
            Self::Of36x24 | Self::Of18x24 => [18, 24],
            Self::Of16x32 | Self::Of16x16 => [16, 16],
            Self::Of8x8 => [8, 8],
        }
    }

    /// How many times as many a block has.
    fn shares(self) -> [usize; 2] {
        match self {
            Self::Of36x24 => [2, 1],
            Self::Of16x32 => [1, 2],
            Self::Of18x24 | Self::Of16x16 | Self::Of8x8 => [1, 1],
        }
    }

    fn channels(self) -> [usize; 2] {
        let ([ins, outs], [shares_in, shares_out]) = (self.of_warp(), self.shares());
        [ins * shares_in, outs * shares_out]
    }

    /// Products of a step of a warp, for all its channels.
    fn products(self) -> usize {
        match self.of_warp()[0] {
            18 => 11 * 3,
            16 => 9 * 2,
            _ => 5,
        }
    }

    /// Channels that a warp stages at a time, of those that it has of so many.
    fn staged_at_once(self, channels: usize) -> usize {
        let at_once = if self.of_warp()[0] > 16 { 3 } else { 4 };
        at_once.min(channels.div_ceil(WARPS))
    }

    /// Clocks in which a block's instructions add up its warps and leave the sums: as many as a warp has of them, in TF32 by
    /// `scripts/count_kernels.py --lines`; of 16 x 16 and 8 x 8 what their sums make of that, as it lists only what takes most.
    fn ending(self) -> f64 {
        match self {
            Self::Of36x24 => 455.0,
            Self::Of18x24 => 450.0,
            Self::Of16x32 => 260.0,
            Self::Of16x16 => 230.0,
            Self::Of8x8 => 80.0,
        }
    }

    /// Blocks that a multiprocessor has registers for; in bf16, of 16, no more than 2.
    fn at_once_at_most(self) -> usize {
        match self {
            Self::Of36x24 | Self::Of18x24 => 2,
            Self::Of16x32 | Self::Of16x16 => 3,
            Self::Of8x8 => 4,
        }
    }

    fn blocks(self, ins: usize, outs: usize) -> [usize; 2] {
        let [of_in, of_out] = self.channels();
        [ins.div_ceil(of_in), outs.div_ceil(of_out)]
    }
}

/// How the sum is cut into blocks.
#[derive(Clone)]
pub struct Cut {
    group: Group,
    /// Blocks that each multiprocessor is to have at a time.
    at_once: usize,
    groups: [usize; 2],
    tiles: usize,
    pub parts: usize,
    shared: usize,
    /// In and out.
    channels: [usize; 2],
}

impl Tiled for Cut {
    fn name(&self) -> String {
        name(self.group, self.at_once)
    }

    fn launches_as(&self, other: &Self) -> bool {
        (self.group, self.parts) == (other.group, other.parts)
    }
}

fn name(group: Group, at_once: usize) -> String {
    let [ins, outs] = group.channels();
    let name = format!("{ins} x {outs}");
    if at_once == AT_ONCE { name } else { format!("{name}, {at_once} at once") }
}

/// The names of [`Cut`]s.
pub fn tilings() -> Vec<String> {
    all().map(|(group, at_once)| name(group, at_once)).collect()
}

fn all() -> impl Iterator<Item = (Group, usize)> + Clone {
    Group::ALL
        .into_iter()
        .flat_map(|group| (1..=group.at_once_at_most()).map(move |at_once| (group, at_once)))
}

impl Cut {
    pub fn of(tilings: &Tilings, precision: Precision, map: MapShape, ins: usize) -> Self {
        let problem = Problem::new(Kind::Filters, map, ins, map.channels);
        let cost = |cut: &Self| match cut.at_once {
            AT_ONCE => cut.cost(precision, problem),
            _ => f64::INFINITY,
        };
        tilings.pick(precision, problem, Self::all(precision, map, ins), cost)
    }

    /// By each kernel, for each number of blocks that its registers allow.
    pub fn all(precision: Precision, map: MapShape, ins: usize) -> impl Iterator<Item = Self> + Clone {
        all().map(move |(group, at_once)| Self::new(precision, map, ins, group, at_once))
    }

    fn new(precision: Precision, map: MapShape, ins: usize, group: Group, at_once: usize) -> Self {
        let outs = map.channels;
        let groups = group.blocks(ins, outs);
        let tiles = map.n * map.height.div_ceil(TILE) * map.width.div_ceil(TILE);
        let room = (MOST_PARTIAL / (outs * ins * 9)).max(1);
        let wanted = (at_once * MULTIPROCESSORS / (groups[0] * groups[1])).max(1);
        let parts = wanted.min(room).min(tiles);
        // As many tiles for each as for the one with most.
        let parts = tiles.div_ceil(tiles.div_ceil(parts));
        let ([of_in, of_out], [window, gradient]) = (group.channels(), planes(precision));
        let shared = (of_in * window + of_out * gradient) * size_of::<u32>();
        Self { group, at_once, groups, tiles, parts, shared, channels: [ins, outs] }
    }

    /// Bytes of the parts of the gradient.
    pub fn partial_bytes(&self) -> usize {
        self.parts * self.channels[0] * self.channels[1] * 9 * size_of::<f32>()
    }

    /// Seconds, to choose by: half of what it takes alone and half of what it takes where others fill its waits, as the
    /// gradient of inputs may; and reading the parts again. A tenth of its work counts even where it waits for memory: what
    /// runs beside it has less of the multiprocessor.
    fn cost(&self, precision: Precision, problem: Problem) -> f64 {
        let parts = self.partial_bytes();
        let bytes = (precision.map_bytes() * problem.values() + parts) as f64 / BANDWIDTH;
        let launch = [self.clocks(precision), self.busy(precision)].map(|clocks| (clocks / CLOCK).max(bytes));
        let work = self.busy(precision) / CLOCK;
        (launch[0] + launch[1]) / 2.0 + parts as f64 / BANDWIDTH + work / 10.0
    }

    pub fn blocks(&self) -> usize {
        self.parts * self.groups[0] * self.groups[1]
    }

    /// Products of one tile of one pair of groups.
    fn of_tile(&self, precision: Precision) -> usize {
        let [shares_in, shares_out] = self.group.shares();
        let steps = if precision == Precision::Bf16 { 16 } else { 32 };
        self.group.products() * steps * shares_in * shares_out
    }

    #[cfg(test)]
    pub fn products(&self, precision: Precision) -> f64 {
        (self.tiles * self.groups[0] * self.groups[1] * self.of_tile(precision)) as f64
    }

    /// How often a warp waits for memory while it stages a tile: once for all the channels that it takes at a time.
    fn waits(&self) -> usize {
        let of_group =
            |channels: usize| channels.div_ceil(WARPS).div_ceil(self.group.staged_at_once(channels));
        self.group.channels().into_iter().map(of_group).sum()
    }

    /// Clocks of a tile without its waits. Instructions are those in the machine code for 9.0: of a warp, 230 to find a
    /// tile's cells, 100 and 2 a product to multiply, and what stages a channel of either map.
    fn work(&self, precision: Precision) -> f64 {
        let [ins, outs] = [0, 1].map(|i| self.channels[i] as f64 / self.groups[i] as f64);
        let products = self.of_tile(precision) as f64;
        let [of_window, of_gradient] =
            if precision == Precision::Bf16 { [136.0, 105.0] } else { [160.0, 133.0] };
        let instructions = WARPS as f64 * 330.0 + 2.0 * products + ins * of_window + outs * of_gradient;
        (products / 0.64).max(instructions / 4.0)
    }

    /// Of a multiprocessor, where other launches fill all waits.
    pub fn busy(&self, precision: Precision) -> f64 {
        let of_tiles = self.work(precision) * (self.tiles * self.groups[0] * self.groups[1]) as f64;
        (of_tiles + self.group.ending() * self.blocks() as f64) / MULTIPROCESSORS as f64
    }

    /// Of the multiprocessor with most blocks: the slower of tensor cores (0.64 products a clock) and instructions
    /// (four a clock), and joining warps; but a tile takes no less than that and its waits, which only the other block
    /// fills.
    pub fn clocks(&self, precision: Precision) -> f64 {
        let work = self.work(precision);
        let blocks = self.blocks().div_ceil(MULTIPROCESSORS) as f64;
        let at_once = blocks.min(self.at_once as f64);
        let overlapped = (at_once + 0.7) / at_once;
        // 400 for the barriers, as the warps are added up.
        let ending = (self.group.ending() + 400.0) * overlapped;
        // Of `at_once` blocks, a tile each.
        let tiles = (at_once * work * overlapped).max(work + self.waits() as f64 * WAIT);
        blocks * (self.tiles.div_ceil(self.parts) as f64 * tiles / at_once + ending)
    }
}

/// Leaves the parts of the gradient, `[cut.parts, out, in, 3, 3]`.
pub fn weight_gradient<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &Cut,
    inputs: [(Const<T>, Const<f32>); 2],
    gradient: OutputGradient<T>,
    partial: Mut<f32>,
    shape: ConvShape,
) {
    let kernel = match cut.group {
        Group::Of36x24 => kernel::conv3x3_weights_tf32_36x24::<T, D>,
        Group::Of18x24 => kernel::conv3x3_weights_tf32_18x24::<T, D>,
        Group::Of16x32 => kernel::conv3x3_weights_tf32_16x32::<T, D>,
        Group::Of16x16 => kernel::conv3x3_weights_tf32_16x16::<T, D>,
        Group::Of8x8 => kernel::conv3x3_weights_tf32_8x8::<T, D>,
    };
    let [(first, first_stats), (second, second_stats)] = inputs;
    let OutputGradient { d, output, stats, sums } = gradient;
    let launch = blocks_with(cut.parts, cut.groups[0], cut.groups[1], THREADS, cut.shared);
    kernel(
        cuda,
        launch,
        first,
        first_stats,
        second,
        second_stats,
        d,
        output,
        stats,
        sums,
        partial,
        shape,
        int(cut.tiles),
    );
}
