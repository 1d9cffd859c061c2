//! Instance norm and LeakyReLU, row by row: applied when a map is read, undone when its gradient is.
//!
//! With x̂ = (x − mean)·rstd and y = LeakyReLU(x̂), a gradient is stored as g = ∂L/∂x̂ = y'(x̂)·∂L/∂y beside the
//! plane means of g and g·x̂, from which `∂L/∂x = rstd·(g − mean(g) − x̂·mean(g·x̂))`.

use crate::backend::{FeatureMap, MapGradient};
use crate::cpu::buffer::Buffer;
use crate::real::Real;

/// LeakyReLU's slope below zero, and the constant inside instance norm's root: fastMRI's and PyTorch's.
const SLOPE: f64 = 0.2;
const EPSILON: f64 = 1e-5;

/// Accumulators of a sum: enough for the widest registers, added up in a fixed order at the end.
const LANES: usize = 16;

/// Mean and 1/std of one plane.
#[derive(Clone, Copy)]
pub struct Stats<T> {
    mean: T,
    rstd: T,
}

/// The statistics of plane `plane` (n·channels + c), if the map has any.
pub fn stats<T: Real>(map: &FeatureMap<Buffer<T>>, plane: usize) -> Option<Stats<T>> {
    map.stats.as_ref().map(|s| Stats { mean: s[2 * plane], rstd: s[2 * plane + 1] })
}

/// Count, mean and sum of squared deviations of a part of a plane.
#[derive(Clone, Copy, Default)]
pub struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    #[inline(always)]
    pub fn of<T: Real>(values: &[T], width: usize) -> Self {
        let count = values.len() as f64;
        let mean = values.chunks(width).map(|row| sum(row, |x| x).as_f64()).sum::<f64>() / count;
        let centre = T::real(mean);
        let squares =
            values.chunks(width).map(|row| sum(row, |x| (x - centre) * (x - centre)).as_f64()).sum::<f64>();
        // The centre was rounded to T: move the squares from there to the mean itself.
        Self { count, mean, squares: (squares - count * (mean - centre.as_f64()).powi(2)).max(0.0) }
    }

    /// Chan's formula: parts are joined without the cancellation of Σx² − (Σx)².
    pub fn join(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let delta = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + delta * other.count / count,
            squares: self.squares + other.squares + delta * delta * self.count * other.count / count,
        }
    }

    /// Mean and 1/√(variance + ε) with the biased variance, as instance norm has it.
    pub fn stats<T: Real>(self) -> [T; 2] {
        [self.mean, (self.squares / self.count + EPSILON).sqrt().recip()].map(T::real)
    }
}

#[inline(always)]
fn sum<T: Real>(row: &[T], value: impl Fn(T) -> T) -> T {
    let mut sums = [T::zero(); LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for l in 0..LANES {
            sums[l] += value(block[l]);
        }
    }
    rest.iter().zip(&mut sums).for_each(|(&x, s)| *s += value(x));
    sums.into_iter().sum()
}

/// What a reader of the map reads: `LeakyReLU(x̂)`, or x itself.
#[inline(always)]
pub fn activate_row<T: Real>(stats: Option<Stats<T>>, x: &[T], y: &mut [T]) {
    let slope = T::real(SLOPE);
    match stats {
        None => y.copy_from_slice(x),
        Some(Stats { mean, rstd }) => {
            for (y, &x) in y.iter_mut().zip(x) {
                let normalised = (x - mean) * rstd;
                *y = if normalised > T::zero() { normalised } else { normalised * slope };
            }
        }
    }
}

/// How to turn one plane's stored gradient into ∂L/∂x.
#[derive(Clone, Copy)]
pub struct Undo<T> {
    stats: Option<Stats<T>>,
    mean_g: T,
    mean_gx: T,
}

impl<T: Real> Undo<T> {
    #[inline(always)]
    fn pixel(self, Stats { mean, rstd }: Stats<T>, g: T, x: T) -> T {
        rstd * (g - self.mean_g - (x - mean) * rstd * self.mean_gx)
    }
}

/// For plane `plane` of a map and its finished gradient.
pub fn undo<T: Real>(
    map: &FeatureMap<Buffer<T>>,
    gradient: &MapGradient<Buffer<T>>,
    plane: usize,
) -> Undo<T> {
    let (mean_g, mean_gx) = match (&gradient.sums, &map.stats) {
        (Some(sums), Some(_)) => (sums[2 * plane], sums[2 * plane + 1]),
        _ => (T::zero(), T::zero()),
    };
    Undo { stats: stats(map, plane), mean_g, mean_gx }
}

/// ∂L/∂x from the stored gradient `g` and the raw values `x`.
#[inline(always)]
pub fn undo_row<T: Real>(undo: Undo<T>, g: &[T], x: &[T], dx: &mut [T]) {
    match undo.stats {
        None => dx.copy_from_slice(g),
        Some(stats) => {
            for ((dx, &g), &x) in dx.iter_mut().zip(g).zip(x) {
                *dx = undo.pixel(stats, g, x);
            }
        }
    }
}

/// The same of every other pixel: of pixel `of` of each pair.
#[inline(always)]
pub fn undo_pairs<T: Real>(undo: Undo<T>, g: &[T], x: &[T], of: usize, dx: &mut [T]) {
    let (g, x) = (g.as_chunks::<2>().0, x.as_chunks::<2>().0);
    let of = of % 2;
    match undo.stats {
        None => dx.iter_mut().zip(g).for_each(|(dx, g)| *dx = g[of]),
        Some(stats) => {
            for ((dx, g), x) in dx.iter_mut().zip(g).zip(x) {
                *dx = undo.pixel(stats, g[of], x[of]);
            }
        }
    }
}

/// Sums of g and g·x̂ over a part of a plane.
#[derive(Clone, Copy, Default)]
pub struct GradientSums {
    g: f64,
    gx: f64,
}

impl GradientSums {
    pub fn join(self, other: Self) -> Self {
        Self { g: self.g + other.g, gx: self.gx + other.gx }
    }

    pub fn means<T: Real>(self, pixels: usize) -> [T; 2] {
        [self.g, self.gx].map(|sum| T::real(sum / pixels as f64))
    }
}

/// Turns ∂L/∂y in `g` into ∂L/∂x̂ in place, and returns the row's sums.
#[inline(always)]
pub fn finish_row<T: Real>(Stats { mean, rstd }: Stats<T>, x: &[T], g: &mut [T]) -> GradientSums {
    let slope = T::real(SLOPE);
    let mut sum_g = [T::zero(); LANES];
    let mut sum_gx = [T::zero(); LANES];
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (g_blocks, g_rest) = g.as_chunks_mut::<LANES>();
    for (x, g) in x_blocks.iter().zip(g_blocks) {
        for l in 0..LANES {
            let normalised = (x[l] - mean) * rstd;
            g[l] = if normalised > T::zero() { g[l] } else { g[l] * slope };
            sum_g[l] += g[l];
            sum_gx[l] += g[l] * normalised;
        }
    }
    for (l, (&x, g)) in x_rest.iter().zip(g_rest).enumerate() {
        let normalised = (x - mean) * rstd;
        *g = if normalised > T::zero() { *g } else { *g * slope };
        sum_g[l] += *g;
        sum_gx[l] += *g * normalised;
    }
    GradientSums { g: sum_g.into_iter().sum::<T>().as_f64(), gx: sum_gx.into_iter().sum::<T>().as_f64() }
}
