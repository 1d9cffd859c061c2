//! In and out of a U-Net: a complex image becomes two normalised, padded channels, and two channels an image again.
//!
//! A constant image has standard deviation 0, and fastMRI divides 0 by 0. Here it is divided by 1: the channel is 0,
//! the moment stays 0, and the way out gives the constant back. The gradient is that of subtracting the mean.

use num_complex::Complex;
use rayon::prelude::*;

use super::Cpu;
use super::rows::{complex, complex_mut, lane_sum};
use crate::backend::{FeatureMap, ImageShape, MapGradient, MapShape};
use crate::cpu::buffer::Buffer;
use crate::real::Real;

/// See [`crate::backend::UnetInput`]. The standard deviation is that of a sample, as torch's `std`.
pub fn unet_input<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    image: &[T],
    map: &mut FeatureMap<Buffer<T>>,
    moments: &mut [T],
) {
    let frame = Frame::new(shape, map.shape);
    let image = complex(image);
    let sums = frame.write(&mut map.values, |plane, y, row| {
        cpu.vectorised(
            #[inline(always)]
            || {
                take_part(frame.image_row(image, plane, y), plane % 2, row);
                [lane_sum([row], |[x]| x.as_f64()), 0.0]
            },
        )
    });
    let means: Vec<T> = sums.iter().map(|[sum, _]| T::real(sum / frame.pixels())).collect();
    let sums = frame.write(&mut map.values, |plane, _, row| {
        cpu.vectorised(
            #[inline(always)]
            || {
                row.iter_mut().for_each(|x| *x = *x - means[plane]);
                [lane_sum([row], |[x]| x.as_f64()), lane_sum([row], |[x]| x.as_f64() * x.as_f64())]
            },
        )
    });
    for ((moments, mean), [sum, squares]) in moments.chunks_exact_mut(2).zip(&means).zip(sums) {
        // The first sum is what rounding the mean has left.
        let variance = (squares - sum * sum / frame.pixels()) / (frame.pixels() - 1.0).max(1.0);
        moments.copy_from_slice(&[*mean, T::real(variance.max(0.0).sqrt())]);
    }
    frame.write(&mut map.values, |plane, _, row| {
        let divisor = divisor(moments, plane);
        cpu.vectorised(
            #[inline(always)]
            || row.iter_mut().for_each(|x| *x = *x / divisor),
        );
        [0.0; 2]
    });
}

/// See [`crate::backend::UnetOutput`].
pub fn unet_output<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<T>>,
    moments: &[T],
    image: &mut [T],
) {
    let frame = Frame::new(shape, map.shape);
    complex_mut(image).par_chunks_exact_mut(shape.columns).enumerate().for_each(|(i, row)| {
        let (n, y) = (i / shape.rows, i % shape.rows);
        let [re, im] = [2 * n, 2 * n + 1].map(|plane| frame.row(&map.values, plane, y));
        let moments = &moments[4 * n..][..4];
        cpu.vectorised(
            #[inline(always)]
            || {
                for (pixel, (&re, &im)) in row.iter_mut().zip(re.iter().zip(im)) {
                    *pixel = Complex::new(re * moments[1] + moments[0], im * moments[3] + moments[2]);
                }
            },
        );
    });
}

/// See [`crate::backend::UnetOutputBackward`].
pub fn unet_output_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<T>>,
    moments: &[T],
    d_image: &[T],
    d_map: &mut MapGradient<Buffer<T>>,
    d_moments: &mut [T],
) {
    let frame = Frame::new(shape, map.shape);
    let d_image = complex(d_image);
    let sums = frame.write(&mut d_map.values, |plane, y, d_row| {
        let row = frame.row(&map.values, plane, y);
        let std = moments[2 * plane + 1];
        cpu.vectorised(
            #[inline(always)]
            || {
                take_part(frame.image_row(d_image, plane, y), plane % 2, d_row);
                let sums = frame.sums(d_row, row);
                d_row.iter_mut().for_each(|d| *d *= std);
                sums
            },
        )
    });
    for (d_moments, sums) in d_moments.chunks_exact_mut(2).zip(sums) {
        d_moments.copy_from_slice(&sums.map(T::real));
    }
}

