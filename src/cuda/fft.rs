//! Centred orthonormal transforms of coil images, and how any line is transformed.

use crate::backend::Ifft2c;
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
const COLUMNS_BYTES: usize = POINT * 4 * (LONGEST + 16);
const MOST_COLUMNS: usize = 16;
/// Threads of a block, at most.
const THREADS: usize = 256;
/// Points of shared memory that 16 threads reach at once, if each lies in banks of its own.
const BANKS: usize = 16;
/// Points that a thread takes at a time, most often.
const POINTS_PER_THREAD: usize = 12;

/// Radices that have code of their own, with the instructions that a point costs in their pass (counted for sm_90a).
const RADICES: [(usize, f32); 12] = [
    (2, 22.0),
    (3, 23.0),
    (4, 19.3),
    (5, 21.8),
    (6, 22.2),
    (7, 23.0),
    (8, 20.1),
    (9, 24.1),
    (10, 23.6),
    (12, 23.8),
    (14, 25.5),
    (16, 22.0),
];
/// The same of those that have it in the first pass alone.
const FIRST_RADICES: [(usize, f32); 7] =
    [(11, 26.7), (13, 28.8), (17, 32.1), (19, 34.0), (23, 38.3), (29, 43.7), (31, 45.0)];
/// Of any other, for each point of a sum.
const ANY_RADIX: f32 = 9.0;
/// What another wavefront of a warp's store costs, in instructions: a multiprocessor issues four while one goes to shared
/// memory, of which some wait for it.
const WAVEFRONT: f32 = 2.0;

crate::parameter_struct! {
    /// A pass, when those before it have made transforms of `done` points; see kernels/fft.cuh.
    pub struct FftPass {
        pub code: i32,
        pub radix: i32,
        pub done: i32,
        pub apart: i32,
        pub by_done: u32,
        pub by_apart: u32,
        pub twiddles: i32,
    }
}

crate::parameter_struct! {
    /// How a line of `length` points is transformed: in so many passes.
    pub struct FftPlan {
        pub table: Const<C32>,
        pub length: i32,
        pub passes: i32,
        pub by_length: u32,
        pub pass: [FftPass; MOST_PASSES],
    }
}

crate::kernels! {
    fn ifft_columns(
        kspace: Const<C32>, weights: Const<f32>, images: Mut<C32>, shape: ImageShape, plan: FftPlan,
        log2_count: i32, stride: i32, scale: f32,
    );
    fn ifft_rows(images: Mut<C32>, plan: FftPlan, count: i32, rows: i32);
}

impl FftPlan {
    /// Without its table, and what is in that: [k, n] for exp(−2πi·k/n).
    pub(in crate::cuda) fn new(length: usize) -> (Self, Vec<[usize; 2]>) {
        let radices = radices(length);
        let mut table: Vec<_> = (0..length).map(|k| [k, length]).collect();
        let mut done = 1;
        let pass = std::array::from_fn(|i| {
            let radix = radices.get(i).copied().unwrap_or(1);
            let twiddles = table.len();
            if done > 1 && i < radices.len() {
                table.extend((0..radix).flat_map(|r| (0..done).map(move |k| [r * k, radix * done])));
            }
            let code = if cost(radix, done).is_some() { radix } else { 0 };
            let [code, radix_, done_, apart, twiddles] =
                [code, radix, done, length / radix, twiddles].map(int);
            let [by_done, by_apart] = [done, length / radix].map(reciprocal);
            done *= radix;
            FftPass { code, radix: radix_, done: done_, apart, by_done, by_apart, twiddles }
        });
        let (passes, by_length) = (int(radices.len()), reciprocal(length));
        (Self { table: Const::null(), length: int(length), passes, by_length, pass }, table)
    }
}

/// By which kernels divide: the quotient i / d is the upper half of 2·i times it, where i·d is below 2³¹.
fn reciprocal(d: usize) -> u32 {
    (1u32 << 31).div_ceil(d as u32)
}

/// Instructions of a point in a pass of this radix, where it has code of its own.
fn cost(radix: usize, done: usize) -> Option<f32> {
    let first: &[_] = if done == 1 { &FIRST_RADICES } else { &[] };
    RADICES.iter().chain(first).find(|(with_code, _)| *with_code == radix).map(|(_, cost)| *cost)
}

/// In how many wavefronts 16 neighbouring threads store their 8 bytes, in a pass after others of `done` points.
fn wavefronts(radix: usize, done: usize) -> usize {
    let mut banks = [0; BANKS];
    for j in 0..BANKS {
        banks[(j / done * done * radix + j % done) % BANKS] += 1;
    }
    banks.into_iter().max().expect("there are some")
}

/// The radices whose product a length is, in the order of their passes: those that cost least.
fn radices(length: usize) -> Vec<usize> {
    fn cheapest(rest: usize, done: usize, passes: usize) -> Option<(f32, Vec<usize>)> {
        if rest == 1 {
            return Some((0.0, Vec::new()));
        }
        if passes == 0 {
            return None;
        }
        let after = |radix: usize, own: f32| {
            let (cost, mut radices) = cheapest(rest / radix, done * radix, passes - 1)?;
            radices.insert(0, radix);
            Some((cost + own + WAVEFRONT * (wavefronts(radix, done) - 1) as f32, radices))
        };
        let with_code = (2..=31).filter(|&radix| rest.is_multiple_of(radix));
        let best =
            with_code.filter_map(|radix| after(radix, cost(radix, done)?)).min_by(|a, b| a.0.total_cmp(&b.0));
        // No factor of what is left has code here.
        let smallest = (2..=rest).find(|&radix| rest.is_multiple_of(radix)).expect("itself");
        best.or_else(|| after(smallest, ANY_RADIX * smallest as f32))
    }
    let (_, radices) = cheapest(length, 1, MOST_PASSES).expect("a length has few factors");
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

/// See [`crate::backend::Ifft2c`].
pub fn ifft2c<D: Driver>(cuda: &Cuda<D>, Ifft2c { shape, kspace, columns, images }: Ifft2c<'_, Buffer<D>>) {
    let room = COLUMNS_BYTES / (POINT * (shape.rows + BANKS));
    let count = MOST_COLUMNS.min(1 << room.ilog2());
    // Lines are stored across: `count` neighbours of as many rows as there are banks left lie in different ones.
    let stride = (shape.rows..).find(|stride| stride % BANKS == BANKS / count % BANKS).expect("one of 16");
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
        cuda.fft_plan(shape.rows),
        int(count.ilog2() as usize),
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
        cuda.fft_plan(shape.columns),
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
        assert_eq!(radices(368), [23, 16]);
        assert_eq!(radices(372), [31, 12]);
        assert_eq!(radices(396), [11, 4, 9]);
        assert_eq!(radices(640), [5, 8, 16]);
        assert!(radices(1).is_empty());
    }

    #[test]
    fn a_kernel_divides_exactly() {
        for d in 1..=LONGEST {
            let by = u64::from(reciprocal(d));
            for i in 0..(1 << 16) {
                assert_eq!((2 * i * by) >> 32, i / d as u64, "{i} / {d}");
            }
        }
    }
}
