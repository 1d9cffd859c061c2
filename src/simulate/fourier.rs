//! The centred orthonormal two-dimensional transform that fastMRI calls fft2c and ifft2c, in place on
//! `[rows, columns]`.

use num_complex::Complex32;
use rustfft::{Fft, FftDirection, FftPlanner};
use std::sync::Arc;

/// Both directions for one matrix size; shared between threads.
pub(super) struct Fourier {
    rows: usize,
    columns: usize,
    forward: [Arc<dyn Fft<f32>>; 2],
    inverse: [Arc<dyn Fft<f32>>; 2],
}

impl Fourier {
    pub fn new([rows, columns]: [usize; 2]) -> Self {
        let mut planner = FftPlanner::new();
        let mut plan = |direction| [rows, columns].map(|n| planner.plan_fft(n, direction));
        Self { rows, columns, forward: plan(FftDirection::Forward), inverse: plan(FftDirection::Inverse) }
    }

    /// Image to k-space.
    pub fn forward(&self, data: &mut [Complex32]) {
        self.transform(&self.forward, data);
    }

    /// k-space to image.
    pub fn inverse(&self, data: &mut [Complex32]) {
        self.transform(&self.inverse, data);
    }

    fn transform(&self, plans: &[Arc<dyn Fft<f32>>; 2], data: &mut [Complex32]) {
        let (rows, columns) = (self.rows, self.columns);
        lines(plans[1].as_ref(), data, columns);
        let mut turned = vec![Complex32::default(); data.len()];
        transpose(data, &mut turned, rows, columns);
        lines(plans[0].as_ref(), &mut turned, rows);
        transpose(&turned, data, columns, rows);
    }
}

/// ifftshift, transform, fftshift and the orthonormal factor, for every line of `n`.
fn lines(plan: &dyn Fft<f32>, data: &mut [Complex32], n: usize) {
    let mut scratch = vec![Complex32::default(); plan.get_inplace_scratch_len()];
    let scale = 1.0 / (n as f32).sqrt();
    for line in data.chunks_exact_mut(n) {
        line.rotate_left(n / 2);
        plan.process_with_scratch(line, &mut scratch);
        line.rotate_right(n / 2);
        line.iter_mut().for_each(|v| *v *= scale);
    }
}

/// `[rows, columns]` to `[columns, rows]`, by tiles that stay in cache.
fn transpose(from: &[Complex32], to: &mut [Complex32], rows: usize, columns: usize) {
    const TILE: usize = 16;
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..columns).step_by(TILE) {
            for r in r0..(r0 + TILE).min(rows) {
                for c in c0..(c0 + TILE).min(columns) {
                    to[c * rows + r] = from[r * columns + c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_is_the_centred_orthonormal_sum_for_odd_and_even_sizes() {
        for [rows, columns] in [[5, 4], [4, 7], [1, 6], [3, 1]] {
            let n = rows * columns;
            let image: Vec<_> =
                (0..n).map(|i| Complex32::new((i as f32 * 0.7).sin(), (i as f32 * 1.9).cos())).collect();
            let mut fast = image.clone();
            let fourier = Fourier::new([rows, columns]);
            fourier.forward(&mut fast);
            for (index, value) in fast.iter().enumerate() {
                let centred = |i: usize, n: usize| i as f64 - (n / 2) as f64;
                let (u, v) = (centred(index / columns, rows), centred(index % columns, columns));
                let mut sum = num_complex::Complex64::default();
                for (i, x) in image.iter().enumerate() {
                    let turns = u * centred(i / columns, rows) / rows as f64
                        + v * centred(i % columns, columns) / columns as f64;
                    let x = num_complex::Complex64::new(x.re.into(), x.im.into());
                    sum += x * num_complex::Complex64::from_polar(1.0, -std::f64::consts::TAU * turns);
                }
                sum /= (n as f64).sqrt();
                let error = (sum.re - f64::from(value.re)).abs() + (sum.im - f64::from(value.im)).abs();
                assert!(error < 1e-5, "{rows}x{columns} at {index}: {value} is not {sum}");
            }
            fourier.inverse(&mut fast);
            assert!(fast.iter().zip(&image).all(|(a, b)| (a - b).norm() < 1e-5));
        }
    }
}
