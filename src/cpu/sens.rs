//! Sensitivity maps: the network's coil images divided by their root sum of squares, and what they first combine.

use num_complex::Complex;
use rayon::prelude::*;

use super::Cpu;
use super::rows::{Row, coil_rows, complex, complex_mut};
use crate::backend::ImageShape;
use crate::real::Real;

/// See [`crate::backend::DivideByRss`].
pub fn divide_by_rss<T: Real>(cpu: &Cpu<T>, shape: ImageShape, raw: &[T], sens_maps: &mut [T]) {
    let raw = complex(raw);
    coil_rows(shape, complex_mut(sens_maps)).par_chunks_exact_mut(shape.coils).enumerate().for_each_init(
        || cpu.shelf.take(shape.columns),
        |inverse, (i, sens)| {
            let row = Row::of(shape, i);
            cpu.vectorised(
                #[inline(always)]
                || {
                    inverse_rss(shape, raw, row, inverse);
                    for (coil, sens) in sens.iter_mut().enumerate() {
                        let raw = row.coil(shape, raw, coil);
                        for ((sens, &raw), &inverse) in sens.iter_mut().zip(raw).zip(&**inverse) {
                            *sens = raw * inverse;
                        }
                    }
                },
            );
        },
    );
}

/// See [`crate::backend::SensReduce`].
pub fn sens_reduce<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    images: &[T],
    combined: &mut [T],
) {
    let (sens_maps, images) = (complex(sens_maps), complex(images));
    complex_mut(combined).par_chunks_exact_mut(shape.columns).enumerate().for_each(|(i, combined)| {
        let row = Row::of(shape, i);
        cpu.vectorised(
            #[inline(always)]
            || {
                combined.fill(Complex::default());
                for coil in 0..shape.coils {
                    let (sens, image) = (row.coil(shape, sens_maps, coil), row.coil(shape, images, coil));
                    for ((sum, sens), &image) in combined.iter_mut().zip(sens).zip(image) {
                        *sum = *sum + sens.conj() * image;
                    }
                }
            },
        );
    });
}

/// See [`crate::backend::DivideByRssBackward`].
pub fn divide_by_rss_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    raw: &[T],
    sens_maps: &[T],
    d_sens: &mut [T],
) {
    let (raw, sens_maps) = (complex(raw), complex(sens_maps));
    coil_rows(shape, complex_mut(d_sens)).par_chunks_exact_mut(shape.coils).enumerate().for_each_init(
        || cpu.shelf.take(2 * shape.columns),
        |scratch, (i, d)| {
            let row = Row::of(shape, i);
            let (inverse, radial) = scratch.split_at_mut(shape.columns);
            cpu.vectorised(
                #[inline(always)]
                || {
                    inverse_rss(shape, raw, row, inverse);
                    // What of d lies along S changes the length of the raw coil vector, which is divided away.
                    radial.fill(T::zero());
                    for (coil, d) in d.iter().enumerate() {
                        let sens = row.coil(shape, sens_maps, coil);
                        for ((radial, sens), d) in radial.iter_mut().zip(sens).zip(&**d) {
                            *radial += sens.re * d.re + sens.im * d.im;
                        }
                    }
                    for (coil, d) in d.iter_mut().enumerate() {
                        let sens = row.coil(shape, sens_maps, coil);
                        let per_pixel = sens.iter().zip(&*radial).zip(&*inverse);
                        for (d, ((&sens, &radial), &inverse)) in d.iter_mut().zip(per_pixel) {
                            *d = (*d - sens * radial) * inverse;
                        }
                    }
                },
            );
        },
    );
}

