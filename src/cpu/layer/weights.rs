//! From the gradient of outputs to that of weights.

use rayon::prelude::*;

use super::correlate::{Split, read};
use super::gradient::Gradient;
use super::{Filters, blocks_per_task, concatenated};
use crate::backend::FeatureMap;
use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::tile::{REDUCE_BLOCK, Reduce, TAPS, block_of, reduce_block_of};
use crate::cpu::winograd::{self, PARTS};
use crate::real::Real;

/// Partial sums kept apart at most: enough for many threads, few enough to add up.
const GROUPS: usize = 16;

struct Layer<'l, T> {
    inputs: &'l [&'l FeatureMap<Vec<T>>],
    /// Which map, and which of its channels.
    channels: Vec<(usize, usize)>,
    gradient: Gradient<'l, T>,
    chunks: Chunks,
    /// Input channels that tiles take together, and output planes.
    in_block: usize,
    out_block: usize,
}

/// A range of input channels over a group of chunks.
struct Task<'a, T> {
    chunks: std::ops::Range<usize>,
    first_channel: usize,
    /// The group's gradient of these channels, `[inputs][planes][taps]`.
    d_weights: &'a mut [T],
}

/// Adds to `d_weights`, laid out as the filters' weights.
pub fn backward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Vec<T>>],
    gradient: Gradient<'_, T>,
    d_weights: &mut [T],
) {
    let layer = Layer::new(inputs, gradient);
    let total = gradient.output.shape.n * layer.chunks.per_image;
    let groups = total.min(GROUPS);
    let mut partial = cpu.shelf.take::<T>(groups * layer.partial_len());
    let per_task = blocks_per_task(layer.in_blocks(), groups) * layer.in_block;
    let tasks: Vec<Task<'_, T>> = partial
        .chunks_mut(layer.partial_len())
        .enumerate()
        .flat_map(|(group, partial)| {
            let chunks = group * total / groups..(group + 1) * total / groups;
            partial.chunks_mut(per_task * layer.partial_row()).enumerate().map(move |(part, d_weights)| {
                Task { chunks: chunks.clone(), first_channel: part * per_task, d_weights }
            })
        })
        .collect();
    tasks.into_par_iter().for_each(|task| layer.run(cpu, task));
    layer.add_up(&partial, d_weights);
}

