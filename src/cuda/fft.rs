//! Centred orthonormal transforms of coil images, and how any line is transformed.

use crate::backend;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{C32, Const, ImageShape, Mut};
use crate::cuda::{Buffer, Cuda, blocks_with, int};

/// Points of the longest line that the kernels transform.
pub const LONGEST: usize = 1024;

/// Enough for any length up to [`LONGEST`]: 729 and its like take 6.
const MOST_PASSES: usize = 8;
/// Bytes of a point in the two arrays that a line goes between.
const POINT: usize = 2 * 2 * size_of::<f32>();
/// Shared memory that a block may take for rows: two or three blocks run beside each other.
const ROWS_BYTES: usize = 32 << 10;
/// Shared memory that a block may take for columns: 4 neighbours of the longest, since memory is read 32 bytes at once.
const COLUMNS_BYTES: usize = POINT * 4 * (LONGEST + 1);
const MOST_COLUMNS: usize = 16;
/// Threads of a block, at most.
const THREADS: usize = 256;
/// Points that a thread takes at a time, most often.
const POINTS_PER_THREAD: usize = 8;

crate::parameter_struct! {
    /// How a line of `length` points is transformed: in `passes` of these radices.
    pub struct FftPlan {
        pub twiddles: Const<C32>,
        pub length: i32,
        pub passes: i32,
        pub radices: [i32; MOST_PASSES],
    }
}

crate::kernels! {
    fn ifft_columns(
        kspace: Const<C32>, weights: Const<f32>, images: Mut<C32>, shape: ImageShape, plan: FftPlan, count: i32,
        stride: i32, scale: f32,
    );
    fn ifft_rows(images: Mut<C32>, plan: FftPlan, count: i32, rows: i32);
}

impl FftPlan {
    pub(in crate::cuda) fn new<D: Driver>(cuda: &Cuda<D>, length: usize) -> Self {
        let radices = radices(length);
        let passes = int(radices.len());
        let radices = std::array::from_fn(|i| radices.get(i).map_or(1, |&radix| int(radix)));
        Self { twiddles: cuda.twiddles(length), length: int(length), passes, radices }
    }
}

/// The radices whose product a length is. Odd ones first: what the first pass writes is a radix apart, and an odd
/// stride spreads it over all banks of shared memory.
fn radices(length: usize) -> Vec<usize> {
    let mut rest = length;
    let mut radices = Vec::new();
    for radix in (3..=length).step_by(2) {
        while rest.is_multiple_of(radix) {
            radices.push(radix);
            rest /= radix;
        }
    }
    radices.reverse();
    for radix in [8, 4, 2] {
        while rest.is_multiple_of(radix) {
            radices.push(radix);
            rest /= radix;
        }
    }
    radices
}

/// How many rows of `columns` points a block takes at once, of `all` that it takes in the end; as many each time.
pub(in crate::cuda) fn rows_at_once(columns: usize, all: usize) -> usize {
    let room = (ROWS_BYTES / (POINT * columns)).clamp(1, all.max(1));
    all.div_ceil(all.div_ceil(room).max(1)).max(1)
}

/// Bytes of shared memory for `count` lines, `stride` points apart.
pub(in crate::cuda) fn shared_bytes(count: usize, stride: usize) -> usize {
    POINT * count * stride
}

/// Threads that transform `points` at once, and at least so many.
pub(in crate::cuda) fn threads(points: usize, least: usize) -> u32 {
    points.div_ceil(POINTS_PER_THREAD).max(least).next_multiple_of(32).min(THREADS) as u32
}

/// See [`crate::backend::Backend::ifft2c`].
pub fn ifft2c<D: Driver>(
    cuda: &Cuda<D>,
    shape: backend::ImageShape,
    kspace: &Buffer<D>,
    columns: &Buffer<D>,
    images: &mut Buffer<D>,
) {
    // Lines are stored across: an odd stride spreads neighbours over the banks.
    let stride = shape.rows | 1;
    let room = COLUMNS_BYTES / (POINT * stride);
    let count = MOST_COLUMNS.min(1 << room.ilog2());
    kernel::ifft_columns(
        cuda,
        blocks_with(
            shape.columns.div_ceil(count),
            shape.n * shape.coils,
            1,
            threads(count * shape.rows, MOST_COLUMNS),
            shared_bytes(count, stride),
        ),
        kspace.read_complex(shape.multicoil()),
        columns.read(shape.n * shape.columns),
        images.write_complex(shape.multicoil()),
        shape.into(),
        FftPlan::new(cuda, shape.rows),
        int(count),
        int(stride),
        (1.0 / (shape.pixels() as f64).sqrt()) as f32,
    );
    let rows = shape.n * shape.coils * shape.rows;
    let count = rows_at_once(shape.columns, rows);
    kernel::ifft_rows(
        cuda,
        blocks_with(
            rows.div_ceil(count),
            1,
            1,
            threads(count * shape.columns, 1),
            shared_bytes(count, shape.columns),
        ),
        images.write_complex(shape.multicoil()),
        FftPlan::new(cuda, shape.columns),
        int(count),
        int(rows),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_radices_of_every_length_fit_a_plan() {
        for length in 1..=LONGEST {
            let radices = radices(length);
            assert_eq!(radices.iter().product::<usize>(), length);
            assert!(radices.len() <= MOST_PASSES, "{length}: {radices:?}");
        }
        assert_eq!(radices(368), [23, 8, 2]);
        assert!(radices(1).is_empty());
    }
}