/// `1/√Σ|raw|²` of each pixel of a row, 0 where the root is 0 (fastMRI divides by it all the same).
#[inline(always)]
fn inverse_rss<T: Real>(shape: ImageShape, raw: &[Complex<T>], row: Row, inverse: &mut [T]) {
    inverse.fill(T::zero());
    for coil in 0..shape.coils {
        for (sum, raw) in inverse.iter_mut().zip(row.coil(shape, raw, coil)) {
            *sum += raw.norm_sqr();
        }
    }
    for inverse in inverse {
        // Not `> 0`: a NaN must stay one.
        *inverse = if *inverse == T::zero() { T::zero() } else { T::one() / inverse.sqrt() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    fn divided(shape: ImageShape, raw: &[f64]) -> Vec<f64> {
        let mut sens = poison(raw.len());
        divide_by_rss(&cpu(), shape, raw, &mut sens);
        sens
    }

    fn reduced(shape: ImageShape, sens: &[f64], images: &[f64]) -> Vec<f64> {
        let mut combined = poison(shape.combined());
        sens_reduce(&cpu(), shape, sens, images, &mut combined);
        combined
    }

    /// Coil images that are all zero at the pixels that `is_dark` takes.
    fn raw_with_dark_pixels(shape: ImageShape) -> (Vec<f64>, impl Fn(usize) -> bool) {
        let is_dark = move |i: usize| i / 2 % shape.pixels() == 1;
        let raw = values(21, shape.multicoil());
        (raw.into_iter().enumerate().map(|(i, v)| if is_dark(i) { 0.0 } else { v }).collect(), is_dark)
    }

    #[test]
    fn maps_have_unit_length_or_are_zero() {
        for shape in SHAPES {
            let (raw, is_dark) = raw_with_dark_pixels(shape);
            let expected: Vec<f64> = (0..raw.len())
                .map(|i| {
                    let (n, pixel) = (i / 2 / shape.pixels() / shape.coils, i / 2 % shape.pixels());
                    let parts = (0..shape.coils).flat_map(|coil| {
                        let at = 2 * ((n * shape.coils + coil) * shape.pixels() + pixel);
                        [raw[at], raw[at + 1]]
                    });
                    let rss = parts.map(|v| v * v).sum::<f64>().sqrt();
                    if is_dark(i) { 0.0 } else { raw[i] / rss }
                })
                .collect();
            assert_close(&divided(shape, &raw), &expected, 1e-14);
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let shape = SHAPES[1];
        let mut raw = values(22, shape.multicoil());
        raw[0] = f64::NAN;
        assert!(divided(shape, &raw)[2 * shape.pixels()].is_nan());
    }

    #[test]
    fn the_gradient_of_the_division_is_right() {
        for shape in SHAPES {
            let (raw, is_dark) = raw_with_dark_pixels(shape);
            let weights = values(23, raw.len());
            let mut d_raw = weights.clone();
            divide_by_rss_backward(&cpu(), shape, &raw, &divided(shape, &raw), &mut d_raw);
            assert!((0..raw.len()).all(|i| !is_dark(i) || d_raw[i] == 0.0));
            // The maps jump at dark pixels, so a step must not leave them.
            let loss = |x: &[f64]| {
                let x: Vec<f64> =
                    x.iter().enumerate().map(|(i, &x)| if is_dark(i) { 0.0 } else { x }).collect();
                dot(&divided(shape, &x), &weights)
            };
            assert_gradient(loss, &raw, &d_raw);
        }
    }

    #[test]
    fn reduction_is_the_adjoint_of_expansion() {
        for shape in SHAPES {
            let (sens, images) = (values(24, shape.multicoil()), values(25, shape.multicoil()));
            let image = values(26, shape.combined());
            let (sens_c, image_c) = (complex(&sens), complex(&image));
            let expanded: Vec<Complex<f64>> = (0..sens_c.len())
                .map(|i| {
                    let n = i / (shape.coils * shape.pixels());
                    sens_c[i] * image_c[n * shape.pixels() + i % shape.pixels()]
                })
                .collect();
            let expected = dot(bytemuck::cast_slice(&expanded), &images);
            assert_close(&[dot(&image, &reduced(shape, &sens, &images))], &[expected], 1e-13);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = SHAPES[1];
        let (raw, images) = (values(27, shape.multicoil()), values(28, shape.multicoil()));
        assert_same_bits(|| {
            let sens = divided(shape, &raw);
            let mut d_raw = images.clone();
            divide_by_rss_backward(&cpu(), shape, &raw, &sens, &mut d_raw);
            [d_raw, reduced(shape, &sens, &images), sens].concat()
        });
    }
}
