//! What convolutions make of a chunk, forward and backward: one block of channels after another.

use std::array::from_fn;

use rayon::prelude::*;

use super::Filters;
use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::scratch::Scratch;
use crate::cpu::tile::{Correlate, MARGIN};
use crate::cpu::winograd::{self, JoinOutputs, PARTS, SplitGradient, SplitInputs};
use crate::real::Real;

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
        let of_block = filters.parts() * read * filters.across() * block;
        let mut words = cpu.shelf.take::<T>(made.div_ceil(block) * of_block);
        words.par_chunks_mut(of_block).enumerate().for_each(|(b, words)| {
            let weight = |i, tap, lane| {
                let o = b * block + lane;
                if o < made { filters.weights[at(o, i, tap)] } else { T::zero() }
            };
            cpu.vectorised(
                #[inline(always)]
                || match block {
                    2 => pack_block::<T, 2>(words, filters.across(), weight),
                    4 => pack_block::<T, 4>(words, filters.across(), weight),
                    6 => pack_block::<T, 6>(words, filters.across(), weight),
                    8 => pack_block::<T, 8>(words, filters.across(), weight),
                    other => unreachable!("block_of gives no block of {other}"),
                },
            );
        });
        Self { words, of_block, read, block }
    }
}

/// Writes one block, `[parts, channels read, kx, B]`, of `weight(read, tap, lane)`.
#[inline(always)]
fn pack_block<T: Real, const B: usize>(
    words: &mut [T],
    across: usize,
    weight: impl Fn(usize, usize, usize) -> T,
) {
    let words = words.as_chunks_mut::<B>().0;
    if across == 1 {
        words.iter_mut().enumerate().for_each(|(i, words)| *words = from_fn(|lane| weight(i, 0, lane)));
        return;
    }
    let of_part = words.len() / PARTS;
    for at in 0..of_part {
        let (i, kx) = (at / 3, at % 3);
        let parts = winograd::split_filters(from_fn(|ky| from_fn(|lane| weight(i, 3 * ky + kx, lane))));
        for (part, lanes) in parts.into_iter().enumerate() {
            words[part * of_part + at] = lanes;
        }
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
pub fn read<T: Real>(
    cpu: &Cpu<T>,
    chunks: &Chunks,
    planes: usize,
    to: &mut [(Split, &mut [T])],
    mut fill: impl FnMut(usize, &mut [T]),
) {
    let (plane, part, stride) = (chunks.plane(), chunks.part(planes), chunks.stride());
    let bands = chunks.bands(chunks.rows);
    if chunks.parts() == 1 {
        let [(_, first), others @ ..] = to else { return };
        cpu.vectorised(
            #[inline(always)]
            || first.chunks_exact_mut(plane).take(planes).enumerate().for_each(|(c, to)| fill(c, to)),
        );
        others.iter_mut().for_each(|(_, to)| to.copy_from_slice(first));
        return;
    }
    let mut window = cpu.shelf.take::<T>(chunks.window());
    for c in 0..planes {
        cpu.vectorised(
            #[inline(always)]
            || fill(c, &mut window),
        );
        for (split, parts) in to.iter_mut() {
            let parts = &mut parts[c * plane..];
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
