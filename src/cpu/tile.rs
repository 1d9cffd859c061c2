//! The two inner loops of every convolution, register-tiled.
//!
//! A part of a chunk (`chunk.rs`) lies flat in scratch, its rows `stride` apart, so that a filter tap is one constant
//! offset:
//!
//! ```text
//! y[o][p] = Σ_k weights[k][o] · x[taps[k] + p]          (forward, and data gradient with flipped weights)
//! d_weights[o][t] += Σ_p g[o][p] · x[taps[t] + p]        (weight gradient)
//! ```
//!
//! The positions p run over whole rows including their padding, whose results nobody reads: one wasted column a
//! row buys full registers at every image size. A tile of outputs stays in registers over the whole sum.

use std::array::from_fn;

use pulp::{Arch, Simd, WithSimd};

use crate::real::Real;

/// Reals that tiles may read or write beyond the last position: the widest register of the smallest real, and more.
pub const MARGIN: usize = 32;

/// Output channels that one pass of the forward loop makes together, for a layer with `channels` of them: the
/// weights are packed in blocks of this many.
pub fn block_of(channels: usize) -> usize {
    // Fewest padded channels; among equals, the block that keeps most registers busy.
    [6, 8, 4, 2].into_iter().min_by_key(|&block| channels.div_ceil(block) * block).expect("not empty")
}

/// `y[o][p] = Σ_k weights[k][o] · x[taps[k] + p]` for `block` channels o and positions p < `len`.
///
/// `weights` is `[taps, block]`; `x` must reach [`MARGIN`] beyond the last position of the last tap, and every plane of
/// `y` (`plane` apart, a multiple of [`MARGIN`]) has room for `len` rounded up to that.
pub struct Correlate<'a, T> {
    pub x: &'a [T],
    pub taps: &'a [usize],
    pub weights: &'a [T],
    pub block: usize,
    pub y: &'a mut [T],
    pub plane: usize,
    pub len: usize,
}

impl<T: Real> Correlate<'_, T> {
    pub fn run(self, arch: Arch) {
        arch.dispatch(self);
    }

    #[inline(always)]
    fn block<S: Simd, const O: usize, const V: usize>(self, simd: S) {
        let lanes = T::lanes::<S>();
        let mut p = 0;
        while p + (V - 1) * lanes < self.len {
            correlate_tile::<T, S, O, V>(simd, self.x, self.taps, self.weights, p, self.y, self.plane);
            p += V * lanes;
        }
        if V > 2 {
            while p + lanes < self.len {
                correlate_tile::<T, S, O, 2>(simd, self.x, self.taps, self.weights, p, self.y, self.plane);
                p += 2 * lanes;
            }
        }
        while p < self.len {
            correlate_tile::<T, S, O, 1>(simd, self.x, self.taps, self.weights, p, self.y, self.plane);
            p += lanes;
        }
    }
}

impl<T: Real> WithSimd for Correlate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // O·V accumulators, V inputs and a weight must fit the registers.
        match (self.block, S::REGISTER_COUNT >= 32) {
            (8, true) => self.block::<S, 8, 3>(simd),
            (6, true) => self.block::<S, 6, 4>(simd),
            (4, true) => self.block::<S, 4, 6>(simd),
            (2, true) => self.block::<S, 2, 8>(simd),
            (8, false) => self.block::<S, 8, 1>(simd),
            (6, false) => self.block::<S, 6, 2>(simd),
            (4, false) => self.block::<S, 4, 3>(simd),
            (2, false) => self.block::<S, 2, 4>(simd),
            (other, _) => unreachable!("block_of gives no block of {other}"),
        }
    }
}

#[inline(always)]
fn correlate_tile<T: Real, S: Simd, const O: usize, const V: usize>(
    simd: S,
    x: &[T],
    taps: &[usize],
    weights: &[T],
    p: usize,
    y: &mut [T],
    plane: usize,
) {
    let lanes = T::lanes::<S>();
    let mut sum = [[T::splat(simd, T::zero()); V]; O];
    for (weight, &tap) in weights.chunks_exact(O).zip(taps) {
        let x = &x[tap + p..][..V * lanes];
        let x: [T::Lanes<S>; V] = from_fn(|v| T::load::<S>(&x[v * lanes..]));
        for o in 0..O {
            let weight = T::splat(simd, weight[o]);
            for v in 0..V {
                sum[o][v] = T::fma(simd, x[v], weight, sum[o][v]);
            }
        }
    }
    for o in 0..O {
        let y = &mut y[o * plane + p..][..V * lanes];
        for v in 0..V {
            T::store::<S>(sum[o][v], &mut y[v * lanes..]);
        }
    }
}

/// Taps that one pass of the weight-gradient loop takes together: a filter row of two input channels.
pub const TAPS: usize = 6;

/// Output channels that one pass of the weight-gradient loop takes together, at most.
pub const REDUCE_BLOCK: usize = 4;

/// How many, of `channels`.
pub fn reduce_block_of(channels: usize) -> usize {
    [REDUCE_BLOCK, 3, 2].into_iter().min_by_key(|&block| channels.div_ceil(block) * block).expect("not empty")
}

/// `sums[o][t] += Σ_p g[o][p] · x[taps[t] + p]` for `block` channels o, six taps t and positions p < `len`.
///
/// Planes of `g` are `plane` apart; `sums` is `[block, TAPS]`.
pub struct Reduce<'a, T> {
    pub g: &'a [T],
    pub plane: usize,
    pub block: usize,
    pub x: &'a [T],
    pub taps: [usize; TAPS],
    pub len: usize,
    pub sums: &'a mut [T],
}

impl<T: Real> Reduce<'_, T> {
    pub fn run(self, arch: Arch) {
        arch.dispatch(self);
    }

    #[inline(always)]
    fn block<S: Simd, const O: usize>(self, simd: S) {
        let lanes = T::lanes::<S>();
        let mut sum = [[T::splat(simd, T::zero()); TAPS]; O];
        let x: [&[T]; TAPS] = from_fn(|t| &self.x[self.taps[t]..][..self.len]);
        let g: [&[T]; O] = from_fn(|o| &self.g[o * self.plane..][..self.len]);
        let whole = self.len / lanes * lanes;
        for p in (0..whole).step_by(lanes) {
            let x: [T::Lanes<S>; TAPS] = from_fn(|t| T::load::<S>(&x[t][p..]));
            for o in 0..O {
                let g = T::load::<S>(&g[o][p..]);
                for t in 0..TAPS {
                    sum[o][t] = T::fma(simd, x[t], g, sum[o][t]);
                }
            }
        }
        if whole < self.len {
            let x: [T::Lanes<S>; TAPS] = from_fn(|t| T::load_part(simd, &x[t][whole..]));
            for o in 0..O {
                let g = T::load_part(simd, &g[o][whole..]);
                for t in 0..TAPS {
                    sum[o][t] = T::fma(simd, x[t], g, sum[o][t]);
                }
            }
        }
        for (sums, sum) in self.sums.chunks_exact_mut(TAPS).zip(sum) {
            for t in 0..TAPS {
                sums[t] += T::reduce_sum(simd, sum[t]);
            }
        }
    }
}

impl<T: Real> WithSimd for Reduce<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.block {
            4 => self.block::<S, 4>(simd),
            3 => self.block::<S, 3>(simd),
            2 => self.block::<S, 2>(simd),
            other => unreachable!("reduce_block_of gives no block of {other}"),
        }
    }
}
