//! Filters as tiles take them.

use std::array::from_fn;

use rayon::prelude::*;

use super::Filters;
use crate::cpu::Cpu;
use crate::cpu::scratch::Scratch;
use crate::cpu::winograd::{self, PARTS, split_filters};
use crate::real::Real;

/// `[blocks, parts, channels read, kx, block]`, absent channels 0.
pub struct Packed<'a, T: Real> {
    words: Scratch<'a, T>,
    of_block: usize,
    pub channels_read: usize,
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
        let of_block = winograd::parts(filters.radius) * read * filters.across() * block;
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
        Self { words, of_block, channels_read: read, block }
    }

    /// Block `b`, `[parts, channels read, kx, block]`.
    pub fn of(&self, b: usize) -> &[T] {
        &self.words[b * self.of_block..][..self.of_block]
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
        let parts = split_filters(from_fn(|ky| from_fn(|lane| weight(i, 3 * ky + kx, lane))));
        for (part, lanes) in parts.into_iter().enumerate() {
            words[part * of_part + at] = lanes;
        }
    }
}
