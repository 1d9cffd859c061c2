//! The gradient of 3×3 filters on tensor cores.

use crate::backend::MapShape;
use crate::cuda::conv::ConvShape;
use crate::cuda::conv_mma::{MULTIPROCESSORS, THREADS};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::tilings::{Kind, Problem, Tiled, Tilings};
use crate::cuda::{Cuda, blocks_with, int};
use crate::precision::Precision;

// What kernels/conv_mma_weights.cuh is cut into.
const TILE: usize = 16;

/// Words of a channel in shared memory: of the window, and of the gradient.
const fn planes(precision: Precision) -> [usize; 2] {
    match precision {
        Precision::Bf16 => [359, 164],
        Precision::Fp32 | Precision::Tf32 => [335, 292],
    }
}
/// Blocks that a multiprocessor is to have at a time, unless it was measured that others are quicker.
const AT_ONCE: usize = 2;
const WARPS: usize = 4;
/// Channels that a warp stages at a time, where a group has more than 16; otherwise all that it has.
const CHANNELS_AT_ONCE: usize = 3;
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
    conv3x3_weights_tf32_18 or conv3x3_weights_bf16_18,
    conv3x3_weights_tf32_16 or conv3x3_weights_bf16_16,
    conv3x3_weights_tf32_8 or conv3x3_weights_bf16_8
}

/// Groups of channels in, and eights of channels out, of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Of18,
    Of16,
    Of8,
}

impl Group {
    const ALL: [Self; 3] = [Self::Of18, Self::Of16, Self::Of8];

    fn channels(self) -> [usize; 2] {
        match self {
            Self::Of18 => [18, 24],
            Self::Of16 => [16, 16],
            Self::Of8 => [8, 8],
        }
    }

    /// Products of a step, for all channels.
    fn products(self) -> usize {
        match self {
            Self::Of18 => 11 * 3,
            Self::Of16 => 9 * 2,
            Self::Of8 => 5,
        }
    }

    /// Clocks in which a block's instructions add up its warps and leave the sums: as many as a warp has of them, counted by
    /// scripts/count_kernels.py.
    fn ending(self) -> f64 {
        match self {
            Self::Of18 => 730.0,
            Self::Of16 => 390.0,
            Self::Of8 => 200.0,
        }
    }

    /// Blocks that a multiprocessor has registers for; in bf16, by 16, no more than 2.
    fn at_once_at_most(self) -> usize {
        match self {
            Self::Of18 => 2,
            Self::Of16 => 3,
            Self::Of8 => 4,
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
    let by = group.channels()[0];
    if at_once == AT_ONCE { format!("by {by}") } else { format!("by {by}, {at_once} at once") }
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
        let cost = |cut: &Self| if cut.at_once == AT_ONCE { cut.cost() } else { f64::INFINITY };
        tilings.pick(precision, problem, Self::all(precision, map, ins), cost)
    }

    /// By each kernel, for each number of blocks that its registers allow.
    pub fn all(precision: Precision, map: MapShape, ins: usize) -> impl Iterator<Item = Self> + Clone {
        all().map(move |(group, at_once)| Self::new(precision, map, ins, group, at_once))
    }

    fn new(precision: Precision, map: MapShape, ins: usize, group: Group, at_once: usize) -> Self {
        let outs = map.channels;
        let [of_in, of_out] = group.channels();
        let [in_plane, out_plane] = planes(precision);
        let groups = group.blocks(ins, outs);
        let tiles = map.n * map.height.div_ceil(TILE) * map.width.div_ceil(TILE);
        let room = (MOST_PARTIAL / (outs * ins * 9)).max(1);
        let wanted = (at_once * MULTIPROCESSORS / (groups[0] * groups[1])).max(1);
        let parts = wanted.min(room).min(tiles);
        // As many tiles for each as for the one with most.
        let parts = tiles.div_ceil(tiles.div_ceil(parts));
        let shared = (of_in * in_plane + of_out * out_plane) * size_of::<u32>();
        Self { group, at_once, groups, tiles, parts, shared, channels: [ins, outs] }
    }

    /// A product costs as much as staging eight words does: pixels are staged once for each pair of groups.
    fn cost(&self) -> f64 {
        let [of_in, of_out] = self.group.channels();
        let [ins, outs] = self.channels;
        let staged = ins.min(of_in) * 3 / 2 + outs.min(of_out) * 2;
        (self.groups[0] * self.groups[1] * (4 * self.group.products() + 3 * staged)) as f64
    }

    pub fn blocks(&self) -> usize {
        self.parts * self.groups[0] * self.groups[1]
    }

    /// Products of one tile of one pair of groups.
    fn of_tile(&self, precision: Precision) -> usize {
        self.group.products() * if precision == Precision::Bf16 { 16 } else { 32 }
    }

    #[cfg(test)]
    pub fn products(&self, precision: Precision) -> f64 {
        (self.tiles * self.groups[0] * self.groups[1] * self.of_tile(precision)) as f64
    }

    /// How often a warp waits for memory while it stages a tile: once for all the channels that it takes at a time.
    fn waits(&self) -> usize {
        let of_warp = |of_group: usize| {
            let channels = of_group.div_ceil(WARPS);
            if of_group > 16 { channels.div_ceil(CHANNELS_AT_ONCE) } else { 1 }
        };
        self.group.channels().into_iter().map(of_warp).sum()
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
    #[cfg(test)]
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
        Group::Of18 => kernel::conv3x3_weights_tf32_18::<T, D>,
        Group::Of16 => kernel::conv3x3_weights_tf32_16::<T, D>,
        Group::Of8 => kernel::conv3x3_weights_tf32_8::<T, D>,
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