impl<'l, T: Real> Layer<'l, T> {
    fn new(inputs: &'l [&'l FeatureMap<Vec<T>>], gradient: Gradient<'l, T>) -> Self {
        let Filters { planes, radius, .. } = gradient.filters;
        let channels = concatenated(inputs);
        let in_block = block_of(channels.len());
        let blocks = channels.len().div_ceil(in_block);
        let grid = gradient.filters.grid(gradient.output.shape);
        let chunks = Chunks::plan::<T>(grid, radius, planes + in_block, blocks);
        Self { inputs, channels, gradient, chunks, in_block, out_block: reduce_block_of(planes) }
    }

    fn in_blocks(&self) -> usize {
        self.channels.len().div_ceil(self.in_block)
    }

    fn padded_planes(&self) -> usize {
        self.gradient.filters.planes.next_multiple_of(self.out_block)
    }

    /// Weights of one input channel in a partial sum: `[planes][taps]`, planes filled up to a block.
    fn partial_row(&self) -> usize {
        self.padded_planes() * self.gradient.filters.taps()
    }

    fn partial_len(&self) -> usize {
        self.in_blocks() * self.in_block * self.partial_row()
    }

    fn run(&self, cpu: &Cpu<T>, task: Task<'_, T>) {
        let Self { chunks, channels, inputs, in_block, gradient, .. } = self;
        let mut g = cpu.shelf.take::<T>(chunks.parts() * chunks.part(self.padded_planes()));
        let mut x = cpu.shelf.take::<T>(chunks.parts() * chunks.part(*in_block));
        let mut wide = cpu.shelf.take::<T>(gradient.output.shape.width);
        task.d_weights.fill(T::zero());
        for chunk in task.chunks {
            read(
                cpu,
                chunks,
                Split::Gradient,
                self.padded_planes(),
                &mut g,
                #[inline(always)]
                |plane, window| {
                    if plane < gradient.filters.planes {
                        gradient.fill(chunks, chunk, plane, window, &mut wide);
                    } else {
                        window.fill(T::zero());
                    }
                },
            );
            let len = chunks.positions(chunks.range(chunk).len());
            let of_blocks = task.d_weights.chunks_mut(in_block * self.partial_row());
            for (b, d_weights) in of_blocks.enumerate() {
                let first = task.first_channel + b * in_block;
                read(
                    cpu,
                    chunks,
                    Split::Inputs,
                    *in_block,
                    &mut x,
                    #[inline(always)]
                    |i, window| match channels.get(first + i) {
                        Some(&(map, c)) => chunks.fill_activated(chunk, inputs[map], c, window),
                        None => window.fill(T::zero()),
                    },
                );
                self.add_products(cpu, &g, &x, len, d_weights);
            }
        }
    }

    /// Adds the gradient of one block of inputs over a chunk to `d_weights`, `[inputs][planes][taps]`.
    fn add_products(&self, cpu: &Cpu<T>, g: &[T], x: &[T], len: usize, d_weights: &mut [T]) {
        let Self { chunks, in_block, out_block, .. } = *self;
        let Filters { planes, radius, .. } = self.gradient.filters;
        let (plane, across) = (chunks.plane(), self.gradient.filters.across());
        // Six taps at a time: a filter's row of two inputs, or six inputs of a 1×1 filter.
        let inputs_at_once = TAPS / across;
        for first_out in (0..planes).step_by(out_block) {
            for first_in in (0..in_block).step_by(inputs_at_once) {
                let taps =
                    std::array::from_fn(|t| (first_in + t / across).min(in_block - 1) * plane + t % across);
                let mut sums = [[T::zero(); REDUCE_BLOCK * TAPS]; PARTS];
                let parts = g
                    .chunks_exact(chunks.part(self.padded_planes()))
                    .zip(x.chunks_exact(chunks.part(in_block)));
                for ((g, x), sums) in parts.zip(&mut sums) {
                    // Past the left padding.
                    let g = &g[first_out * plane + radius..];
                    let (block, sums) = (out_block, &mut sums[..out_block * TAPS]);
                    Reduce { g, plane, block, x, taps, len, sums }.run(cpu.arch);
                }
                let (rows, size) =
                    if across == 1 { ([sums[0]; 3], 1) } else { (winograd::join_filters(sums), 3) };
                for o in 0..out_block {
                    for t in 0..TAPS.min((in_block - first_in) * across) {
                        let input = first_in + t / across;
                        let at = input * self.partial_row() + (first_out + o) * size * size + t % across;
                        for (ky, row) in rows[..size].iter().enumerate() {
                            d_weights[at + ky * size] += row[o * TAPS + t];
                        }
                    }
                }
            }
        }
    }

    /// Adds the groups' sums, in their order, to the layer's.
    fn add_up(&self, partial: &[T], d_weights: &mut [T]) {
        let Filters { planes, plane_stride, input_stride, .. } = self.gradient.filters;
        let taps = self.gradient.filters.taps();
        let add = |o: usize, i: usize, to: &mut [T]| {
            for group in partial.chunks(self.partial_len()) {
                let from = &group[i * self.partial_row() + o * taps..][..taps];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
            }
        };
        // By the slower of the two dimensions, so that each part is one stretch of memory.
        if plane_stride >= input_stride {
            d_weights.par_chunks_mut(plane_stride).enumerate().for_each(|(o, row)| {
                (0..self.channels.len()).for_each(|i| add(o, i, &mut row[i * input_stride..][..taps]));
            });
        } else {
            d_weights.par_chunks_mut(input_stride).enumerate().for_each(|(i, row)| {
                (0..planes).for_each(|o| add(o, i, &mut row[o * plane_stride..][..taps]));
            });
        }
    }
}
