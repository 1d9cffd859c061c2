//! Coil images for the operations that read them: shapes, and numbers of the sizes that occur.

use crate::backend::ImageShape;
use crate::validate::random::Random;

/// Lengths of a transform: 1 and 2; primes and what is made of few small ones; the widths that fastMRI has; and 1021,
/// a prime that no factorisation helps with.
const LENGTHS: [usize; 16] = [1, 2, 3, 7, 16, 23, 31, 64, 320, 322, 368, 372, 396, 640, 1021, 1024];

/// Shapes for operations by pixel: one coil, odd sizes, a batch, more pixels than a block has threads.
pub const SMALL: [ImageShape; 8] = [
    shape(1, 1, 1, 1),
    shape(1, 1, 9, 14),
    shape(2, 3, 7, 11),
    shape(1, 4, 8, 23),
    shape(2, 1, 5, 16),
    shape(3, 2, 2, 3),
    shape(1, 15, 33, 17),
    shape(2, 5, 3, 100),
];

pub const fn shape(n: usize, coils: usize, rows: usize, columns: usize) -> ImageShape {
    ImageShape { n, coils, rows, columns }
}

/// A few rows of each length, and the small shapes.
pub fn with_rows_of_all_lengths() -> Vec<ImageShape> {
    let of_length = LENGTHS.iter().enumerate().map(|(i, &columns)| shape(1 + i % 2, 1 + i % 3, 2, columns));
    of_length.chain(SMALL).collect()
}

/// And a few columns of each.
pub fn of_all_lengths() -> Vec<ImageShape> {
    let mut shapes = with_rows_of_all_lengths();
    shapes.extend(LENGTHS.iter().enumerate().map(|(i, &rows)| shape(1 + (i + 1) % 2, 1 + i % 2, rows, 3)));
    shapes.push(shape(1, 2, 64, 48));
    shapes
}

pub fn random_shape(random: &mut Random) -> ImageShape {
    let columns = if random.coin() { random.one_of(&LENGTHS) } else { random.size(1, 200) };
    shape(random.size(1, 3), random.size(1, 5), random.size(1, 9), columns)
}

/// Sensitivity maps whose root sum of squares is about 1.
pub fn sens_maps(random: &mut Random, shape: ImageShape) -> Vec<f64> {
    let size = (1.5 / shape.coils as f64).sqrt();
    random.uniforms(-size..size, shape.multicoil())
}

/// An image whose rows are in part 0: outside of the object nothing need be transformed.
pub fn image_with_empty_rows(random: &mut Random, shape: ImageShape) -> Vec<f64> {
    let mut image = random.values(shape.combined());
    for (y, row) in image.chunks_exact_mut(2 * shape.columns).enumerate() {
        if y % 3 == 1 {
            row.fill(0.0);
        }
    }
    image
}

/// Roundings of a transform: one for each of a fast transform's log₂ stages. A slow one's sums cost less than twice
/// that up to thousands of points, and so do the convolutions that primes are transformed with.
pub fn transform_roundings(len: usize) -> f64 {
    2.0 + (len as f64).log2()
}
