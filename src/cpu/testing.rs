//! What the tests of the operations share: inputs, poison, comparisons, and definitions written as plain loops.

use num_complex::Complex;

use super::Cpu;
use crate::backend::ImageShape;

/// Sizes that are odd, not square, smaller than a register, not a multiple of one, of one coil and of two slices.
pub const SHAPES: [ImageShape; 6] = [
    ImageShape { n: 1, coils: 1, rows: 9, columns: 14 },
    ImageShape { n: 2, coils: 3, rows: 7, columns: 11 },
    ImageShape { n: 1, coils: 4, rows: 8, columns: 23 },
    ImageShape { n: 2, coils: 1, rows: 5, columns: 16 },
    ImageShape { n: 1, coils: 2, rows: 3, columns: 37 },
    ImageShape { n: 3, coils: 2, rows: 2, columns: 3 },
];

pub fn cpu() -> Cpu<f64> {
    Cpu::default()
}

/// `len` reals in −1..1 that depend on the seed alone.
pub fn values(seed: u64, len: usize) -> Vec<f64> {
    (0..len as u64)
        .map(|i| {
            // SplitMix64.
            let mut x = (seed << 32).wrapping_add(i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (x ^ (x >> 31)) as i64 as f64 / 2f64.powi(63)
        })
        .collect()
}

/// What an output holds before the call that must overwrite it.
pub fn poison(len: usize) -> Vec<f64> {
    vec![f64::NAN; len]
}

/// A mask of each slice's columns, about half of them sampled, in no symmetric order.
pub fn mask(seed: u64, shape: ImageShape) -> Vec<f64> {
    values(seed, shape.n * shape.columns).iter().map(|v| f64::from(*v > 0.1)).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[track_caller]
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let excess = |(got, expected): (&f64, &f64)| {
        let error = (got - expected).abs() / (1.0 + expected.abs());
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let errors = got.iter().zip(expected).map(excess).enumerate();
    if let Some((at, error)) = errors.max_by(|a, b| a.1.total_cmp(&b.1)) {
        assert!(error <= tolerance, "at {at}: {} instead of {} ({error:e})", got[at], expected[at]);
    }
}

/// Central differences of `f` at `x` against its gradient: in two directions through all elements, and by element
/// for some of them.
#[track_caller]
pub fn assert_gradient(f: impl Fn(&[f64]) -> f64, x: &[f64], gradient: &[f64]) {
    assert_eq!(x.len(), gradient.len());
    let step = 1e-5;
    let difference = |direction: &[f64]| {
        let at = |step: f64| {
            f(&x.iter().zip(direction).map(|(x, direction)| x + step * direction).collect::<Vec<_>>())
        };
        (at(step) - at(-step)) / (2.0 * step)
    };
    let largest = gradient.iter().fold(1.0, |max: f64, g| max.max(g.abs()));
    for seed in [901, 902] {
        let direction = values(seed, x.len());
        let (got, expected) = (dot(gradient, &direction), difference(&direction));
        let error = (got - expected).abs() / (largest * (x.len() as f64).sqrt());
        assert!(error < 1e-7, "slope {got} instead of {expected}");
    }
    for at in (0..x.len()).step_by(x.len().div_ceil(23)) {
        let mut direction = vec![0.0; x.len()];
        direction[at] = 1.0;
        let (got, expected) = (gradient[at], difference(&direction));
        assert!((got - expected).abs() < 1e-7 * largest, "at {at}: {got} instead of {expected}");
    }
}

/// Runs `f` with one thread and with two, which must give the same bits.
#[track_caller]
pub fn assert_same_bits(f: impl Fn() -> Vec<f64> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(&f).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
}

/// The centred orthonormal DFT of one line from its definition; `sign` −1 forward, +1 inverse.
fn naive_dft(line: &[Complex<f64>], sign: f64) -> Vec<Complex<f64>> {
    let len = line.len();
    let centred = |i: usize| i as f64 - (len / 2) as f64;
    let factor = |j: usize, k: usize| {
        let angle = sign * std::f64::consts::TAU * centred(j) * centred(k) / len as f64;
        Complex::from_polar((len as f64).powf(-0.5), angle)
    };
    (0..len).map(|k| line.iter().enumerate().map(|(j, x)| x * factor(j, k)).sum()).collect()
}

/// The centred orthonormal 2-D DFT of every image of `[…, rows, columns] c`.
pub fn naive_dft2(shape: ImageShape, images: &[f64], sign: f64) -> Vec<f64> {
    let mut out = super::rows::complex(images).to_vec();
    for image in out.chunks_exact_mut(shape.pixels()) {
        for row in image.chunks_exact_mut(shape.columns) {
            row.copy_from_slice(&naive_dft(row, sign));
        }
        for x in 0..shape.columns {
            let column: Vec<_> = (0..shape.rows).map(|y| image[y * shape.columns + x]).collect();
            for (y, value) in naive_dft(&column, sign).into_iter().enumerate() {
                image[y * shape.columns + x] = value;
            }
        }
    }
    bytemuck::cast_slice(&out).to_vec()
}

/// `P = F⁻¹·mask·F` of multi-coil images with the full 2-D transform, as fastMRI would do it.
pub fn naive_projection(shape: ImageShape, mask: &[f64], images: &[f64]) -> Vec<f64> {
    let mut kspace = naive_dft2(shape, images, -1.0);
    for (i, value) in kspace.iter_mut().enumerate() {
        let pixel = i / 2;
        *value *= mask[pixel / (shape.coils * shape.pixels()) * shape.columns + pixel % shape.columns];
    }
    naive_dft2(shape, &kspace, 1.0)
}
