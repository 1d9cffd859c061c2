//! Sensitivity maps: normalised by their root sum of squares, and used to combine coils.

use crate::backend::{DivideByRss, DivideByRssBackward, ImageShape, SensReduce};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{C32, Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks, int};

const THREADS: u32 = 128;

crate::kernels! {
    fn divide_by_rss(raw: Const<C32>, sens_maps: Mut<C32>, coils: i32, pixels: i32);
    fn sens_reduce(
        sens_maps: Const<C32>, images: Const<C32>, combined: Mut<C32>, coils: i32, pixels: i32,
    );
    fn divide_by_rss_backward(
        raw: Const<C32>, sens_maps: Const<C32>, d: Mut<C32>, coils: i32, pixels: i32,
    );
}

/// A thread for each pixel of each slice.
fn pixelwise(shape: ImageShape) -> Launch {
    blocks(shape.pixels().div_ceil(THREADS as usize), shape.n, THREADS)
}

/// See [`crate::backend::DivideByRss`].
pub fn divide_by_rss<D: Driver>(
    cuda: &Cuda<D>,
    DivideByRss { shape, raw, sens_maps }: DivideByRss<'_, Buffer<D>>,
) {
    kernel::divide_by_rss(
        cuda,
        pixelwise(shape),
        raw.read_complex(shape.multicoil()),
        sens_maps.write_complex(shape.multicoil()),
        int(shape.coils),
        int(shape.pixels()),
    );
}

/// See [`crate::backend::SensReduce`].
pub fn sens_reduce<D: Driver>(
    cuda: &Cuda<D>,
    SensReduce { shape, sens_maps, images, combined }: SensReduce<'_, Buffer<D>>,
) {
    kernel::sens_reduce(
        cuda,
        pixelwise(shape),
        sens_maps.read_complex(shape.multicoil()),
        images.read_complex(shape.multicoil()),
        combined.write_complex(shape.combined()),
        int(shape.coils),
        int(shape.pixels()),
    );
}

/// See [`crate::backend::DivideByRssBackward`].
pub fn divide_by_rss_backward<D: Driver>(
    cuda: &Cuda<D>,
    DivideByRssBackward { shape, raw, sens_maps, d_sens }: DivideByRssBackward<'_, Buffer<D>>,
) {
    kernel::divide_by_rss_backward(
        cuda,
        pixelwise(shape),
        raw.read_complex(shape.multicoil()),
        sens_maps.read_complex(shape.multicoil()),
        d_sens.write_complex(shape.multicoil()),
        int(shape.coils),
        int(shape.pixels()),
    );
}
