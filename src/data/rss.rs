//! The reference images of data that come without: root-sum-of-squares of the fully sampled coil images.

use num_complex::{Complex32, Complex64};
use rustfft::FftPlanner;

/// What fastMRI stores as `reconstruction_rss`, before it is cropped: `ifft2c` (centred, orthonormal) of each coil's
/// k-space, and the root of the sum of squares over coils. `kspace`: `[coils, rows, columns]`; gives `[rows, columns]`.
///
/// In double precision, rounded once: the image depends on no vector width.
pub fn root_sum_of_squares(kspace: &[Complex32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let pixels = rows * columns;
    let mut planner = FftPlanner::new();
    let (along_rows, along_columns) = (planner.plan_fft_inverse(columns), planner.plan_fft_inverse(rows));
    let mut sums = vec![0.0f64; pixels];
    // Transposed while columns are transformed; the centre's shift changes the images' phases and where pixels lie.
    let (mut plane, mut transposed) = (vec![Complex64::ZERO; pixels], vec![Complex64::ZERO; pixels]);
    for coil in kspace.chunks_exact(pixels) {
        for (y, row) in coil.chunks_exact(columns).enumerate() {
            for (x, z) in row.iter().enumerate() {
                plane[uncentred(y, rows) * columns + uncentred(x, columns)] =
                    Complex64::new(f64::from(z.re), f64::from(z.im));
            }
        }
        along_rows.process(&mut plane);
        for (y, row) in plane.chunks_exact(columns).enumerate() {
            for (x, &z) in row.iter().enumerate() {
                transposed[x * rows + y] = z;
            }
        }
        along_columns.process(&mut transposed);
        for (sum, z) in sums.iter_mut().zip(&transposed) {
            *sum += z.norm_sqr();
        }
    }
    let scale = 1.0 / pixels as f64;
    let mut image = vec![0.0; pixels];
    for (y, row) in image.chunks_exact_mut(columns).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = (sums[uncentred(x, columns) * rows + uncentred(y, rows)] * scale).sqrt() as f32;
        }
    }
    image
}

/// Where `ifftshift` puts the element at `at`; what lies there comes back to `at` by `fftshift`.
fn uncentred(at: usize, len: usize) -> usize {
    (at + len.div_ceil(2)) % len
}