/// See [`crate::backend::UnetInputBackward`].
pub fn unet_input_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<T>>,
    moments: &[T],
    d_map: &MapGradient<Buffer<T>>,
    d_moments: &[T],
    d_image: &mut [T],
) {
    let frame = Frame::new(shape, map.shape);
    let row_sums = (0..map.shape.planes() * shape.rows).into_par_iter().map(|i| {
        let (plane, y) = (i / shape.rows, i % shape.rows);
        let (d_row, row) = (frame.row(&d_map.values, plane, y), frame.row(&map.values, plane, y));
        cpu.vectorised(
            #[inline(always)]
            || frame.sums(d_row, row),
        )
    });
    let row_sums: Vec<[f64; 2]> = row_sums.collect();
    // With y = (x − mean)/std the gradient is d/std + offset + slope·y: y depends on the moments, and they on x.
    let planes = row_sums.chunks_exact(shape.rows).map(add_up).enumerate();
    let planes: Vec<[T; 3]> = planes
        .map(|(plane, [sum_d, sum_dy])| {
            let std = divisor(moments, plane).as_f64();
            let [d_mean, d_std] = [0, 1].map(|moment| d_moments[2 * plane + moment].as_f64());
            let offset = (d_mean - sum_d / std) / frame.pixels();
            let slope = (d_std - sum_dy / std) / (frame.pixels() - 1.0).max(1.0);
            [1.0 / std, offset, slope].map(T::real)
        })
        .collect();
    complex_mut(d_image).par_chunks_exact_mut(shape.columns).enumerate().for_each(|(i, row)| {
        let (n, y) = (i / shape.rows, i % shape.rows);
        let [d_re, d_im] = [2 * n, 2 * n + 1].map(|plane| frame.row(&d_map.values, plane, y));
        let [re, im] = [2 * n, 2 * n + 1].map(|plane| frame.row(&map.values, plane, y));
        let [of_re, of_im] = [planes[2 * n], planes[2 * n + 1]];
        let through = |d: T, y: T, [scale, offset, slope]: [T; 3]| d * scale + offset + slope * y;
        cpu.vectorised(
            #[inline(always)]
            || {
                let parts = d_re.iter().zip(re).zip(d_im.iter().zip(im));
                for (pixel, ((&d_re, &re), (&d_im, &im))) in row.iter_mut().zip(parts) {
                    *pixel = Complex::new(through(d_re, re, of_re), through(d_im, im, of_im));
                }
            },
        );
    });
}

/// What a plane is divided by.
fn divisor<T: Real>(moments: &[T], plane: usize) -> T {
    let std = moments[2 * plane + 1];
    if std == T::zero() { T::one() } else { std }
}

/// The real (0) or imaginary (1) part of a row.
#[inline(always)]
fn take_part<T: Real>(from: &[Complex<T>], part: usize, to: &mut [T]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = if part == 0 { from.re } else { from.im };
    }
}

/// Rows' sums added up in order.
fn add_up(rows: &[[f64; 2]]) -> [f64; 2] {
    rows.iter().fold([0.0; 2], |sum, row| [sum[0] + row[0], sum[1] + row[1]])
}

/// Where an image lies in the middle of its padded map. Plane 2n is the real part of image n, 2n + 1 the imaginary.
#[derive(Clone, Copy)]
struct Frame {
    image: ImageShape,
    map: MapShape,
    top: usize,
    left: usize,
}

impl Frame {
    fn new(image: ImageShape, map: MapShape) -> Self {
        assert_eq!((map.n, map.channels), (image.n, 2), "a map of two channels for every image");
        let (top, left) = ((map.height - image.rows) / 2, (map.width - image.columns) / 2);
        Self { image, map, top, left }
    }

    fn pixels(&self) -> f64 {
        self.image.pixels() as f64
    }

