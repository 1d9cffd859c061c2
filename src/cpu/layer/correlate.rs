//! What convolutions make of a chunk, forward and backward: one block of channels after another.

use rayon::prelude::*;

use super::Filters;
use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::scratch::Scratch;
use crate::cpu::tile::{Correlate, MARGIN};
use crate::cpu::winograd::{self, JoinOutputs, PARTS, SplitGradient, SplitInputs};
use crate::real::Real;

/// Channels that tiles make together at most.
const LARGEST_BLOCK: usize = 8;

/// Filters as tiles take them: `[blocks, parts, channels read, kx, block]`, absent channels 0.
pub struct Packed<'a, T: Real> {
    words: Scratch<'a, T>,
    of_block: usize,
    read: usize,
    block: usize,
}

impl<'a, T: Real> Packed<'a, T> {
    /// Of filters that make `made` channels from `read` channels: `at(made, read, tap)` is the place of a weight.
    pub fn new(
        cpu: &'a Cpu<T>,
        filters: Filters<'_, T>,
        block: usize,
        [made, read]: [usize; 2],
        at: impl Fn(usize, usize, usize) -> usize + Sync,
    ) -> Self {
        let (across, taps) = (filters.across(), filters.taps());
        let of_block = filters.parts() * read * across * block;
        let mut words = cpu.shelf.take::<T>(made.div_ceil(block) * of_block);
        words.par_chunks_mut(of_block).enumerate().for_each(|(b, words)| {
            let present = block.min(made - b * block);
            cpu.vectorised(
                #[inline(always)]
                || {
                    for i in 0..read {
                        let mut of_taps = [[T::zero(); LARGEST_BLOCK]; 9];
                        for lane in 0..present {
                            for (tap, lanes) in of_taps[..taps].iter_mut().enumerate() {
                                lanes[lane] = filters.weights[at(b * block + lane, i, tap)];
                            }
                        }
                        for kx in 0..across {
                            let mut put = |part: usize, lanes: [T; LARGEST_BLOCK]| {
                                words[((part * read + i) * across + kx) * block..][..block]
                                    .copy_from_slice(&lanes[..block]);
                            };
                            if across == 1 {
                                put(0, of_taps[0]);
                                continue;
                            }
                            let rows = [of_taps[kx], of_taps[3 + kx], of_taps[6 + kx]];
                            let parts = winograd::split_filters(rows);
                            (0..PARTS).for_each(|part| put(part, parts[part]));
                        }
                    }
                },
            );
        });
        Self { words, of_block, read, block }
    }
}

/// How a chunk's planes are split into parts.
#[derive(Clone, Copy)]
pub enum Split {
    /// What filters read.
    Inputs,
    /// The gradient of what they made.
    Gradient,
}

/// Reads planes of a chunk, and splits them in each of the ways asked for into `[parts][planes][chunks.plane()]`.
/// `fill(plane, window)` writes one as it is read, with its halo.
#[inline(always)]
pub fn read<T: Real, const N: usize>(
    cpu: &Cpu<T>,
    chunks: &Chunks,
    planes: usize,
    to: &mut [(Split, &mut [T]); N],
    mut fill: impl FnMut(usize, &mut [T]),
) {
    let (plane, part, stride) = (chunks.plane(), chunks.part(planes), chunks.stride());
    let bands = chunks.bands(chunks.rows);
    let mut window = cpu.shelf.take::<T>(chunks.window());
    for c in 0..planes {
        cpu.vectorised(
            #[inline(always)]
            || fill(c, &mut window),
        );
        for (split, parts) in to.iter_mut() {
            let parts = &mut parts[c * plane..];
            if chunks.parts() == 1 {
                parts[..plane].copy_from_slice(&window[..plane]);
                continue;
            }
            match split {
                Split::Inputs => cpu.arch.dispatch(SplitInputs { rows: &window, stride, bands, parts, part }),
                Split::Gradient => {
                    let rows = &window[chunks.radius * stride..];
                    cpu.arch.dispatch(SplitGradient(SplitInputs { rows, stride, bands, parts, part }));
                }
            }
            // What the last position's taps read beyond the last row.
            for part in parts.chunks_mut(part) {
                part[bands * stride..plane].fill(T::zero());
            }
        }
    }
}

/// A task's correlation of what it read of a chunk with one block of filters after another.
pub struct Correlation<'a, T: Real> {
    cpu: &'a Cpu<T>,
    chunks: &'a Chunks,
    packed: &'a Packed<'a, T>,
    taps: Vec<usize>,
    /// What filters read: `[parts][planes][chunks.plane()]`.
    pub x: Scratch<'a, T>,
    part: usize,
    /// What they make: `[parts][block][plane]`.
    y: Scratch<'a, T>,
    plane: usize,
}

impl<'a, T: Real> Correlation<'a, T> {
    /// `planes`: for how many there is to be room, at least as many as filters read.
    pub fn new(cpu: &'a Cpu<T>, chunks: &'a Chunks, packed: &'a Packed<'a, T>, planes: usize) -> Self {
        let (parts, part) = (chunks.parts(), chunks.part(planes));
        let plane = chunks.positions(chunks.rows).next_multiple_of(MARGIN);
        Self {
            cpu,
            chunks,
            packed,
            taps: chunks.taps(packed.read),
            x: cpu.shelf.take::<T>(parts * part),
            part,
            y: cpu.shelf.take::<T>(parts * packed.block * plane + MARGIN),
            plane,
        }
    }

    /// Makes block `b` of the `rows` rows of the chunk that was read.
    pub fn make(&mut self, b: usize, rows: usize) {
        let Self { packed, plane, .. } = *self;
        let weights = packed.words[b * packed.of_block..].chunks_exact(self.taps.len() * packed.block);
        let parts = self.x.chunks_exact(self.part).zip(weights);
        for ((x, weights), y) in parts.zip(self.y.chunks_exact_mut(packed.block * plane)) {
            let len = self.chunks.positions(rows);
            Correlate { x, taps: &self.taps, weights, block: packed.block, y, plane, len }.run(self.cpu.arch);
        }
    }

    /// Of the block that was made, plane `o` where there is one part: rows [`Chunks::stride`] apart, planes the second
    /// of these numbers.
    pub fn flat(&self, o: usize) -> (&[T], usize) {
        (&self.y[o * self.plane..], self.plane)
    }

    /// Writes channel `o` of the block that was made to whole rows, as many as there are.
    pub fn put(&self, o: usize, rows: &mut [T]) {
        let (width, stride) = (self.chunks.width, self.chunks.stride());
        let parts = &self.y[o * self.plane..];
        if self.chunks.parts() == 1 {
            for (row, y) in rows.chunks_exact_mut(width).zip(parts.chunks(stride)) {
                row.copy_from_slice(&y[..width]);
            }
        } else {
            let part = self.packed.block * self.plane;
            self.cpu.arch.dispatch(JoinOutputs { parts, part, stride, rows, width });
        }
    }
}
