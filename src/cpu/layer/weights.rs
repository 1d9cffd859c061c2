//! The gradient of weights: sums over pixels, kept apart by groups of chunks.

use rayon::prelude::*;

use super::Filters;
use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::tile::{REDUCE_BLOCK, Reduce, TAPS, reduce_block_of};
use crate::cpu::winograd::{self, PARTS};
use crate::real::Real;

/// Reals that a task of the sum over groups takes.
const SUM_CHUNK: usize = 1 << 12;

/// How the gradient of a group's weights lies in memory, as tiles make it: blocks of inputs, and of each
/// `[blocks of planes][tiles' inputs][ky][planes of a block][TAPS]`.
pub struct WeightGradient<'l, T> {
    filters: Filters<'l, T>,
    chunks: &'l Chunks,
    inputs: usize,
    /// Input channels of a block, and output planes.
    in_block: usize,
    out_block: usize,
}

impl<'l, T: Real> WeightGradient<'l, T> {
    pub fn new(filters: Filters<'l, T>, chunks: &'l Chunks, inputs: usize, in_block: usize) -> Self {
        Self { filters, chunks, inputs, in_block, out_block: reduce_block_of(filters.planes) }
    }

    /// Planes filled up to a block.
    pub fn padded_planes(&self) -> usize {
        self.filters.planes.next_multiple_of(self.out_block)
    }

    /// Inputs that a tile takes: a filter's row of two inputs is six taps, as are six inputs of a 1×1 filter.
    fn at_once(&self) -> usize {
        TAPS / self.filters.across()
    }

    /// Reals that a tile makes.
    fn of_tile(&self) -> usize {
        self.filters.across() * self.out_block * TAPS
    }

    fn tiles_of_inputs(&self) -> usize {
        self.in_block.div_ceil(self.at_once())
    }

    /// Reals of one block of inputs.
    pub fn of_block(&self) -> usize {
        self.padded_planes() / self.out_block * self.tiles_of_inputs() * self.of_tile()
    }

    /// Reals of a group.
    pub fn len(&self) -> usize {
        self.inputs.div_ceil(self.in_block) * self.of_block()
    }

    /// Adds the gradient of one block of inputs `x` over a chunk of `rows` rows.
    pub fn add_chunk(&self, cpu: &Cpu<T>, g: &[T], x: &[T], rows: usize, d_weights: &mut [T]) {
        let Self { chunks, in_block, out_block, .. } = *self;
        let (plane, across) = (chunks.plane(), self.filters.across());
        let len = chunks.positions(rows);
        for (tile, d_weights) in d_weights.chunks_exact_mut(self.of_tile()).enumerate() {
            let first_out = tile / self.tiles_of_inputs() * out_block;
            let first_in = tile % self.tiles_of_inputs() * self.at_once();
            // Inputs beyond the block are made again, and not read.
            let taps =
                std::array::from_fn(|t| (first_in + t / across).min(in_block - 1) * plane + t % across);
            let mut sums = [[T::zero(); REDUCE_BLOCK * TAPS]; PARTS];
            let g = g.chunks_exact(chunks.part(self.padded_planes()));
            let x = x.chunks_exact(chunks.part(in_block));
            for ((g, x), sums) in g.zip(x).zip(&mut sums) {
                // Past the left padding.
                let g = &g[first_out * plane + chunks.radius..];
                Reduce { g, plane, block: out_block, x, taps, len, sums: &mut sums[..out_block * TAPS] }
                    .run(cpu.arch);
            }
            cpu.vectorised(
                #[inline(always)]
                || {
                    let rows = if across == 1 { [sums[0]; 3] } else { winograd::join_filters(sums) };
                    for (to, row) in d_weights.chunks_exact_mut(out_block * TAPS).zip(&rows) {
                        to.iter_mut().zip(row).for_each(|(to, &row)| *to += row);
                    }
                },
            );
        }
    }

    /// Adds the groups, in their order, to `d_weights`, laid out as the filters' weights. Overwrites the groups.
    pub fn add_up(&self, groups: &mut [T], d_weights: &mut [T]) {
        let Filters { planes, plane_stride, input_stride, .. } = self.filters;
        let (sum, others) = groups.split_at_mut(self.len());
        sum.par_chunks_mut(SUM_CHUNK).enumerate().for_each(|(chunk, sum)| {
            for group in others.chunks_exact(self.len()) {
                let group = &group[chunk * SUM_CHUNK..][..sum.len()];
                sum.iter_mut().zip(group).for_each(|(sum, &group)| *sum += group);
            }
        });
        let sum = &*sum;
        let across = self.filters.across();
        let add = |o: usize, i: usize, to: &mut [T]| {
            let tile = o / self.out_block * self.tiles_of_inputs() + i % self.in_block / self.at_once();
            let of_tile =
                &sum[i / self.in_block * self.of_block() + tile * self.of_tile()..][..self.of_tile()];
            let at = o % self.out_block * TAPS + i % self.in_block % self.at_once() * across;
            for (to, row) in to.chunks_exact_mut(across).zip(of_tile.chunks_exact(self.out_block * TAPS)) {
                to.iter_mut().zip(&row[at..]).for_each(|(to, &row)| *to += row);
            }
        };
        // By the slower of the two dimensions, so that each part is one stretch of memory.
        let taps = self.filters.taps();
        if plane_stride >= input_stride {
            d_weights.par_chunks_mut(plane_stride).enumerate().for_each(|(o, row)| {
                (0..self.inputs).for_each(|i| add(o, i, &mut row[i * input_stride..][..taps]));
            });
        } else {
            d_weights.par_chunks_mut(input_stride).enumerate().for_each(|(i, row)| {
                (0..planes).for_each(|o| add(o, i, &mut row[o * plane_stride..][..taps]));
            });
        }
    }
}
