//! The training loss: fastMRI's SSIM and the mean absolute error of centre-cropped images, with their gradient.
//!
//! fastMRI's images are around 1e-4, so a window's variance is a difference of numbers around 1e-8 that almost
//! cancel. All sums are therefore in f64, whatever the images are in.

use std::array::from_fn;

use rayon::prelude::*;

use super::Cpu;
use super::rows::lane_sum;
use crate::backend::{LossShape, LossWeights, SSIM_WINDOW as WINDOW};
use crate::real::Real;

const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// See [`crate::backend::ImageLoss`]. Returns the two losses.
#[allow(clippy::too_many_arguments)]
pub fn image_loss<T: Real>(
    cpu: &Cpu<T>,
    shape: LossShape,
    weights: LossWeights,
    scale: f64,
    output: &[T],
    target: &[T],
    max_value: &[f64],
    d_output: &mut [T],
) -> [f64; 2] {
    assert_eq!(max_value.len(), shape.n, "one max_value a slice");
    let crop = Crop::new(shape);
    let [height, width] = crop.size;
    let windows = Windows::of(crop);

    let mut slopes = cpu.shelf.take::<f64>(shape.n * windows.rows * windows.slopes_of_row());
    let similarity = windows.measure(cpu, crop, output, target, max_value, &mut slopes);
    let mean_ssim = similarity / (shape.n * windows.count()).max(1) as f64;

    let pixels = (shape.n * height * width) as f64;
    let of_slope = -scale * weights.ssim / (shape.n * windows.count()).max(1) as f64;
    let of_sign = scale * weights.l1 / pixels;
    let [output_rows, output_columns] = shape.output;
    let differences: Vec<f64> = d_output[..shape.n * output_rows * output_columns]
        .par_chunks_exact_mut(output_columns)
        .enumerate()
        .map_init(
            || cpu.shelf.take::<f64>(3 * (windows.padded_columns() + width)),
            |scratch, (i, d_row)| {
                d_row.fill(T::zero());
                let (n, y) = (i / output_rows, (i % output_rows).wrapping_sub(crop.output[0]));
                if y >= height {
                    return 0.0;
                }
                let d_row = &mut d_row[crop.output[1]..][..width];
                let (x, y_target) = (crop.output_row(output, n, y), crop.target_row(target, n, y));
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        windows.spread(&slopes, n, y, scratch);
                        let (_, spread) = scratch.split_at(3 * windows.padded_columns());
                        let spread =
                            spread[..width].iter().zip(&spread[width..2 * width]).zip(&spread[2 * width..]);
                        let pixels = x.iter().zip(y_target).zip(spread);
                        for (d, ((x, y), ((of_x, of_xx), of_xy))) in d_row.iter_mut().zip(pixels) {
                            let (x, y) = (x.as_f64(), y.as_f64());
                            let slope = of_x + 2.0 * x * of_xx + y * of_xy;
                            *d = T::real(of_slope * slope + of_sign * sign(x - y));
                        }
                        lane_sum([x, y_target], |[x, y]| (x.as_f64() - y.as_f64()).abs())
                    },
                )
            },
        )
        .collect();
    let ssim_loss = if windows.count() == 0 { 0.0 } else { 1.0 - mean_ssim };
    [ssim_loss, differences.iter().sum::<f64>() / pixels]
}

/// 0 at 0, as PyTorch has it.
#[inline(always)]
fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

/// The part that output and target have in common: its size, and where it begins in each.
#[derive(Clone, Copy)]
struct Crop {
    shape: LossShape,
    size: [usize; 2],
    output: [usize; 2],
    target: [usize; 2],
}

impl Crop {
    fn new(shape: LossShape) -> Self {
        let size = [0, 1].map(|axis| shape.output[axis].min(shape.target[axis]));
        let begin = |image: [usize; 2]| [0, 1].map(|axis| (image[axis] - size[axis]) / 2);
        Self { shape, size, output: begin(shape.output), target: begin(shape.target) }
    }

    fn output_row<T>(self, output: &[T], n: usize, y: usize) -> &[T] {
        let [rows, columns] = self.shape.output;
        &output[(n * rows + self.output[0] + y) * columns + self.output[1]..][..self.size[1]]
    }

