//! The final coil combination: the image from u and v.

use super::block_per_row;
use crate::backend::{RssOutput, RssOutputBackward};
use crate::cuda::driver::Driver;
use crate::cuda::fft::FftPlan;
use crate::cuda::kernel::{C32, Const, ImageShape, Mut};
use crate::cuda::{Buffer, Cuda};

crate::kernels! {
    fn rss_output(
        sens_maps: Const<C32>, mask: Const<f32>, x0: Const<C32>, u: Const<C32>, v: Const<C32>, output: Mut<f32>,
        shape: ImageShape, plan: FftPlan, at_once: i32,
    );
    fn rss_output_backward(
        sens_maps: Const<C32>, mask: Const<f32>, x0: Const<C32>, u: Const<C32>, v: Const<C32>, output: Const<f32>,
        d_output: Const<f32>, d_u: Mut<C32>, d_v: Mut<C32>, d_sens: Mut<C32>, shape: ImageShape, plan: FftPlan,
        at_once: i32,
    );
}

/// See [`crate::backend::RssOutput`].
pub fn rss_output<D: Driver>(
    cuda: &Cuda<D>,
    RssOutput { shape, sens_maps, mask, x0, u, v, output }: RssOutput<'_, Buffer<D>>,
) {
    let (launch, at_once) = block_per_row(shape, 1);
    kernel::rss_output(
        cuda,
        launch,
        sens_maps.read_complex(shape.multicoil()),
        mask.read(shape.n * shape.columns),
        x0.read_complex(shape.multicoil()),
        u.read_complex(shape.combined()),
        v.read_complex(shape.combined()),
        output.write(shape.n * shape.pixels()),
        shape.into(),
        cuda.fft_plan(shape.columns),
        at_once,
    );
}

/// See [`crate::backend::RssOutputBackward`].
pub fn rss_output_backward<D: Driver>(
    cuda: &Cuda<D>,
    RssOutputBackward { shape, sens_maps, mask, x0, u, v, output, d_output, d_u, d_v, d_sens }: RssOutputBackward<'_, Buffer<D>>,
) {
    let (launch, at_once) = block_per_row(shape, 2);
    kernel::rss_output_backward(
        cuda,
        launch,
        sens_maps.read_complex(shape.multicoil()),
        mask.read(shape.n * shape.columns),
        x0.read_complex(shape.multicoil()),
        u.read_complex(shape.combined()),
        v.read_complex(shape.combined()),
        output.read(shape.n * shape.pixels()),
        d_output.read(shape.n * shape.pixels()),
        d_u.write_complex(shape.combined()),
        d_v.write_complex(shape.combined()),
        d_sens.write_complex(shape.multicoil()),
        shape.into(),
        cuda.fft_plan(shape.columns),
        at_once,
    );
}
