//! What convolutions make of a chunk, forward and backward: one block of channels after another.

use super::packed::Packed;
use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::scratch::Scratch;
use crate::cpu::tile::{Correlate, MARGIN};
use crate::cpu::winograd::JoinOutputs;
use crate::real::Real;

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
            taps: chunks.taps(packed.channels_read),
            x: cpu.shelf.take::<T>(parts * part),
            part,
            y: cpu.shelf.take::<T>(parts * packed.block * plane + MARGIN),
            plane,
        }
    }

    /// Makes block `b` of the `rows` rows of the chunk that was read.
    pub fn make(&mut self, b: usize, rows: usize) {
        let Self { packed, plane, .. } = *self;
        let weights = packed.of(b).chunks_exact(self.taps.len() * packed.block);
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
