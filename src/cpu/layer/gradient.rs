//! The gradient of a layer's raw output, as both halves of its backward pass read it.

use super::Filters;
use crate::backend::{FeatureMap, MapGradient, MapShape};
use crate::cpu::buffer::Buffer;
use crate::cpu::chunk::Chunks;
use crate::cpu::norm::{undo, undo_pairs, undo_row};
use crate::real::Real;

#[derive(Clone, Copy)]
pub struct Gradient<'l, T> {
    pub filters: Filters<'l, T>,
    pub output: &'l FeatureMap<Buffer<T>>,
    pub d_output: &'l MapGradient<Buffer<T>>,
}

impl<T: Real> Gradient<'_, T> {
    /// ∂L/∂(raw output) of one output plane over a chunk with its halo; zeros for planes that only fill up a block.
    #[inline(always)]
    pub fn fill(&self, chunks: &Chunks, chunk: usize, plane: usize, window: &mut [T]) {
        let Self { output, d_output, filters: Filters { up, planes, .. } } = *self;
        if plane >= planes {
            window.fill(T::zero());
            return;
        }
        let MapShape { channels, width, .. } = output.shape;
        let (channel, dy, dx) = (plane / (up * up), plane / up % up, plane % up);
        let at = chunks.image(chunk) * channels + channel;
        let undo = undo(output, d_output, at);
        let from = at * output.shape.pixels();
        chunks.fill(
            chunk,
            window,
            #[inline(always)]
            |y, target| {
                let row = from + (y * up + dy) * width..from + (y * up + dy + 1) * width;
                let (g, x) = (&d_output.values[row.clone()], &output.values[row]);
                if up == 1 {
                    undo_row(undo, g, x, target);
                } else {
                    undo_pairs(undo, g, x, dx, target);
                }
            },
        );
    }
}