    /// The row of the image that plane `plane` is made from.
    fn image_row<'a, V>(&self, image: &'a [V], plane: usize, y: usize) -> &'a [V] {
        &image[(plane / 2 * self.image.rows + y) * self.image.columns..][..self.image.columns]
    }

    /// A row of a plane without its padding.
    fn row<'a, V>(&self, values: &'a [V], plane: usize, y: usize) -> &'a [V] {
        let start = (plane * self.map.height + self.top + y) * self.map.width + self.left;
        &values[start..][..self.image.columns]
    }

    /// Calls `f(plane, y, row)` for all rows, padding left out, and sets the padding to 0. Returns for each plane
    /// the sum of what `f` returned.
    fn write<T: Real>(
        &self,
        values: &mut [T],
        f: impl Fn(usize, usize, &mut [T]) -> [f64; 2] + Sync,
    ) -> Vec<[f64; 2]> {
        let rows = values[..self.map.len()].par_chunks_exact_mut(self.map.width).enumerate();
        let sums = rows.map(|(i, row)| {
            let (plane, y) = (i / self.map.height, (i % self.map.height).wrapping_sub(self.top));
            if y >= self.image.rows {
                row.fill(T::zero());
                return [0.0; 2];
            }
            let (left, row) = row.split_at_mut(self.left);
            let (row, right) = row.split_at_mut(self.image.columns);
            left.fill(T::zero());
            right.fill(T::zero());
            f(plane, y, row)
        });
        sums.collect::<Vec<_>>().chunks_exact(self.map.height).map(add_up).collect()
    }

    /// `Σ d` and `Σ d·y`.
    #[inline(always)]
    fn sums<T: Real>(&self, d: &[T], y: &[T]) -> [f64; 2] {
        [lane_sum([d], |[d]| d.as_f64()), lane_sum([d, y], |[d, y]| d.as_f64() * y.as_f64())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    /// Images without coils, and the map that each is padded to.
    const CASES: [(ImageShape, [usize; 2]); 5] = [
        (ImageShape { n: 1, coils: 1, rows: 9, columns: 14 }, [16, 16]),
        (ImageShape { n: 2, coils: 5, rows: 7, columns: 11 }, [8, 16]),
        (ImageShape { n: 3, coils: 1, rows: 8, columns: 23 }, [8, 32]),
        (ImageShape { n: 1, coils: 1, rows: 16, columns: 32 }, [16, 32]),
        (ImageShape { n: 2, coils: 1, rows: 3, columns: 2 }, [16, 16]),
    ];

    fn map(
        shape: ImageShape,
        [height, width]: [usize; 2],
        values: Option<Vec<f64>>,
    ) -> FeatureMap<Buffer<f64>> {
        let shape = MapShape { n: shape.n, channels: 2, height, width };
        FeatureMap { shape, values: values.unwrap_or_else(|| poison(shape.len())).into(), stats: None }
    }

    fn input(shape: ImageShape, size: [usize; 2], image: &[f64]) -> (FeatureMap<Buffer<f64>>, Vec<f64>) {
        let (mut map, mut moments) = (map(shape, size, None), poison(4 * shape.n));
        unet_input(&cpu(), shape, image, &mut map, &mut moments);
        (map, moments)
    }

    fn output(shape: ImageShape, size: [usize; 2], values: &[f64], moments: &[f64]) -> Vec<f64> {
        let mut image = poison(shape.combined());
        unet_output(&cpu(), shape, &map(shape, size, Some(values.to_vec())), moments, &mut image);
        image
    }

    /// For each value of a padded map, the image's value that it holds.
    fn sources(shape: ImageShape, [height, width]: [usize; 2]) -> Vec<Option<usize>> {
        let (top, left) = ((height - shape.rows) / 2, (width - shape.columns) / 2);
        (0..2 * shape.n * height * width)
            .map(|i| {
                let (plane, y, x) = (i / height / width, i / width % height, i % width);
                let inside = y >= top && y < top + shape.rows && x >= left && x < left + shape.columns;
                inside.then(|| {
                    let row = plane / 2 * shape.rows + y - top;
                    2 * (row * shape.columns + x - left) + plane % 2
                })
            })
            .collect()
    }

    /// Offsets that make the parts' means and standard deviations differ.
    fn image(shape: ImageShape) -> Vec<f64> {
        let values = values(11, shape.combined());
        values.iter().enumerate().map(|(i, v)| if i % 2 == 0 { 3.0 + 0.1 * v } else { v - 0.2 }).collect()
    }

    #[test]
    fn the_map_is_the_normalised_image_in_zeros() {
        for (shape, size) in CASES {
            let image = image(shape);
            let (map, moments) = input(shape, size, &image);
            let mut expected_moments = Vec::new();
            for (n, part) in (0..shape.n).flat_map(|n| [(n, 0), (n, 1)]) {
                let of_slice = &image[2 * n * shape.pixels()..][..2 * shape.pixels()];
                let values: Vec<f64> = of_slice.iter().skip(part).step_by(2).copied().collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
                expected_moments.extend([mean, (squares / (values.len() - 1) as f64).sqrt()]);
            }
            assert_close(&moments, &expected_moments, 1e-14);
            let sources = sources(shape, size);
            assert_eq!(sources.iter().flatten().count(), image.len());
            let plane = size[0] * size[1];
            let normalised = |(i, source): (usize, &Option<usize>)| {
                let moments = &expected_moments[2 * (i / plane)..];
                source.map_or(0.0, |source| (image[source] - moments[0]) / moments[1])
            };
            let expected: Vec<f64> = sources.iter().enumerate().map(normalised).collect();
            assert_close(&map.values, &expected, 1e-12);
        }
    }

    #[test]
    fn the_output_undoes_the_input() {
        for (shape, size) in CASES {
            let image = image(shape);
            let (map, moments) = input(shape, size, &image);
            assert_close(&output(shape, size, &map.values, &moments), &image, 1e-14);
        }
    }

    #[test]
    fn a_constant_part_becomes_zero_and_comes_back() {
        let (shape, size) = CASES[0];
        let mut image = image(shape);
        image.iter_mut().skip(1).step_by(2).for_each(|v| *v = 0.5);
        let (map, moments) = input(shape, size, &image);
        assert_eq!(moments[2..], [0.5, 0.0]);
        assert!(map.values[map.shape.pixels()..].iter().all(|v| *v == 0.0));
        let back = output(shape, size, &values(12, map.values.len()), &moments);
        assert!(back.iter().skip(1).step_by(2).all(|v| *v == 0.5));

        let d_map = MapGradient { values: values(13, map.values.len()).into(), sums: None };
        let mut d_image = poison(image.len());
        unet_input_backward(&cpu(), shape, &map, &moments, &d_map, &[0.0; 4], &mut d_image);
        let d: Vec<f64> = (sources(shape, size).iter().zip(d_map.values.iter()).skip(map.shape.pixels()))
            .filter_map(|(source, d)| source.map(|_| *d))
            .collect();
        let mean = d.iter().sum::<f64>() / d.len() as f64;
        let expected: Vec<f64> = d.iter().map(|d| d - mean).collect();
        let got: Vec<f64> = d_image.iter().skip(1).step_by(2).copied().collect();
        assert_close(&got, &expected, 1e-14);
    }

    #[test]
    fn f32_moments_of_a_far_mean_are_exact_to_rounding() {
        let shape = ImageShape { n: 1, coils: 1, rows: 64, columns: 65 };
        let image: Vec<f32> = values(14, shape.combined()).iter().map(|v| 1000.0 + *v as f32).collect();
        let map_shape = MapShape { n: 1, channels: 2, height: 64, width: 80 };
        let mut map = FeatureMap { shape: map_shape, values: vec![0.0; map_shape.len()].into(), stats: None };
        let mut moments = vec![f32::NAN; 4];
        unet_input(&Cpu::default(), shape, &image, &mut map, &mut moments);
        let exact: Vec<f64> = image.iter().map(|v| f64::from(*v)).collect();
        let (_, expected) = input(shape, [64, 80], &exact);
        for (got, expected) in moments.iter().zip(expected) {
            assert!((f64::from(*got) / expected - 1.0).abs() < 1e-7, "{got} instead of {expected}");
        }
    }

    #[test]
    fn the_gradients_of_the_output_are_right() {
        for (shape, size) in CASES {
            let values_of_map = values(15, 2 * shape.n * size[0] * size[1]);
            let moments = values(16, 4 * shape.n);
            let d_image = values(17, shape.combined());
            let map = map(shape, size, Some(values_of_map.clone()));
            let mut d_map = MapGradient { values: poison(values_of_map.len()).into(), sums: None };
            let mut d_moments = poison(moments.len());
            unet_output_backward(&cpu(), shape, &map, &moments, &d_image, &mut d_map, &mut d_moments);
            let loss = |values: &[f64], moments: &[f64]| dot(&output(shape, size, values, moments), &d_image);
            assert_gradient(|values| loss(values, &moments), &values_of_map, &d_map.values);
            assert_gradient(|moments| loss(&values_of_map, moments), &moments, &d_moments);
        }
    }

    #[test]
    fn the_gradient_of_the_input_goes_through_map_and_moments() {
        for (shape, size) in CASES {
            let image = image(shape);
            let (map, moments) = input(shape, size, &image);
            // The padding's gradient is whatever the U-Net left there.
            let d_map = MapGradient { values: values(18, map.values.len()).into(), sums: None };
            let d_moments = values(19, moments.len());
            let mut d_image = poison(image.len());
            unet_input_backward(&cpu(), shape, &map, &moments, &d_map, &d_moments, &mut d_image);
            let loss = |image: &[f64]| {
                let (map, moments) = input(shape, size, image);
                dot(&map.values, &d_map.values) + dot(&moments, &d_moments)
            };
            assert_gradient(loss, &image, &d_image);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (shape, size) = CASES[1];
        let image = image(shape);
        assert_same_bits(|| {
            let (map, moments) = input(shape, size, &image);
            let mut d_map = MapGradient { values: poison(map.values.len()).into(), sums: None };
            let (mut d_moments, mut d_image) = (poison(moments.len()), poison(image.len()));
            unet_output_backward(&cpu(), shape, &map, &moments, &image, &mut d_map, &mut d_moments);
            unet_input_backward(&cpu(), shape, &map, &moments, &d_map, &d_moments, &mut d_image);
            [&map.values, &*moments, &d_map.values, &d_moments, &d_image].concat()
        });
    }
}