    fn target_row<T>(self, target: &[T], n: usize, y: usize) -> &[T] {
        let [rows, columns] = self.shape.target;
        &target[(n * rows + self.target[0] + y) * columns + self.target[1]..][..self.size[1]]
    }
}

/// See [`crate::backend::CropToTarget`].
pub fn crop_to_target<T: Real>(shape: LossShape, output: &[T], target: &mut [T]) {
    let crop = Crop::new(shape);
    for (n, y) in (0..shape.n).flat_map(|n| (0..crop.size[0]).map(move |y| (n, y))) {
        let [rows, columns] = shape.target;
        let row = &mut target[(n * rows + crop.target[0] + y) * columns + crop.target[1]..][..crop.size[1]];
        row.copy_from_slice(crop.output_row(output, n, y));
    }
}

/// The windows that lie wholly within a crop. Each has three slopes: ∂SSIM/∂ of its mean of x, of x² and of x·y.
#[derive(Clone, Copy)]
struct Windows {
    rows: usize,
    columns: usize,
}

impl Windows {
    fn of(crop: Crop) -> Self {
        let [rows, columns] = crop.size.map(|size| (size + 1).saturating_sub(WINDOW));
        Self { rows, columns }
    }

    fn count(self) -> usize {
        self.rows * self.columns
    }

    fn slopes_of_row(self) -> usize {
        3 * self.columns
    }

    /// Columns with room for a window's overhang on both sides.
    fn padded_columns(self) -> usize {
        self.columns + 2 * (WINDOW - 1)
    }

    /// The sum of SSIM over all windows of all slices; `slopes`: `[N, window rows, 3, window columns]`.
    fn measure<T: Real>(
        self,
        cpu: &Cpu<T>,
        crop: Crop,
        output: &[T],
        target: &[T],
        max_value: &[f64],
        slopes: &mut [f64],
    ) -> f64 {
        if self.count() == 0 {
            return 0.0;
        }
        let width = crop.size[1];
        let rows = slopes.par_chunks_exact_mut(self.slopes_of_row()).enumerate();
        let sums: Vec<f64> = rows
            .map_init(
                || cpu.shelf.take::<f64>(5 * (width + self.columns)),
                |scratch, (i, slopes)| {
                    let (n, first) = (i / self.rows, i % self.rows);
                    let constants = [K1, K2].map(|k| (k * max_value[n]).powi(2));
                    let (vertical, means) = scratch.split_at_mut(5 * width);
                    cpu.vectorised(
                        #[inline(always)]
                        || {
                            vertical.fill(0.0);
                            for y in first..first + WINDOW {
                                let x = crop.output_row(output, n, y);
                                add_products(x, crop.target_row(target, n, y), vertical);
                            }
                            box_rows(vertical, width, means, self.columns);
                            similarities(means, constants, slopes)
                        },
                    )
                },
            )
            .collect();
        sums.iter().sum()
    }

    /// What the windows around each pixel of row `y` hand back to it: the adjoint of the box filter, applied to
    /// the three slopes. The three results, a row of the crop each, lie behind `3·padded_columns` of `scratch`.
    #[inline(always)]
    fn spread(self, slopes: &[f64], n: usize, y: usize, scratch: &mut [f64]) {
        let padded = self.padded_columns();
        let (sums, spread) = scratch.split_at_mut(3 * padded);
        if self.count() == 0 {
            return spread.fill(0.0);
        }
        sums.fill(0.0);
        for row in (y + 1).saturating_sub(WINDOW)..=y.min(self.rows - 1) {
            let slopes = &slopes[(n * self.rows + row) * self.slopes_of_row()..][..self.slopes_of_row()];
            for (sums, slopes) in sums.chunks_exact_mut(padded).zip(slopes.chunks_exact(self.columns)) {
                for (sum, slope) in sums[WINDOW - 1..].iter_mut().zip(slopes) {
                    *sum += slope;
                }
            }
        }
        box_rows(sums, padded, spread, padded + 1 - WINDOW);
    }
}

