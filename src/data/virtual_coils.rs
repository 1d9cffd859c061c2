//! Coil compression: K virtual coils in place of the C of the scanner, from a volume's calibration lines.
//!
//! As Buehrer et al., MRM 57:1131 (2007) and Huang et al., MRI 26:133 (2008) do it in k-space: the K principal components
//! of the coils over the densely sampled centre, which are the eigenvectors of the coils' Gram matrix with the largest
//! eigenvalues. One matrix for a volume, so that its slices fit together. What lies outside the calibration columns is not
//! looked at: an undersampled scan gets the matrix that it would have had fully sampled.

use nalgebra::{DMatrix, SymmetricEigen};
use num_complex::{Complex32, Complex64};

/// Pixels that are taken together: what 64 coils have there stays in cache.
const BLOCK: usize = 64;

/// How the coils of one volume are combined.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualCoils {
    /// Coils in the file.
    pub stored: usize,
    /// Coils that remain.
    pub count: usize,
    /// The share of the calibration lines' energy that is in the coils that remain.
    pub energy: f64,
    /// `[count, stored]`; its rows are orthonormal.
    matrix: Vec<Complex64>,
}

impl VirtualCoils {
    /// `None` where there is no energy, or none that can be counted.
    pub(super) fn from_gram(gram: DMatrix<Complex64>, count: usize) -> Option<Self> {
        let stored = gram.nrows();
        let energy = (0..stored).map(|coil| gram[(coil, coil)].re).sum::<f64>();
        if !(energy > 0.0 && energy.is_finite()) {
            return None;
        }
        // k-space of 1e-7 would have squares below what solvers take for zero.
        let eigen = SymmetricEigen::new(gram.unscale(energy));
        let mut order: Vec<usize> = (0..stored).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        order.truncate(count);
        let kept = order.iter().map(|&at| eigen.eigenvalues[at]).sum::<f64>();
        let rows = order.iter().flat_map(|&at| {
            let vector: Vec<Complex64> = eigen.eigenvectors.column(at).iter().copied().collect();
            let turn = turn(&vector);
            vector.into_iter().map(move |z| (z * turn).conj())
        });
        Some(Self { stored, count, energy: kept.clamp(0.0, 1.0), matrix: rows.collect() })
    }

    /// `[stored, pixels]` to `[count, pixels]`, in the same memory.
    pub fn apply(&self, kspace: &mut Vec<Complex32>) {
        let pixels = kspace.len() / self.stored;
        let matrix: Vec<Complex32> =
            self.matrix.iter().map(|z| Complex32::new(z.re as f32, z.im as f32)).collect();
        let mut block = vec![Complex32::ZERO; self.stored * BLOCK];
        for first in (0..pixels).step_by(BLOCK) {
            let len = BLOCK.min(pixels - first);
            for (coil, values) in block.chunks_exact_mut(BLOCK).enumerate() {
                values[..len].copy_from_slice(&kspace[coil * pixels + first..][..len]);
            }
            for (coil, weights) in matrix.chunks_exact(self.stored).enumerate() {
                let mut sums = [Complex32::ZERO; BLOCK];
                for (weight, values) in weights.iter().zip(block.chunks_exact(BLOCK)) {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += weight * value;
                    }
                }
                kspace[coil * pixels + first..][..len].copy_from_slice(&sums[..len]);
            }
        }
        kspace.truncate(self.count * pixels);
    }
}

/// Adds what every pair of coils has in common in the calibration columns of a slice: `sum a·b̄`.
pub(super) fn add_to_gram(
    gram: &mut DMatrix<Complex64>,
    kspace: &[Complex32],
    [rows, columns]: [usize; 2],
    calibration: &[bool],
) {
    let used: Vec<usize> = (0..columns).filter(|&x| calibration[x]).collect();
    let lines: Vec<Vec<Complex64>> = kspace
        .chunks_exact(rows * columns)
        .map(|coil| {
            let rows = coil.chunks_exact(columns);
            rows.flat_map(|row| used.iter().map(|&x| row[x]))
                .map(|z| Complex64::new(z.re.into(), z.im.into()))
                .collect()
        })
        .collect();
    for (a, left) in lines.iter().enumerate() {
        for (b, right) in lines.iter().enumerate().take(a + 1) {
            let sum: Complex64 = left.iter().zip(right).map(|(x, y)| x * y.conj()).sum();
            gram[(a, b)] += sum;
            if a != b {
                gram[(b, a)] += sum.conj();
            }
        }
    }
}

