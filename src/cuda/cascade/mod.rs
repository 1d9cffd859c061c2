//! Data consistency in coil-combined images: the normal operator, the final coil combination and their gradients.
//!
//! A block owns one row of one slice and visits its coils; the multi-coil state never leaves its shared memory.

pub mod rss_output;
pub mod sens_backward;
pub mod update;

pub use rss_output::{rss_output, rss_output_backward};
pub use sens_backward::sens_backward;
pub use update::{cascade_dc, cascade_update, cascade_update_backward};

use crate::backend::{CascadeInput, NormalOperator};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::fft::{FftPlan, LONGEST, rows_at_once, shared_bytes, threads};
use crate::cuda::kernel::{C32, Const, ImageShape, Mut};
use crate::cuda::{Buffer, Cuda, blocks_with, int};

/// Columns of a row that a thread has in registers, at most.
const COLUMNS_PER_THREAD: usize = 4;
const _: () =
    assert!(LONGEST <= COLUMNS_PER_THREAD * 256, "the longest row fits the registers of 256 threads");

crate::kernels! {
    fn cascade_input(
        sens_maps: Const<C32>, mask: Const<f32>, m0: Const<C32>, u: Const<C32>, v: Const<C32>, m: Mut<C32>,
        shape: ImageShape, plan: FftPlan, at_once: i32,
    );
    fn normal_operator(
        sens_maps: Const<C32>, mask: Const<f32>, v: Const<C32>, sum: Mut<C32>, shape: ImageShape, plan: FftPlan,
        at_once: i32,
    );
}

/// A block for each row of each slice, with so many rows of sums, and how many coils it has at once.
fn block_per_row(shape: crate::backend::ImageShape, sums: usize) -> (Launch, i32) {
    let at_once = rows_at_once(shape.columns, shape.coils);
    (blocks_of_lines([shape.rows, shape.n, 1], at_once, sums, shape.columns), int(at_once))
}

/// A grid of blocks that transform so many lines at once, each with rows of sums.
fn blocks_of_lines([x, y, z]: [usize; 3], lines: usize, sums: usize, columns: usize) -> Launch {
    let threads = threads(lines * columns, columns.div_ceil(COLUMNS_PER_THREAD));
    blocks_with(x, y, z, threads, shared_bytes(lines, columns) + 2 * size_of::<f32>() * sums * columns)
}

/// See [`crate::backend::CascadeInput`].
pub fn cascade_input<D: Driver>(
    cuda: &Cuda<D>,
    CascadeInput { shape, sens_maps, mask, m0, u, v, m }: CascadeInput<'_, Buffer<D>>,
) {
    let (launch, at_once) = block_per_row(shape, 1);
    kernel::cascade_input(
        cuda,
        launch,
        sens_maps.read_complex(shape.multicoil()),
        mask.read(shape.n * shape.columns),
        m0.read_complex(shape.combined()),
        u.read_complex(shape.combined()),
        v.read_complex(shape.combined()),
        m.write_complex(shape.combined()),
        shape.into(),
        cuda.fft_plan(shape.columns),
        at_once,
    );
}

/// See [`crate::backend::NormalOperator`].
pub fn normal_operator<D: Driver>(
    cuda: &Cuda<D>,
    NormalOperator { shape, sens_maps, mask, v, sum }: NormalOperator<'_, Buffer<D>>,
) {
    let (launch, at_once) = block_per_row(shape, 1);
    kernel::normal_operator(
        cuda,
        launch,
        sens_maps.read_complex(shape.multicoil()),
        mask.read(shape.n * shape.columns),
        v.read_complex(shape.combined()),
        sum.write_complex(shape.combined()),
        shape.into(),
        cuda.fft_plan(shape.columns),
        at_once,
    );
}
