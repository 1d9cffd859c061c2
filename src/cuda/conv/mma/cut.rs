//! How a map is cut into blocks for tensor cores, and what they are thought to take.

use crate::backend::MapShape;
use crate::cuda::blocks_with;
use crate::cuda::conv::mma::CUTS;
use crate::cuda::conv::problem::{Kind, Makes, Problem};
use crate::cuda::conv::tilings::{Tiled, Tilings};
use crate::cuda::driver::Launch;
use crate::precision::Precision;

// What kernels/conv_mma.cuh is cut into.
const SIDE: usize = 8;
const STEP: usize = 8;
pub(super) const WARPS: usize = 4;
pub const THREADS: u32 = 128;
const FILTER_WORDS: usize = 9 * 64;
/// Bytes of a channel's constants and place.
const CONSTANTS: usize = 24;

/// The multiprocessors of an H100. Blocks are cut for so many; smaller GPUs have more than enough of them.
pub const MULTIPROCESSORS: usize = 132;
/// Their clock while all work, and bytes of memory a second: what predictions are made with.
pub const CLOCK: f64 = 1.7e9;
pub const BANDWIDTH: f64 = 3e12;
/// Bytes of shared memory that blocks of one multiprocessor share, and what each takes of it at most beside what it is
/// launched with: tables of pixels, where results go, and what the driver keeps.
const SHARED: usize = 227 << 10;
const BESIDE: usize = 7 << 10;

/// How the warps of a block share its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    Wide,
    Deep,
}

impl Tiling {
    /// Squares of pixels across and down, and steps of a slice.
    pub(super) fn warps(self) -> [usize; 3] {
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

/// Instructions of a warp, as the machine code for 9.0 has them where tiles lie inside of the image.
pub struct Instructions {
    /// For four words of channels: so many, and more for each eight channels out, with the products.
    multiplying: [f64; 2],
    /// For a word of 32 pixels.
    staging: f64,
    /// Whatever is summed over: so many to find pixels, and more for each eight channels out to finish and store them.
    fixed: [f64; 2],
}

impl Instructions {
    pub fn of(precision: Precision, makes: Makes) -> Self {
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
    pub(super) tiling: Tiling,
    /// Eights of channels that a block makes.
    pub(super) by: usize,
    /// Tiles of an image, and groups of channels.
    pub tiles: usize,
    pub(super) groups: usize,
    /// Steps of eight words of channels in.
    steps: usize,
    shared: usize,
    /// What a multiprocessor is thought to take.
    pub clocks: f64,
}

impl Tiled for Cut {
    fn name(&self) -> String {
        name(self.tiling, self.by)
    }
}

pub(super) fn name(tiling: Tiling, by: usize) -> String {
    format!("{tiling:?} by {by}").to_lowercase()
}

impl Cut {
    /// What makes `outs` channels of maps like `map` from `ins` channels.
    pub fn of(
        tilings: &Tilings,
        precision: Precision,
        makes: Makes,
        map: MapShape,
        ins: usize,
        outs: usize,
    ) -> Self {
        let problem = Problem::new(Kind::Conv3x3(makes), map, ins, outs);
        tilings.pick(precision, problem, Self::all(precision, makes, map, ins, outs), |cut| cut.clocks)
    }

    /// All that there are kernels for.
    pub fn all(
        precision: Precision,
        makes: Makes,
        map: MapShape,
        ins: usize,
        outs: usize,
    ) -> impl Iterator<Item = Self> + Clone {
        let pack = pack(precision);
        let words = ins.div_ceil(pack);
        CUTS.iter().map(move |&(tiling, by)| {
            let [.., deep] = tiling.warps();
            let slice = STEP * deep;
            let plane = (tiling.positions(pack) - 8).next_multiple_of(16) + 8;
            let buffer = slice * plane + deep * by * FILTER_WORDS;
            let constants = words.next_multiple_of(slice) * pack * CONSTANTS;
            let cut = Self {
                tiling,
                by,
                tiles: tiling.tiles(map),
                groups: outs.div_ceil(8 * by),
                steps: words.div_ceil(STEP),
                shared: 2 * buffer * size_of::<u32>() + constants,
                clocks: 0.0,
            };
            Self { clocks: cut.clocks(map.n, words, &Instructions::of(precision, makes)), ..cut }
        })
    }

    /// What a multiprocessor is thought to take, in clocks: a model, to choose by. A block takes what the busiest of
    /// its parts takes: tensor cores (0.64 products a clock, of 1 that wgmma would reach), instructions (four a clock),
    /// or filters from the level-2 cache (24 bytes a clock). Few blocks at a time do not fill it.
    fn clocks(&self, n: usize, words: usize, instructions: &Instructions) -> f64 {
        let block = self.block(words, instructions) + WAIT;
        let blocks = (self.tiles * self.groups * n).div_ceil(MULTIPROCESSORS) as f64;
        let at_once = blocks.min((SHARED / (self.shared + BESIDE)) as f64).min(4.0);
        blocks * block * (at_once + 0.7) / at_once
    }

    /// Of a block, with all of a multiprocessor's other blocks at work.
    pub(super) fn block(&self, words: usize, instructions: &Instructions) -> f64 {
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

    pub(super) fn launch(&self, n: usize) -> Launch {
        blocks_with(self.tiles, self.groups, n, THREADS, self.shared)
    }

    /// Reals of working memory that filters take.
    pub fn filters(&self) -> usize {
        self.groups * self.steps * self.by * FILTER_WORDS
    }
}
