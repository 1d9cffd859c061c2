//! What each operation has to do at the least: every operand read or written once, and the arithmetic of its definition.
//!
//! Two convolutions of a backward pass read their operands once between them. Statistics, weights and sums over planes
//! are small and count where they are read; a transform of n complex points counts as 5·n·log₂ n, as is usual. Feature
//! maps and their gradients count the bytes that they are stored with in a precision.

use std::iter::Sum;
use std::ops::Add;

use crate::backend::{ImageShape, LossShape, MapShape};
use crate::precision::Precision;

/// Bytes, and floating-point operations; a multiply-add is two.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Cost {
    pub bytes: f64,
    /// Products that a matrix unit can do.
    pub matrix_flop: f64,
    /// All other arithmetic.
    pub flop: f64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            matrix_flop: self.matrix_flop + other.matrix_flop,
            flop: self.flop + other.flop,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// Of float32.
const REAL: f64 = size_of::<f32>() as f64;
/// Normalising and activating a value, or undoing it.
const NORM: f64 = 4.0;

fn moved(reals: usize) -> Cost {
    Cost { bytes: REAL * reals as f64, ..Cost::default() }
}

/// Values of feature maps or of their gradients.
fn moved_maps(precision: Precision, values: usize) -> Cost {
    Cost { bytes: (precision.map_bytes() * values) as f64, ..Cost::default() }
}

fn flop(count: f64) -> Cost {
    Cost { flop: count, ..Cost::default() }
}

fn products(count: usize) -> Cost {
    Cost { matrix_flop: 2.0 * count as f64, ..Cost::default() }
}

fn transform(points: usize, length: usize) -> Cost {
    flop(5.0 * points as f64 * (length as f64).log2())
}

/// Complex points of all coil images.
fn points(shape: ImageShape) -> usize {
    shape.multicoil() / 2
}

/// `P(S·v)` of all coils: a product, two transforms of every row.
fn projection(shape: ImageShape) -> Cost {
    let points = points(shape);
    transform(2 * points, shape.columns) + flop(6.0 * points as f64)
}

pub fn copy(reals: usize) -> Cost {
    moved(2 * reals)
}

pub fn clear(reals: usize) -> Cost {
    moved(reals)
}

pub fn ifft2c(shape: ImageShape) -> Cost {
    let points = points(shape);
    moved(2 * shape.multicoil()) + transform(points, shape.rows) + transform(points, shape.columns)
}

pub fn unet_input(precision: Precision, shape: ImageShape, map: MapShape) -> Cost {
    let reals = shape.multicoil();
    moved(reals) + moved_maps(precision, map.len()) + flop(5.0 * reals as f64)
}

pub fn unet_output(precision: Precision, shape: ImageShape, map: MapShape) -> Cost {
    let reals = shape.multicoil();
    moved(reals) + moved_maps(precision, map.len().min(reals)) + flop(2.0 * reals as f64)
}

/// The gradient of the image in, of the map out, and the map for the gradient of the moments.
pub fn unet_output_backward(precision: Precision, shape: ImageShape, map: MapShape) -> Cost {
    let reals = shape.multicoil();
    let maps = moved_maps(precision, reals.min(map.len()) + map.len());
    moved(reals) + maps + flop(5.0 * reals as f64)
}

pub fn unet_input_backward(precision: Precision, shape: ImageShape, map: MapShape) -> Cost {
    let reals = shape.multicoil();
    moved(reals) + moved_maps(precision, 2 * reals.min(map.len())) + flop(8.0 * reals as f64)
}

/// Of a layer with so many weights, and so many products with each input value.
fn layer(precision: Precision, inputs: usize, output: MapShape, weights: usize, multiplies: usize) -> Cost {
    moved_maps(precision, inputs + output.len())
        + moved(weights)
        + products(multiplies)
        + flop(NORM * (inputs + output.len()) as f64)
}

/// A layer's backward: its inputs, its output and that one's gradient in; the gradients of inputs and weights out.
fn layer_backward(
    precision: Precision,
    inputs: usize,
    d_inputs: usize,
    output: MapShape,
    weights: usize,
    [data, weight]: [usize; 2],
) -> Cost {
    moved_maps(precision, inputs + 2 * output.len() + d_inputs)
        + moved(2 * weights)
        + products(data + weight)
        + flop(NORM * (inputs + output.len() + d_inputs) as f64)
}

