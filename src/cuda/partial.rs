//! Sums that cross blocks, added up in a fixed order.

use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Cuda, blocks, int};

// As in kernels/partial.cu.
const THREADS: u32 = 256;
/// Parts that a thread adds up, about, before it waits for those that have others of the same element.
const PARTS_OF_A_THREAD: usize = 16;
/// Elements that a block takes at least, where there are as many: memory hands out 32 bytes.
const LEAST_HERE: usize = 8;

/// Sums of a launch; more take further launches.
const MOST_SUMS: usize = 32;

crate::parameter_struct! {
    /// See kernels/partial.cu.
    pub struct Sums {
        pub partial: [Const<f32>; MOST_SUMS], pub into: [Mut<f32>; MOST_SUMS], pub parts: [i32; MOST_SUMS],
        pub len: [i32; MOST_SUMS], pub log2_here: [i32; MOST_SUMS], pub first_block: [i32; MOST_SUMS], pub count: i32,
    }
}

crate::kernels! {
    fn add_parts(partial: Const<f32>, into: Mut<f32>, parts: i32, len: i32, log2_here: i32);
    fn add_all_parts(sums: Sums);
}

/// What is still to be added to `into` `[len]`: the sum over `partial` `[parts, len]`.
#[derive(Clone, Copy)]
pub struct Sum {
    pub partial: Const<f32>,
    pub into: Mut<f32>,
    pub parts: usize,
    pub len: usize,
}

impl Sum {
    /// Elements that a block takes.
    fn here(&self) -> usize {
        let sharing = self.parts.div_ceil(PARTS_OF_A_THREAD).next_power_of_two();
        (THREADS as usize / sharing).clamp(LEAST_HERE, THREADS as usize).min(self.len.next_power_of_two())
    }

    fn blocks(&self) -> usize {
        self.len.div_ceil(self.here())
    }

    fn log2_here(&self) -> i32 {
        int(self.here().ilog2() as usize)
    }
}

/// Adds to `into` `[len]` the sum over `partial` `[parts, len]`.
pub fn add<D: Driver>(cuda: &Cuda<D>, partial: Const<f32>, into: Mut<f32>, parts: usize, len: usize) {
    let sum = Sum { partial, into, parts, len };
    let launch = blocks(sum.blocks(), 1, THREADS);
    kernel::add_parts(cuda, launch, partial, into, int(parts), int(len), sum.log2_here());
}

/// Makes sums that do not touch one another.
pub fn add_all<D: Driver>(cuda: &Cuda<D>, sums: &[Sum]) {
    for sums in sums.chunks(MOST_SUMS) {
        let (first_block, all) = first_blocks(sums.iter().map(Sum::blocks));
        let each = |of: fn(&Sum) -> i32| std::array::from_fn(|i| sums.get(i).map_or(0, of));
        kernel::add_all_parts(
            cuda,
            blocks(all, 1, THREADS),
            Sums {
                partial: std::array::from_fn(|i| sums.get(i).map_or(Const::null(), |sum| sum.partial)),
                into: std::array::from_fn(|i| sums.get(i).map_or(Mut::null(), |sum| sum.into)),
                parts: each(|sum| int(sum.parts)),
                len: each(|sum| int(sum.len)),
                log2_here: each(Sum::log2_here),
                first_block,
                count: int(sums.len()),
            },
        );
    }
}

/// Where each piece of a launch begins that takes so many blocks, and how many all take.
///
/// # Panics
/// Where there are more than `N`.
pub fn first_blocks<const N: usize>(pieces: impl Iterator<Item = usize>) -> ([i32; N], usize) {
    let (mut first, mut all) = ([0; N], 0);
    for (i, blocks) in pieces.enumerate() {
        first[i] = int(all);
        all += blocks;
    }
    (first, all)
}
