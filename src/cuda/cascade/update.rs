//! What changes u, v and m between cascades, and λ's gradient.

use crate::backend::Span;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks, int, partial};

const THREADS: u32 = 256;
/// Reals that a thread takes, about.
const REALS_PER_THREAD: usize = 4;

crate::kernels! {
    fn cascade_dc(dc_weight: Const<f32>, u: Const<f32>, v: Const<f32>, v_out: Mut<f32>, len: i32);
    fn cascade_update(r: Const<f32>, u: Const<f32>, u_out: Mut<f32>, m: Mut<f32>, len: i32);
    fn cascade_update_backward(
        dc_weight: Const<f32>, u: Const<f32>, v: Const<f32>, d_m: Const<f32>, d_u: Mut<f32>, d_v: Mut<f32>,
        d_m0: Mut<f32>, partial: Mut<f32>, len: i32,
    );
}

fn parts(len: usize) -> usize {
    len.div_ceil(REALS_PER_THREAD * THREADS as usize)
}

/// See [`crate::backend::Backend::cascade_dc`].
pub fn cascade_dc<D: Driver>(
    cuda: &Cuda<D>,
    parameters: &Buffer<D>,
    dc_weight: Span,
    u: &Buffer<D>,
    v: &Buffer<D>,
    v_out: &mut Buffer<D>,
) {
    let len = u.len();
    kernel::cascade_dc(
        cuda,
        blocks(parts(len), 1, THREADS),
        parameters.read_from(dc_weight.offset, dc_weight.len),
        u.read(len),
        v.read(len),
        v_out.write(len),
        int(len),
    );
}

/// See [`crate::backend::Backend::cascade_update`].
pub fn cascade_update<D: Driver>(
    cuda: &Cuda<D>,
    r: &Buffer<D>,
    u: &Buffer<D>,
    u_out: &mut Buffer<D>,
    m: Option<&mut Buffer<D>>,
) {
    let len = u.len();
    kernel::cascade_update(
        cuda,
        blocks(parts(len), 1, THREADS),
        r.read(len),
        u.read(len),
        u_out.write(len),
        m.map_or(Mut::null(), |m| m.write(len)),
        int(len),
    );
}

/// See [`crate::backend::Backend::cascade_update_backward`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_update_backward<D: Driver>(
    cuda: &Cuda<D>,
    parameters: &Buffer<D>,
    dc_weight: Span,
    u: &Buffer<D>,
    v: &Buffer<D>,
    d_m: &Buffer<D>,
    d_u: &mut Buffer<D>,
    d_v: &mut Buffer<D>,
    d_m0: &mut Buffer<D>,
    d_parameters: &mut Buffer<D>,
) {
    let len = u.len();
    let parts = parts(len);
    let [partial] = cuda.scratch([parts]);
    kernel::cascade_update_backward(
        cuda,
        blocks(parts, 1, THREADS),
        parameters.read_from(dc_weight.offset, dc_weight.len),
        u.read(len),
        v.read(len),
        d_m.read(len),
        d_u.write(len),
        d_v.write(len),
        d_m0.write(len),
        partial,
        int(len),
    );
    partial::add(cuda, partial.as_const(), d_parameters.write_from(dc_weight.offset, 1), parts, 1);
}