pub fn conv3x3(precision: Precision, inputs: &[MapShape], output: MapShape, weights: usize) -> Cost {
    let channels: usize = inputs.iter().map(|input| input.channels).sum();
    let reals = inputs.iter().map(MapShape::len).sum();
    layer(precision, reals, output, weights, 9 * channels * output.len())
}

/// `wanted`: whether the gradient of each input is asked for.
pub fn conv3x3_backward(
    precision: Precision,
    inputs: &[MapShape],
    wanted: &[bool],
    output: MapShape,
    weights: usize,
) -> Cost {
    let channels = |maps: &mut dyn Iterator<Item = &MapShape>| maps.map(|map| map.channels).sum::<usize>();
    let asked: Vec<MapShape> = inputs.iter().zip(wanted).filter(|(_, w)| **w).map(|(map, _)| *map).collect();
    let products = [channels(&mut asked.iter()), channels(&mut inputs.iter())].map(|c| 9 * c * output.len());
    let [reals, d_reals] = [inputs, &asked].map(|maps| maps.iter().map(MapShape::len).sum());
    layer_backward(precision, reals, d_reals, output, weights, products)
}

pub fn conv1x1(precision: Precision, input: MapShape, output: MapShape, weights: usize) -> Cost {
    layer(precision, input.len(), output, weights, input.channels * output.len())
}

pub fn conv1x1_backward(precision: Precision, input: MapShape, output: MapShape, weights: usize) -> Cost {
    // There is no norm to be undone: the output is not needed.
    let needless = moved_maps(precision, output.len());
    let both = [input.channels * output.len(); 2];
    let cost = layer_backward(precision, input.len(), input.len(), output, weights, both);
    Cost { bytes: cost.bytes - needless.bytes, ..cost }
}

pub fn conv_transpose(precision: Precision, input: MapShape, output: MapShape, weights: usize) -> Cost {
    layer(precision, input.len(), output, weights, input.channels * output.len())
}

pub fn conv_transpose_backward(
    precision: Precision,
    input: MapShape,
    output: MapShape,
    weights: usize,
) -> Cost {
    layer_backward(precision, input.len(), input.len(), output, weights, [input.channels * output.len(); 2])
}

pub fn avg_pool(precision: Precision, input: MapShape, output: MapShape) -> Cost {
    moved_maps(precision, input.len() + output.len()) + flop(NORM * input.len() as f64)
}

/// The gradient is read and written where it lies, beside the map.
pub fn avg_pool_backward(precision: Precision, input: MapShape, output: MapShape) -> Cost {
    moved_maps(precision, 3 * input.len() + output.len()) + flop(NORM * input.len() as f64)
}

pub fn divide_by_rss(shape: ImageShape) -> Cost {
    moved(2 * shape.multicoil()) + flop(3.0 * shape.multicoil() as f64)
}

/// The raw maps tell no more than S and their root, which is combined; d_sens is read and written.
pub fn divide_by_rss_backward(shape: ImageShape) -> Cost {
    moved(4 * shape.multicoil()) + flop(6.0 * shape.multicoil() as f64)
}

pub fn sens_reduce(shape: ImageShape) -> Cost {
    moved(2 * shape.multicoil() + shape.combined()) + flop(8.0 * points(shape) as f64)
}

/// S once, and four combined images.
pub fn cascade_input(shape: ImageShape) -> Cost {
    moved(shape.multicoil() + 4 * shape.combined()) + projection(shape) + flop(8.0 * points(shape) as f64)
}

/// S once, v, and what is added to.
pub fn normal_operator(shape: ImageShape) -> Cost {
    moved(shape.multicoil() + 3 * shape.combined()) + projection(shape) + flop(8.0 * points(shape) as f64)
}

pub fn cascade_dc(reals: usize) -> Cost {
    moved(3 * reals) + flop(3.0 * reals as f64)
}

