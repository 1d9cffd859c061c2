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
    pub block: usize,
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
        Self { words, of_block, block }
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

/// Reads planes of a chunk into `parts` `[parts][planes][chunks.plane()]`. `fill(plane, window)` writes one as it is read,
/// with its halo.
#[inline(always)]
pub fn read<T: Real>(
    cpu: &Cpu<T>,
    chunks: &Chunks,
    split: Split,
    planes: usize,
    parts: &mut [T],
    mut fill: impl FnMut(usize, &mut [T]),
) {
    let (plane, part) = (chunks.plane(), chunks.part(planes));
    if chunks.parts() == 1 {
        cpu.vectorised(
            #[inline(always)]
            || parts.chunks_exact_mut(plane).take(planes).enumerate().for_each(|(c, to)| fill(c, to)),
        );
        return;
    }
    let stride = chunks.stride();
    let bands = chunks.bands(chunks.rows);
    let mut window = cpu.shelf.take::<T>(chunks.window());
    for c in 0..planes {
        cpu.vectorised(
            #[inline(always)]
            || fill(c, &mut window),
        );
        let of_channel = &mut parts[c * plane..];
        match split {
            Split::Inputs => {
                cpu.arch.dispatch(SplitInputs { rows: &window, stride, bands, parts: of_channel, part });
            }
            Split::Gradient => {
                let rows = &window[chunks.radius * stride..];
                cpu.arch.dispatch(SplitGradient(SplitInputs {
                    rows,
                    stride,
                    bands,
                    parts: of_channel,
                    part,
                }));
            }
        }
        // What the last position's taps read beyond the last row.
        for part in of_channel.chunks_mut(part) {
            part[bands * stride..plane].fill(T::zero());
        }
    }
}

/// A task's correlation of what it read of a chunk.
pub struct Correlation<'a, T: Real> {
    cpu: &'a Cpu<T>,
    chunks: &'a Chunks,
    packed: &'a Packed<'a, T>,
    taps: Vec<usize>,
    read: usize,
    x: Scratch<'a, T>,
    parts: Scratch<'a, T>,
    rows: Scratch<'a, T>,
}

/// One block of channels that was made of a chunk: rows `pitch` apart, channels `plane`.
pub struct Made<'a, T> {
    pub rows: &'a mut [T],
    pub plane: usize,
    pub pitch: usize,
}

impl<'a, T: Real> Correlation<'a, T> {
    /// `read`: channels that filters read.
    pub fn new(cpu: &'a Cpu<T>, chunks: &'a Chunks, packed: &'a Packed<'a, T>, read: usize) -> Self {
        let (parts, block) = (chunks.parts(), packed.block);
        let y_plane = Self::y_plane(chunks);
        Self {
            cpu,
            chunks,
            packed,
            taps: chunks.taps(read),
            read,
            x: cpu.shelf.take::<T>(parts * chunks.part(read)),
            parts: cpu.shelf.take::<T>(parts * block * y_plane + MARGIN),
            rows: cpu.shelf.take::<T>(if parts == 1 { 0 } else { block * Self::rows_plane(chunks) }),
        }
    }

    fn y_plane(chunks: &Chunks) -> usize {
        chunks.positions(chunks.rows).next_multiple_of(MARGIN)
    }

    fn pitch(chunks: &Chunks) -> usize {
        chunks.stride().next_multiple_of(MARGIN)
    }

    fn rows_plane(chunks: &Chunks) -> usize {
        chunks.bands(chunks.rows) * winograd::BAND * Self::pitch(chunks)
    }

    /// Reads a chunk: `fill(channel, window)` as in [`read`].
    #[inline(always)]
    pub fn read(&mut self, fill: impl FnMut(usize, &mut [T])) {
        read(self.cpu, self.chunks, Split::Inputs, self.read, &mut self.x, fill);
    }

    /// Makes block `b` of the `rows` rows of the chunk that was read.
    pub fn make(&mut self, b: usize, rows: usize) -> Made<'_, T> {
        let Self { chunks, packed, .. } = self;
        let (block, plane) = (packed.block, Self::y_plane(chunks));
        let weights = &packed.words[b * packed.of_block..][..packed.of_block];
        let parts =
            self.x.chunks_exact(chunks.part(self.read)).zip(weights.chunks_exact(self.taps.len() * block));
        for ((x, weights), y) in parts.zip(self.parts.chunks_exact_mut(block * plane)) {
            let len = chunks.positions(rows);
            Correlate { x, taps: &self.taps, weights, block, y, plane, len }.run(self.cpu.arch);
        }
        if chunks.parts() == 1 {
            return Made { rows: &mut self.parts, plane, pitch: chunks.stride() };
        }
        let (pitch, rows_plane, bands) = (Self::pitch(chunks), Self::rows_plane(chunks), chunks.bands(rows));
        for (o, rows) in self.rows.chunks_exact_mut(rows_plane).enumerate() {
            let parts = &self.parts[o * plane..];
            let stride = chunks.stride();
            self.cpu.arch.dispatch(JoinOutputs { parts, part: block * plane, stride, bands, rows, pitch });
        }
        Made { rows: &mut self.rows, plane: rows_plane, pitch }
    }
}
