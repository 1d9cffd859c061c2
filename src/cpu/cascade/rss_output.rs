//! The final coil combination: the image from u and v.

use num_complex::Complex;
use rayon::prelude::*;

use super::{add_conjugate_product, multiply};
use crate::backend::ImageShape;
use crate::cpu::Cpu;
use crate::cpu::fft::Projection;
use crate::cpu::rows::{Row, coil_rows, complex, complex_mut};
use crate::real::Real;

/// See [`crate::backend::RssOutput`].
#[allow(clippy::too_many_arguments)]
pub fn rss_output<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    u: &[T],
    v: &[T],
    output: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, x0, u, v] = [sens_maps, x0, u, v].map(complex);
    output.par_chunks_exact_mut(shape.columns).enumerate().for_each_init(
        || projection.scratch(1),
        |scratch, (i, output)| {
            let row = Row::of(shape, i);
            let (u, v) = (row.combined(shape, u), row.combined(shape, v));
            let (image, work) = complex_mut(scratch).split_at_mut(shape.columns);
            output.fill(T::zero());
            for coil in 0..shape.coils {
                let (sens, x0) = (row.coil(shape, sens_maps, coil), row.coil(shape, x0, coil));
                coil_image_row(cpu, &projection, row.n, sens, x0, u, v, image, work);
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        for (sum, image) in output.iter_mut().zip(&*image) {
                            *sum += image.norm_sqr();
                        }
                    },
                );
            }
            cpu.vectorised(
                #[inline(always)]
                || output.iter_mut().for_each(|output| *output = output.sqrt()),
            );
        },
    );
}

/// `image = x₀ − S·u + P(S·v)` for one row of one coil of slice `n`.
#[allow(clippy::too_many_arguments)]
fn coil_image_row<T: Real>(
    cpu: &Cpu<T>,
    projection: &Projection<T>,
    n: usize,
    sens: &[Complex<T>],
    x0: &[Complex<T>],
    u: &[Complex<T>],
    v: &[Complex<T>],
    image: &mut [Complex<T>],
    work: &mut [Complex<T>],
) {
    cpu.vectorised(
        #[inline(always)]
        || multiply(sens, v, image),
    );
    projection.apply(n, image, work);
    cpu.vectorised(
        #[inline(always)]
        || {
            for ((image, &x0), (&sens, &u)) in image.iter_mut().zip(x0).zip(sens.iter().zip(u)) {
                *image = *image + (x0 - sens * u);
            }
        },
    );
}

/// See [`crate::backend::RssOutputBackward`]. Where the output is 0 so is the gradient.
#[allow(clippy::too_many_arguments)]
pub fn rss_output_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    u: &[T],
    v: &[T],
    output: &[T],
    d_output: &[T],
    d_u: &mut [T],
    d_v: &mut [T],
    d_sens: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, x0, u, v] = [sens_maps, x0, u, v].map(complex);
    let mut d_sens = coil_rows(shape, complex_mut(d_sens));
    let d_images = complex_mut(d_u)
        .par_chunks_exact_mut(shape.columns)
        .zip(complex_mut(d_v).par_chunks_exact_mut(shape.columns));
    let rows = d_images.zip(d_sens.par_chunks_exact_mut(shape.coils)).enumerate();
    rows.for_each_init(
        || (projection.scratch(1), cpu.shelf.take(shape.columns)),
        |(scratch, factor), (i, ((d_u, d_v), d_sens))| {
            let row = Row::of(shape, i);
            let (u, v) = (row.combined(shape, u), row.combined(shape, v));
            let (image, work) = complex_mut(scratch).split_at_mut(shape.columns);
            let outputs = row.combined(shape, output).iter().zip(row.combined(shape, d_output));
            for (factor, (&output, &d_output)) in factor.iter_mut().zip(outputs) {
                *factor = if output == T::zero() { T::zero() } else { d_output / output };
            }
            d_u.fill(Complex::default());
            d_v.fill(Complex::default());
            for (coil, d_sens) in d_sens.iter_mut().enumerate() {
                let (sens, x0) = (row.coil(shape, sens_maps, coil), row.coil(shape, x0, coil));
                coil_image_row(cpu, &projection, row.n, sens, x0, u, v, image, work);
                // From here on `image` is the gradient of the coil's image, then P of it.
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        for (image, &factor) in image.iter_mut().zip(&**factor) {
                            *image = *image * factor;
                        }
                        for ((d_u, sens), &image) in d_u.iter_mut().zip(sens).zip(&*image) {
                            *d_u = *d_u - sens.conj() * image;
                        }
                        for ((d_sens, u), &image) in d_sens.iter_mut().zip(u).zip(&*image) {
                            *d_sens = -(u.conj() * image);
                        }
                    },
                );
                projection.apply(row.n, image, work);
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        add_conjugate_product(sens, image, d_v);
                        add_conjugate_product(v, image, d_sens);
                    },
                );
            }
        },
    );
}
