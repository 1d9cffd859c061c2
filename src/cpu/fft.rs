//! Fourier transforms: whole centred images once a step, and the projection of rows that every cascade makes.

use std::sync::Arc;

use num_complex::Complex;
use rayon::prelude::*;
use rustfft::{Fft, FftDirection};

use super::Cpu;
use super::rows::{complex, complex_mut};
use super::scratch::Scratch;
use crate::backend::ImageShape;
use crate::real::Real;

/// Columns that are gathered and transformed together: neighbours share cache lines.
const BLOCK: usize = 8;

/// See [`crate::backend::Ifft2c`].
pub fn ifft2c<T: Real>(cpu: &Cpu<T>, shape: ImageShape, kspace: &[T], columns: &[T], images: &mut [T]) {
    transform(cpu, shape, FftDirection::Inverse, kspace, columns, images);
}

/// The inverse of [`ifft2c`] over all columns: fastMRI's `fft2c`. `images`, `kspace`: `[N, coils, rows, columns] c`.
pub fn fft2c<T: Real>(cpu: &Cpu<T>, shape: ImageShape, images: &[T], kspace: &mut [T]) {
    let columns = vec![T::one(); shape.n * shape.columns];
    transform(cpu, shape, FftDirection::Forward, images, &columns, kspace);
}

fn transform<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    direction: FftDirection,
    from: &[T],
    weights: &[T],
    to: &mut [T],
) {
    let along_rows = cpu.fft(shape.columns, direction);
    let along_columns = cpu.fft(shape.rows, direction);
    let work_len = along_rows.get_inplace_scratch_len().max(along_columns.get_inplace_scratch_len());
    let scale = T::one() / T::real(shape.pixels() as f64).sqrt();
    let images = complex_mut(to).par_chunks_exact_mut(shape.pixels());
    images.zip(complex(from).par_chunks_exact(shape.pixels())).enumerate().for_each(|(i, (to, from))| {
        let mut scratch = cpu.shelf.take(2 * (BLOCK * shape.rows + work_len));
        let (block, work) = complex_mut(&mut scratch).split_at_mut(BLOCK * shape.rows);
        let weights = &weights[i / shape.coils * shape.columns..][..shape.columns];
        // Columns before rows: those of weight 0 need no transform, and most of a mask is 0.
        to.fill(Complex::default());
        let used: Vec<usize> = (0..shape.columns).filter(|&x| weights[x] != T::zero()).collect();
        for xs in used.chunks(BLOCK) {
            let block = &mut block[..xs.len() * shape.rows];
            for (y, from) in from.chunks_exact(shape.columns).enumerate() {
                for (column, &x) in block.chunks_exact_mut(shape.rows).zip(xs) {
                    column[uncentred(y, shape.rows)] = from[x] * (weights[x] * scale);
                }
            }
            along_columns.process_with_scratch(block, work);
            for (y, to) in to.chunks_exact_mut(shape.columns).enumerate() {
                for (column, &x) in block.chunks_exact(shape.rows).zip(xs) {
                    to[uncentred(x, shape.columns)] = column[uncentred(y, shape.rows)];
                }
            }
        }
        along_rows.process_with_scratch(to, work);
        for row in to.chunks_exact_mut(shape.columns) {
            row.rotate_right(shape.columns / 2);
        }
    });
}

/// Where `ifftshift` puts the element at `at`; `fftshift` brings it back.
fn uncentred(at: usize, len: usize) -> usize {
    (at + len.div_ceil(2)) % len
}

/// `P = F⁻¹·mask·F` along columns. The shifts and phases that centre F cancel against those of F⁻¹, so rows stay
/// as they are and only the mask is put into the transform's own order.
pub struct Projection<'a, T: Real> {
    cpu: &'a Cpu<T>,
    columns: usize,
    forward: Arc<dyn Fft<T>>,
    inverse: Arc<dyn Fft<T>>,
    /// `[N, columns]`, with the 1/columns that makes the pair of transforms an identity.
    mask: Vec<T>,
}

impl<'a, T: Real> Projection<'a, T> {
    /// `mask`: `[N, columns]` in k-space's centred order.
    pub fn new(cpu: &'a Cpu<T>, shape: ImageShape, mask: &[T]) -> Self {
        let scale = T::one() / T::real(shape.columns as f64);
        let mut mask: Vec<T> = mask[..shape.n * shape.columns].iter().map(|&m| m * scale).collect();
        for mask in mask.chunks_exact_mut(shape.columns) {
            mask.rotate_left(shape.columns / 2);
        }
        Self {
            cpu,
            columns: shape.columns,
            forward: cpu.fft(shape.columns, FftDirection::Forward),
            inverse: cpu.fft(shape.columns, FftDirection::Inverse),
            mask,
        }
    }

