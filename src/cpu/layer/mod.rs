//! The three convolutions, forward and backward.
//!
//! A task takes a chunk of rows and a range of channels, reads its inputs into scratch (normalised and activated on
//! the way, and split where filters have three rows), runs the register tiles over it while it is in cache, and writes
//! finished rows. Channels of a transposed convolution's output count four times here, once for each pixel of its 2×2
//! blocks: "planes".

mod backward;
mod correlate;
mod forward;
mod gradient;
mod inputs;
mod packed;
mod read;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod weights;

pub use backward::backward;
pub use forward::forward;

use crate::backend::{FeatureMap, MapShape};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::tile::block_of;
use crate::real::Real;
use packed::Packed;

/// A convolution's weights: plane o, input i, tap k at `o·plane_stride + i·input_stride + k`.
#[derive(Clone, Copy)]
pub struct Filters<'a, T> {
    pub weights: &'a [T],
    pub planes: usize,
    pub inputs: usize,
    /// 1 for a 3×3 filter, 0 for a single tap.
    pub radius: usize,
    pub plane_stride: usize,
    pub input_stride: usize,
    /// Output pixels per input pixel along an axis: 2 for the transposed convolution.
    pub up: usize,
}

impl<T: Real> Filters<'_, T> {
    /// The planes of an output of shape `out`, on the grid that filters step over.
    fn grid(&self, out: MapShape) -> MapShape {
        MapShape { channels: self.planes, height: out.height / self.up, width: out.width / self.up, ..out }
    }

    fn taps(&self) -> usize {
        self.across().pow(2)
    }

    fn at(&self, plane: usize, input: usize, tap: usize) -> usize {
        plane * self.plane_stride + input * self.input_stride + tap
    }

    /// Channels that tiles make together; the four planes of a transposed output stay together.
    fn forward_block(&self) -> usize {
        if self.up == 1 {
            block_of(self.planes)
        } else if self.planes.is_multiple_of(8) {
            8
        } else {
            4
        }
    }

    /// Columns of a filter.
    fn across(&self) -> usize {
        2 * self.radius + 1
    }

    /// For tiles that make the output.
    fn pack_forward<'a>(self, cpu: &'a Cpu<T>, block: usize) -> Packed<'a, T> {
        Packed::new(cpu, self, block, [self.planes, self.inputs], |o, i, tap| self.at(o, i, tap))
    }

    /// For tiles that make the data gradient, which correlate with flipped filters.
    fn pack_backward<'a>(self, cpu: &'a Cpu<T>, block: usize) -> Packed<'a, T> {
        let last = self.taps() - 1;
        Packed::new(cpu, self, block, [self.inputs, self.planes], |i, o, tap| self.at(o, i, last - tap))
    }
}

/// The channels of concatenated maps, in order: which map, and which of its channels.
fn concatenated<T>(inputs: &[&FeatureMap<Buffer<T>>]) -> Vec<(usize, usize)> {
    inputs
        .iter()
        .enumerate()
        .flat_map(|(map, input)| (0..input.shape.channels).map(move |c| (map, c)))
        .collect()
}

/// Ranges of blocks that make enough tasks for all threads out of `chunks` chunks.
fn blocks_per_task(blocks: usize, chunks: usize) -> usize {
    let wanted = (2 * rayon::current_num_threads()).div_ceil(chunks);
    blocks.div_ceil(wanted.min(blocks))
}