/// With m, which is subtracted from, or without.
pub fn cascade_update(reals: usize, with_m: bool) -> Cost {
    let m = usize::from(with_m);
    moved((3 + 2 * m) * reals) + flop((1 + m) as f64 * reals as f64)
}

/// u, v and d_m, and three gradients that are changed.
pub fn cascade_update_backward(reals: usize) -> Cost {
    moved(9 * reals) + flop(9.0 * reals as f64)
}

pub fn rss_output(shape: ImageShape) -> Cost {
    let images = moved(2 * shape.multicoil() + 2 * shape.combined() + shape.combined() / 2);
    images + projection(shape) + flop(12.0 * points(shape) as f64)
}

/// The coil images once more, and the projection of their gradients.
pub fn rss_output_backward(shape: ImageShape) -> Cost {
    let images = moved(3 * shape.multicoil() + 5 * shape.combined());
    images + projection(shape) + projection(shape) + flop(30.0 * points(shape) as f64)
}

/// S, x₀ and the gradient of S (twice) once; each pair's two images, and two projections.
pub fn sens_backward(shape: ImageShape, pairs: usize) -> Cost {
    let images = moved(4 * shape.multicoil() + (1 + 2 * pairs) * shape.combined());
    let projections = (0..2 * pairs).map(|_| projection(shape) + flop(8.0 * points(shape) as f64)).sum();
    images + projections + flop(8.0 * points(shape) as f64)
}

/// Both images and the gradient; five sums over windows, once for values and once for the gradient.
pub fn image_loss(shape: LossShape) -> Cost {
    let images = |[rows, columns]: [usize; 2]| shape.n * rows * columns;
    let window = (crate::backend::SSIM_WINDOW * crate::backend::SSIM_WINDOW) as f64;
    moved(2 * images(shape.output) + images(shape.target)) + flop(8.0 * window * images(shape.crop()) as f64)
}

pub fn crop_to_target(shape: LossShape) -> Cost {
    let [height, width] = shape.crop();
    moved(2 * shape.n * height * width)
}

pub fn label_noise(reals: usize) -> Cost {
    moved(2 * reals) + flop(40.0 * reals as f64)
}

/// Parameters and both moments in and out, the gradient twice, for its norm comes before its use, and so a mask.
pub fn update(parameters: usize, masked: bool) -> Cost {
    let arrays = if masked { 10 } else { 8 };
    moved(arrays * parameters) + flop(20.0 * parameters as f64)
}

pub fn add_squares(parameters: usize) -> Cost {
    moved(3 * parameters) + flop(3.0 * parameters as f64)
}

/// Both importances in, the parameters in and out.
pub fn dampen(parameters: usize) -> Cost {
    moved(4 * parameters) + flop(8.0 * parameters as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted() {
        let map = |channels| MapShape { n: 2, channels, height: 10, width: 6 };
        let fp32 = Precision::Fp32;
        let forward = conv3x3(fp32, &[map(3), map(5)], map(7), 7 * 8 * 9);
        assert_eq!(forward.matrix_flop, 2.0 * 9.0 * 8.0 * 7.0 * 120.0);
        assert_eq!(forward.bytes, 4.0 * (8.0 * 120.0 + 7.0 * 120.0 + 504.0));
        let stored = conv3x3(Precision::Bf16, &[map(3), map(5)], map(7), 7 * 8 * 9);
        assert_eq!(stored, Cost { bytes: 2.0 * (8.0 * 120.0 + 7.0 * 120.0) + 4.0 * 504.0, ..forward });
        let backward = conv3x3_backward(fp32, &[map(3), map(5)], &[true, true], map(7), 504);
        assert_eq!(backward.matrix_flop, 2.0 * forward.matrix_flop);
        let first = conv3x3_backward(fp32, &[map(3), map(5)], &[false, true], map(7), 504);
        assert_eq!(first.matrix_flop, forward.matrix_flop * (1.0 + 5.0 / 8.0));
        assert_eq!(backward.bytes - first.bytes, 4.0 * 3.0 * 120.0);
        let up = conv_transpose(fp32, map(4), MapShape { n: 2, channels: 2, height: 20, width: 12 }, 32);
        assert_eq!(up.matrix_flop, 2.0 * 4.0 * 4.0 * 2.0 * 120.0);
    }
}