    /// Room for `rows` rows and, behind them, the working memory of [`Self::apply`].
    pub fn scratch(&self, rows: usize) -> Scratch<'a, T> {
        let work = self.forward.get_inplace_scratch_len().max(self.inverse.get_inplace_scratch_len());
        self.cpu.shelf.take(2 * (rows * self.columns + work))
    }

    /// Projects rows of slice `n` in place.
    pub fn apply(&self, n: usize, rows: &mut [Complex<T>], work: &mut [Complex<T>]) {
        let mask = &self.mask[n * self.columns..][..self.columns];
        self.forward.process_with_scratch(rows, work);
        self.cpu.vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(mask.len()) {
                    for (value, &mask) in row.iter_mut().zip(mask) {
                        *value = *value * mask;
                    }
                }
            },
        );
        self.inverse.process_with_scratch(rows, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    fn project(shape: ImageShape, mask: &[f64], images: &[f64]) -> Vec<f64> {
        let cpu = cpu();
        let projection = Projection::new(&cpu, shape, mask);
        let mut images = images.to_vec();
        let per_slice = images.len() / shape.n;
        for (n, slice) in images.chunks_exact_mut(per_slice).enumerate() {
            let mut scratch = projection.scratch(0);
            scratch.fill(f64::NAN);
            projection.apply(n, complex_mut(slice), complex_mut(&mut scratch));
        }
        images
    }

    #[test]
    fn ifft2c_is_the_centred_dft_of_the_weighted_columns() {
        for shape in SHAPES {
            let kspace = values(1, shape.multicoil());
            let mut columns = values(2, shape.n * shape.columns);
            columns.iter_mut().step_by(3).for_each(|column| *column = 0.0);
            let mut images = poison(kspace.len());
            ifft2c(&cpu(), shape, &kspace, &columns, &mut images);
            let weighted: Vec<f64> = (0..kspace.len())
                .map(|i| {
                    let n = i / 2 / (shape.coils * shape.pixels());
                    kspace[i] * columns[n * shape.columns + i / 2 % shape.columns]
                })
                .collect();
            assert_close(&images, &naive_dft2(shape, &weighted, 1.0), 1e-13);
        }
    }

    #[test]
    fn fft2c_inverts_ifft2c_and_is_its_adjoint() {
        for shape in SHAPES {
            let all = vec![1.0; shape.n * shape.columns];
            let (x, y) = (values(3, shape.multicoil()), values(4, shape.multicoil()));
            let (mut fx, mut back, mut fy) = (poison(x.len()), poison(x.len()), poison(x.len()));
            fft2c(&cpu(), shape, &x, &mut fx);
            assert_close(&fx, &naive_dft2(shape, &x, -1.0), 1e-13);
            ifft2c(&cpu(), shape, &fx, &all, &mut back);
            assert_close(&back, &x, 1e-13);
            ifft2c(&cpu(), shape, &y, &all, &mut fy);
            assert_close(&[dot(&fx, &y)], &[dot(&x, &fy)], 1e-13);
        }
    }

    #[test]
    fn columns_of_weight_zero_are_not_read() {
        let shape = SHAPES[1];
        let mut columns = vec![1.0; shape.n * shape.columns];
        columns[4] = 0.0;
        let kspace: Vec<f64> = values(5, shape.multicoil());
        let mut dirty = kspace.clone();
        for row in dirty[..shape.multicoil() / 2].chunks_exact_mut(2 * shape.columns) {
            row[8..10].fill(f64::NAN);
        }
        let (mut expected, mut got) = (poison(kspace.len()), poison(kspace.len()));
        ifft2c(&cpu(), shape, &kspace, &columns, &mut expected);
        ifft2c(&cpu(), shape, &dirty, &columns, &mut got);
        assert_eq!(got, expected);
    }

    #[test]
    fn the_projection_of_rows_is_that_of_centred_images() {
        for shape in SHAPES {
            let (mask, x, y) = (mask(6, shape), values(7, shape.multicoil()), values(8, shape.multicoil()));
            let px = project(shape, &mask, &x);
            assert_close(&px, &naive_projection(shape, &mask, &x), 1e-13);
            assert_close(&project(shape, &mask, &px), &px, 1e-13);
            assert_close(&[dot(&px, &y)], &[dot(&x, &project(shape, &mask, &y))], 1e-13);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = SHAPES[2];
        let (kspace, columns) = (values(9, shape.multicoil()), values(10, shape.n * shape.columns));
        assert_same_bits(|| {
            let mut images = poison(kspace.len());
            ifft2c(&cpu(), shape, &kspace, &columns, &mut images);
            images
        });
    }
}
