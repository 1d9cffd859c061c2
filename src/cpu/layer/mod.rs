//! The one loop nest behind the three convolutions, forward and backward.
//!
//! A task takes a chunk of rows and a range of channels, reads its inputs into scratch (normalised and activated on
//! the way), runs the register tiles over it while it is in cache, and writes finished rows. Channels of a
//! transposed convolution's output count four times here, once for each pixel of its 2×2 blocks: "planes".

mod backward;
mod forward;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use backward::backward;
pub use forward::forward;

use rayon::prelude::*;

use crate::backend::{FeatureMap, MapShape};
use crate::cpu::tile::block_of;
use crate::real::Real;

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
        (2 * self.radius + 1).pow(2)
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

    /// `[blocks, inputs, taps, block]` for the forward tiles.
    fn pack_forward(&self, block: usize, packed: &mut [T]) {
        let taps = self.taps();
        packed.par_chunks_mut(self.inputs * taps * block).enumerate().for_each(|(b, packed)| {
            for (row, packed) in packed.chunks_exact_mut(block).enumerate() {
                for (lane, packed) in packed.iter_mut().enumerate() {
                    let plane = b * block + lane;
                    *packed = if plane < self.planes {
                        self.weights[self.at(plane, row / taps, row % taps)]
                    } else {
                        T::zero()
                    };
                }
            }
        });
    }

    /// `[blocks, planes, taps, block]` for the tiles of the data gradient, which correlate with flipped filters.
    fn pack_backward(&self, block: usize, packed: &mut [T]) {
        let taps = self.taps();
        packed.par_chunks_mut(self.planes * taps * block).enumerate().for_each(|(b, packed)| {
            for (row, packed) in packed.chunks_exact_mut(block).enumerate() {
                for (lane, packed) in packed.iter_mut().enumerate() {
                    let input = b * block + lane;
                    *packed = if input < self.inputs {
                        self.weights[self.at(row / taps, input, taps - 1 - row % taps)]
                    } else {
                        T::zero()
                    };
                }
            }
        });
    }
}

/// The channels of concatenated maps, in order: which map, and which of its channels.
fn concatenated<T>(inputs: &[&FeatureMap<Vec<T>>]) -> Vec<(usize, usize)> {
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