/// What makes the largest entry of an eigenvector real and positive: its phase alone is not determined. Of entries that
/// are as large but for rounding, the first counts.
fn turn(vector: &[Complex64]) -> Complex64 {
    let largest = vector.iter().map(|z| z.norm()).fold(0.0, f64::max);
    let first = vector.iter().find(|z| z.norm() >= largest * (1.0 - 1e-9)).copied().unwrap_or(Complex64::ONE);
    first.conj() / first.norm()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn noise(count: usize) -> Vec<Complex32> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        (0..count)
            .map(|_| Complex32::new(random.random::<f32>() - 0.5, random.random::<f32>() - 0.5))
            .collect()
    }

    fn of(
        kspace: &[Complex32],
        matrix: [usize; 2],
        coils: usize,
        count: usize,
        used: &[bool],
    ) -> VirtualCoils {
        let mut gram = DMatrix::zeros(coils, coils);
        add_to_gram(&mut gram, kspace, matrix, used);
        VirtualCoils::from_gram(gram, count).unwrap()
    }

    #[test]
    fn all_coils_are_a_rotation_that_keeps_the_energy_of_every_pixel() {
        let (coils, matrix) = (5, [9, 15]);
        let kspace = noise(coils * 9 * 15);
        let virtual_coils = of(&kspace, matrix, coils, coils, &[true; 15]);
        approx::assert_relative_eq!(virtual_coils.energy, 1.0, max_relative = 1e-12);
        let mut turned = kspace.clone();
        virtual_coils.apply(&mut turned);
        for pixel in 0..9 * 15 {
            let energy = |k: &[Complex32]| (0..coils).map(|c| k[c * 135 + pixel].norm_sqr()).sum::<f32>();
            approx::assert_relative_eq!(energy(&turned), energy(&kspace), max_relative = 2e-6);
        }
    }

    #[test]
    fn coils_that_say_the_same_are_one() {
        let one = noise(12 * 10);
        let factors = [Complex32::new(1.0, 0.5), Complex32::new(-0.2, 2.0), Complex32::new(0.0, -0.3)];
        let kspace: Vec<Complex32> = factors.iter().flat_map(|f| one.iter().map(move |z| f * z)).collect();
        let virtual_coils = of(&kspace, [12, 10], 3, 1, &[true; 10]);
        approx::assert_relative_eq!(virtual_coils.energy, 1.0, max_relative = 1e-10);
        let mut compressed = kspace.clone();
        virtual_coils.apply(&mut compressed);
        assert_eq!(compressed.len(), 120);
        let norm = |k: &[Complex32]| k.iter().map(|z| f64::from(z.norm_sqr())).sum::<f64>();
        approx::assert_relative_eq!(norm(&compressed), norm(&kspace), max_relative = 1e-6);
    }

    #[test]
    fn only_calibration_columns_are_looked_at() {
        let used: Vec<bool> = (0..15).map(|x| (6..9).contains(&x)).collect();
        let kspace = noise(4 * 9 * 15);
        let mut other = kspace.clone();
        other
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| !used[i % 15])
            .for_each(|(_, z)| *z = Complex32::new(f32::NAN, 1e30));
        assert_eq!(of(&kspace, [9, 15], 4, 2, &used), of(&other, [9, 15], 4, 2, &used));
    }

    #[test]
    fn no_energy_has_no_coils() {
        assert_eq!(VirtualCoils::from_gram(DMatrix::zeros(3, 3), 2), None);
    }
}
