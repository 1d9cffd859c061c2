//! Rows of complex images as slices, and sums whose order is fixed by the data alone.

use std::array::from_fn;

use num_complex::Complex;

use crate::backend::ImageShape;
use crate::real::Real;

/// Reals that one task of an element-wise pass takes: fixed, so that sums over tasks are too.
pub const CHUNK: usize = 1 << 13;

/// Interleaved reals as complex numbers.
pub fn complex<T: Real>(reals: &[T]) -> &[Complex<T>] {
    bytemuck::cast_slice(reals)
}

/// Interleaved reals as complex numbers.
pub fn complex_mut<T: Real>(reals: &mut [T]) -> &mut [Complex<T>] {
    bytemuck::cast_slice_mut(reals)
}

/// Where a coil-combined row lies: its slice of the batch, and its number there.
#[derive(Clone, Copy)]
pub struct Row {
    pub n: usize,
    pub y: usize,
}

impl Row {
    /// The `index`-th row of `[N, rows]`.
    pub fn of(shape: ImageShape, index: usize) -> Self {
        Self { n: index / shape.rows, y: index % shape.rows }
    }

    /// This row of a coil-combined array `[N, rows, columns]`.
    pub fn combined<V>(self, shape: ImageShape, array: &[V]) -> &[V] {
        &array[(self.n * shape.rows + self.y) * shape.columns..][..shape.columns]
    }

    /// This row of one coil of a multi-coil array `[N, coils, rows, columns]`.
    pub fn coil<V>(self, shape: ImageShape, array: &[V], coil: usize) -> &[V] {
        let row = (self.n * shape.coils + coil) * shape.rows + self.y;
        &array[row * shape.columns..][..shape.columns]
    }
}

/// The rows of a multi-coil array `[N, coils, rows, columns]` in the order `[N, rows, coils]`: a task that takes
/// `coils` of them owns one row of all coils.
pub fn coil_rows<V>(shape: ImageShape, array: &mut [V]) -> Vec<&mut [V]> {
    let mut rows = Vec::with_capacity(shape.n * shape.rows * shape.coils);
    for slice in array.chunks_exact_mut(shape.coils * shape.pixels()) {
        let mut coils: Vec<_> =
            slice.chunks_exact_mut(shape.pixels()).map(|coil| coil.chunks_exact_mut(shape.columns)).collect();
        for _ in 0..shape.rows {
            rows.extend(coils.iter_mut().map(|coil| coil.next().expect("every coil has all rows")));
        }
    }
    rows
}

/// `Σ_i f(rows[0][i], rows[1][i], …)` in f64. Partial sums by lane let the loop vectorise whatever the register.
#[inline(always)]
pub fn lane_sum<T: Real, const A: usize>(rows: [&[T]; A], f: impl Fn([T; A]) -> f64) -> f64 {
    const LANES: usize = 16;
    let len = rows[0].len();
    let rows = rows.map(|row| &row[..len]);
    let mut sums = [0.0; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let block = rows.map(|row| &row[start..start + LANES]);
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(from_fn(|a| block[a][lane]));
        }
    }
    for (lane, i) in (whole..len).enumerate() {
        sums[lane] += f(from_fn(|a| rows[a][i]));
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coil_rows_are_grouped_by_row_of_each_slice() {
        let shape = ImageShape { n: 2, coils: 3, rows: 4, columns: 5 };
        let mut array: Vec<usize> = (0..2 * 3 * 4 * 5).collect();
        let expected: Vec<Vec<usize>> = (0..2 * 4)
            .flat_map(|i| (0..3).map(move |coil| (Row::of(shape, i), coil)))
            .map(|(row, coil)| {
                let first = ((row.n * 3 + coil) * 4 + row.y) * 5;
                (first..first + 5).collect()
            })
            .collect();
        for (i, row) in expected.iter().enumerate() {
            assert_eq!(Row::of(shape, i / 3).coil(shape, &array, i % 3), row);
        }
        assert_eq!(coil_rows(shape, &mut array), expected);
    }

    #[test]
    fn a_lane_sum_takes_every_element_once() {
        for len in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let b: Vec<f32> = a.iter().map(|a| a + 1.0).collect();
            let expected: usize = (0..len).map(|i| i * (i + 1)).sum();
            assert_eq!(lane_sum([&a, &b], |[a, b]| a.as_f64() * b.as_f64()), expected as f64);
        }
    }
}