/// Adds x, y, x², y², x·y of a row to the five rows of `sums`.
#[inline(always)]
fn add_products<T: Real>(x: &[T], y: &[T], sums: &mut [f64]) {
    let mut sums = sums.chunks_exact_mut(x.len());
    let [of_x, of_y, of_xx, of_yy, of_xy] = from_fn(|_| sums.next().expect("five rows"));
    for i in 0..x.len() {
        let (x, y) = (x[i].as_f64(), y[i].as_f64());
        of_x[i] += x;
        of_y[i] += y;
        of_xx[i] += x * x;
        of_yy[i] += y * y;
        of_xy[i] += x * y;
    }
}

/// Sums of `WINDOW` neighbours over the window's area, for each row of `from`; `to` has `WINDOW − 1` columns less.
#[inline(always)]
fn box_rows(from: &[f64], from_columns: usize, to: &mut [f64], to_columns: usize) {
    for (from, to) in from.chunks_exact(from_columns).zip(to.chunks_exact_mut(to_columns)) {
        for (i, to) in to.iter_mut().enumerate() {
            let sum: f64 = from[i..i + WINDOW].iter().sum();
            *to = sum / (WINDOW * WINDOW) as f64;
        }
    }
}

/// SSIM of each window of a row from its five means, and its slopes; returns the sum.
#[inline(always)]
fn similarities(means: &[f64], [c1, c2]: [f64; 2], slopes: &mut [f64]) -> f64 {
    let columns = slopes.len() / 3;
    let sample = (WINDOW * WINDOW) as f64 / (WINDOW * WINDOW - 1) as f64;
    let mut sum = 0.0;
    for i in 0..columns {
        let mean = |quantity: usize| means[quantity * columns + i];
        let (ux, uy, uxx, uyy, uxy) = (mean(0), mean(1), mean(2), mean(3), mean(4));
        let (vx, vy, vxy) = (sample * (uxx - ux * ux), sample * (uyy - uy * uy), sample * (uxy - ux * uy));
        let (a1, a2) = (2.0 * ux * uy + c1, 2.0 * vxy + c2);
        let (b1, b2) = (ux * ux + uy * uy + c1, vx + vy + c2);
        let ssim = a1 * a2 / (b1 * b2);
        sum += ssim;
        // vx and vxy contain ux as well.
        let from_a = 2.0 * uy * (a2 - sample * a1) / (b1 * b2);
        let from_b = 2.0 * ux * (1.0 / b1 - sample / b2) * ssim;
        slopes[i] = from_a - from_b;
        slopes[columns + i] = -ssim * sample / b2;
        slopes[2 * columns + i] = 2.0 * sample * a1 / (b1 * b2);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::*;

    const SHAPES: [LossShape; 5] = [
        LossShape { n: 1, output: [7, 7], target: [7, 7] },
        LossShape { n: 2, output: [9, 14], target: [9, 14] },
        LossShape { n: 2, output: [12, 11], target: [9, 8] },
        LossShape { n: 1, output: [8, 23], target: [13, 20] },
        LossShape { n: 1, output: [15, 9], target: [10, 16] },
    ];
    const BOTH: LossWeights = LossWeights { ssim: 0.7, l1: 0.2 };

    fn image(seed: u64, n: usize, [height, width]: [usize; 2]) -> Vec<f64> {
        values(seed, n * height * width).iter().map(|v| v.abs()).collect()
    }

    fn images(shape: LossShape) -> (Vec<f64>, Vec<f64>) {
        (image(1, shape.n, shape.output), image(2, shape.n, shape.target))
    }

    fn max_value(n: usize) -> Vec<f64> {
        (0..n).map(|n| 1.1 - 0.2 * n as f64).collect()
    }

    fn loss<T: Real>(
        shape: LossShape,
        weights: LossWeights,
        scale: f64,
        output: &[T],
        target: &[T],
        max_value: &[f64],
    ) -> ([f64; 2], Vec<T>) {
        let mut d_output = vec![T::real(f64::NAN); output.len()];
        let cpu = Cpu::default();
        let parts = image_loss(&cpu, shape, weights, scale, output, target, max_value, &mut d_output);
        (parts, d_output)
    }

    #[test]
    fn a_cropped_output_is_compared_with_itself() {
        for shape in SHAPES {
            let (output, before) = images(shape);
            let mut target = before.clone();
            crop_to_target(shape, &output, &mut target);
            assert_eq!(loss(shape, BOTH, 1.0, &output, &target, &max_value(shape.n)).0, [0.0, 0.0]);
            // Around it nothing has changed.
            let [rows, columns] = shape.target;
            let inside = |i: usize| {
                [(i / columns % rows, 0), (i % columns, 1)].into_iter().all(|(at, axis)| {
                    let rest = shape.target[axis] - shape.crop()[axis];
                    (rest / 2..rest / 2 + shape.crop()[axis]).contains(&at)
                })
            };
            let kept =
                (0..before.len()).filter(|&i| !inside(i)).inspect(|&i| assert_eq!(target[i], before[i]));
            assert_eq!(kept.count(), before.len() - shape.n * shape.crop()[0] * shape.crop()[1]);
        }
    }

    /// Both parts, window by window with two-pass variances.
    fn naive_loss(shape: LossShape, output: &[f64], target: &[f64], max_value: &[f64]) -> [f64; 2] {
        let [h, w] = [0, 1].map(|axis| shape.output[axis].min(shape.target[axis]));
        let pixel = |image: &[f64], [rows, columns]: [usize; 2], n: usize, y: usize, x: usize| {
            image[(n * rows + (rows - h) / 2 + y) * columns + (columns - w) / 2 + x]
        };
        let (mut ssim, mut windows, mut error) = (0.0, 0.0, 0.0);
        for (n, max_value) in max_value.iter().enumerate() {
            let pair = |y, x| (pixel(output, shape.output, n, y, x), pixel(target, shape.target, n, y, x));
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                error += (pair(y, x).0 - pair(y, x).1).abs() / (shape.n * h * w) as f64;
            }
            for (y, x) in (0..h - 6).flat_map(|y| (0..w - 6).map(move |x| (y, x))) {
                let window: Vec<(f64, f64)> = (0..49).map(|i| pair(y + i / 7, x + i % 7)).collect();
                let mean = |f: &dyn Fn((f64, f64)) -> f64| window.iter().map(|&p| f(p)).sum::<f64>() / 49.0;
                let (ux, uy) = (mean(&|(x, _)| x), mean(&|(_, y)| y));
                let covariance = |f: &dyn Fn((f64, f64)) -> f64| mean(f) * 49.0 / 48.0;
                let vx = covariance(&|(x, _)| (x - ux).powi(2));
                let vy = covariance(&|(_, y)| (y - uy).powi(2));
                let vxy = covariance(&|(x, y)| (x - ux) * (y - uy));
                let (c1, c2) = ((0.01 * max_value).powi(2), (0.03 * max_value).powi(2));
                ssim += (2.0 * ux * uy + c1) * (2.0 * vxy + c2) / ((ux * ux + uy * uy + c1) * (vx + vy + c2));
                windows += 1.0;
            }
        }
        [1.0 - ssim / windows, error]
    }

    #[test]
    fn both_parts_are_their_definitions() {
        for shape in SHAPES {
            let (output, target) = images(shape);
            let max_value = max_value(shape.n);
            let (parts, _) = loss(shape, BOTH, 3.0, &output, &target, &max_value);
            assert_close(&parts, &naive_loss(shape, &output, &target, &max_value), 1e-13);
        }
    }

    #[test]
    fn gradients_of_each_weight_and_of_both_are_right() {
        for shape in SHAPES {
            let (output, target) = images(shape);
            let max_value = max_value(shape.n);
            for weights in [BOTH, LossWeights { ssim: 1.0, l1: 0.0 }, LossWeights { ssim: 0.0, l1: 1.0 }] {
                let total = |output: &[f64]| {
                    let [ssim, l1] = naive_loss(shape, output, &target, &max_value);
                    -2.5 * (weights.ssim * ssim + weights.l1 * l1)
                };
                let (_, d_output) = loss(shape, weights, -2.5, &output, &target, &max_value);
                assert_gradient(total, &output, &d_output);
            }
        }
    }

    #[test]
    fn equal_images_have_no_loss_and_no_gradient() {
        let shape = SHAPES[1];
        let (output, _) = images(shape);
        let (parts, d_output) = loss(shape, BOTH, 1.0, &output, &output, &max_value(shape.n));
        assert_close(&parts, &[0.0, 0.0], 1e-14);
        assert_close(&d_output, &vec![0.0; output.len()], 1e-14);
    }

    /// fastMRI after `torch.set_default_dtype(torch.float64)`: `i = torch.arange(n*h*w).reshape(n, h, w)`;
    /// `img(h, w, a) = (a*i).sin().abs() + 0.1*i/(n*h*w)`; `x = img(9, 12, 0.37)`; `y = img(11, 10, 0.41)`, n = 2;
    /// `t, o = center_crop_to_smallest(y, x)`; `0.7*SSIMLoss()(o, t, data_range=[1.1, 0.9]) + 0.2*l1_loss(o, t)`.
    #[test]
    fn loss_and_gradient_are_those_of_fastmri() {
        let shape = LossShape { n: 2, output: [9, 12], target: [11, 10] };
        let image = |len: usize, a: f64| -> Vec<f64> {
            (0..len).map(|i| (a * i as f64).sin().abs() + 0.1 * i as f64 / len as f64).collect()
        };
        let (output, target) = (image(2 * 9 * 12, 0.37), image(2 * 11 * 10, 0.41));
        let (parts, d_output) = loss(shape, BOTH, 1.0, &output, &target, &[1.1, 0.9]);
        assert_close(&parts, &[1.060171828105934, 0.35339333878492385], 1e-14);
        let picked = [4 * 12 + 5, 9 * 12 + 8 * 12 + 10, 9 * 12 + 1, 0].map(|i| d_output[i]);
        let expected = [0.03776801111342885, -0.001981873626931083, -0.002214261912726752, 0.0];
        assert_close(&picked, &expected, 1e-15);
        let total: f64 = d_output.iter().map(|d| d.abs()).sum();
        assert_close(&[total], &[1.9996642081014298], 1e-14);
    }

    #[test]
    fn images_of_1e_4_keep_their_variances_in_f32() {
        let shape = LossShape { n: 1, output: [20, 20], target: [20, 20] };
        // Bright and nearly flat: in f32, E[x²] − E[x]² would be mostly rounding.
        let flat = |seed| image(seed, 1, shape.output).iter().map(|v| 1e-4 * (1.0 + 1e-3 * v)).collect();
        let [output, target]: [Vec<f64>; 2] = [1, 2].map(flat);
        let rounded = |image: &[f64]| image.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (output, target) = (rounded(&output), rounded(&target));
        let back = |image: &[f32]| image.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let (parts, d_output) = loss(shape, BOTH, 1.0, &output, &target, &[1e-6]);
        let exact = loss(shape, BOTH, 1.0, &back(&output), &back(&target), &[1e-6]);
        assert_close(&parts, &exact.0, 1e-14);
        assert_close(&back(&d_output), &exact.1, 1e-6);
    }

    #[test]
    fn small_images_have_l1_alone() {
        let shape = LossShape { n: 1, output: [6, 20], target: [9, 20] };
        let (output, target) = images(shape);
        let (parts, d_output) =
            loss(shape, LossWeights { ssim: 0.0, l1: 1.0 }, 1.0, &output, &target, &[1.0]);
        assert_eq!(parts[0], 0.0);
        assert!(d_output.iter().all(|d| d.abs() == 1.0 / 120.0));
        let message = shape.check(BOTH).expect_err("no window fits").to_string();
        assert!(message.contains("7x7") && message.contains("6x20"), "{message}");
    }

    #[test]
    fn a_nan_reaches_the_caller() {
        let shape = SHAPES[1];
        let (mut output, target) = images(shape);
        output[50] = f64::NAN;
        let (parts, _) = loss(shape, BOTH, 1.0, &output, &target, &max_value(shape.n));
        assert!(parts.iter().all(|part| part.is_nan()));
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = SHAPES[2];
        let (output, target) = images(shape);
        assert_same_bits(|| {
            let (parts, d_output) = loss(shape, BOTH, 1.0, &output, &target, &max_value(shape.n));
            [d_output, parts.to_vec()].concat()
        });
    }
}
