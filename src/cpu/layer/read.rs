//! What is read of a chunk: activated or undone by who knows how, and split where filters have three rows.

use crate::cpu::Cpu;
use crate::cpu::chunk::Chunks;
use crate::cpu::winograd::{Bands, SplitGradient, SplitInputs};
use crate::real::Real;

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
        let [(_, to)] = to else { unreachable!("what is not split need not be read twice") };
        cpu.vectorised(
            #[inline(always)]
            || to.chunks_exact_mut(plane).take(planes).enumerate().for_each(|(c, to)| fill(c, to)),
        );
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
                Split::Inputs => {
                    let rows = &window[..];
                    cpu.arch.dispatch(SplitInputs(Bands { rows, stride, bands, parts, part }));
                }
                Split::Gradient => {
                    let rows = &window[chunks.radius * stride..];
                    cpu.arch.dispatch(SplitGradient(Bands { rows, stride, bands, parts, part }));
                }
            }
            // What the last position's taps read beyond the last row.
            for of_part in parts.chunks_mut(part) {
                of_part[bands * stride..plane].fill(T::zero());
            }
        }
    }
}
