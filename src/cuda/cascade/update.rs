//! What changes u, v and m between cascades, and λ's gradient.

use crate::backend::{CascadeDc, CascadeUpdate, CascadeUpdateBackward};
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

/// See [`crate::backend::CascadeDc`].
pub fn cascade_dc<D: Driver>(
    cuda: &Cuda<D>,
    CascadeDc { parameters, dc_weight, u, v, v_out }: CascadeDc<'_, Buffer<D>>,
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

/// See [`crate::backend::CascadeUpdate`].
pub fn cascade_update<D: Driver>(
    cuda: &Cuda<D>,
    CascadeUpdate { r, u, u_out, m }: CascadeUpdate<'_, Buffer<D>>,
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

/// See [`crate::backend::CascadeUpdateBackward`].
pub fn cascade_update_backward<D: Driver>(
    cuda: &Cuda<D>,
    CascadeUpdateBackward { parameters, dc_weight, u, v, d_m, d_u, d_v, d_m0, d_parameters }: CascadeUpdateBackward<'_, Buffer<D>>,
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
