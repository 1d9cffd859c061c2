//! In and out of a U-Net: a complex image becomes two normalised, padded channels, and two channels an image again.

use crate::backend::*;
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{C32, Const, Mut, Stored};
use crate::cuda::{Buffer, Cuda, blocks, int};

const THREADS: u32 = 256;
/// Pixels of a block: enough for few parts, few enough for many blocks. The kernel that finds the moments keeps a
/// part of exactly so many.
const PART: usize = 4 * THREADS as usize;
/// Of a block that joins the parts of a plane.
const JOIN_THREADS: u32 = 64;

crate::parameter_struct! {
    /// Where an image lies in the middle of its padded map.
    pub struct UnetFrame {
        pub rows: i32,
        pub columns: i32,
        pub height: i32,
        pub width: i32,
        pub top: i32,
        pub left: i32,
    }
}

crate::kernels! {
    fn unet_part_moments(image: Const<C32>, partial: Mut<f64>, pixels: i32);
    fn unet_moments(partial: Const<f64>, moments: Mut<f32>, parts: i32, pixels: i32);
    fn unet_input<T>(image: Const<C32>, moments: Const<f32>, map: Mut<T>, frame: UnetFrame);
    fn unet_output<T>(map: Const<T>, moments: Const<f32>, image: Mut<C32>, frame: UnetFrame);
    fn unet_output_backward<T>(
        map: Const<T>, moments: Const<f32>, d_image: Const<C32>, d_map: Mut<T>, partial: Mut<f64>,
        frame: UnetFrame,
    );
    fn unet_output_d_moments(partial: Const<f64>, d_moments: Mut<f32>, parts: i32);
    fn unet_input_sums<T>(map: Const<T>, d_map: Const<T>, partial: Mut<f64>, frame: UnetFrame);
    fn unet_input_coefficients(
        partial: Const<f64>, moments: Const<f32>, d_moments: Const<f32>, coefficients: Mut<f32>, parts: i32,
        pixels: i32,
    );
    fn unet_input_backward<T>(
        map: Const<T>, d_map: Const<T>, coefficients: Const<f32>, d_image: Mut<C32>, frame: UnetFrame,
    );
}

fn frame(image: ImageShape, map: MapShape) -> UnetFrame {
    assert_eq!((map.n, map.channels), (image.n, 2), "a map of two channels for every image");
    UnetFrame {
        rows: int(image.rows),
        columns: int(image.columns),
        height: int(map.height),
        width: int(map.width),
        top: int((map.height - image.rows) / 2),
        left: int((map.width - image.columns) / 2),
    }
}

/// One block for each plane of a map.
fn join(map: MapShape) -> Launch {
    blocks(map.planes(), 1, JOIN_THREADS)
}

/// Scratch for `doubles` doubles and `reals` reals.
fn scratch<D: Driver>(cuda: &Cuda<D>, doubles: usize, reals: usize) -> (Mut<f64>, Mut<f32>) {
    let [partial, rest] = cuda.scratch([2 * doubles, reals]);
    (Mut::at(partial.address()), rest)
}

/// See [`crate::backend::UnetInput`].
pub fn unet_input<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    UnetInput { shape, image, map, moments }: UnetInput<'_, Buffer<D>>,
) {
    let frame = frame(shape, map.shape);
    let image = image.read_complex(shape.combined());
    let parts = shape.pixels().div_ceil(PART);
    let (partial, _) = scratch(cuda, 4 * shape.n * parts, 0);
    let pixels = int(shape.pixels());
    kernel::unet_part_moments(cuda, blocks(parts, shape.n, THREADS), image, partial, pixels);
    let found = moments.write(4 * shape.n);
    kernel::unet_moments(cuda, join(map.shape), partial.as_const(), found, int(parts), pixels);
    kernel::unet_input::<T, D>(
        cuda,
        blocks(map.shape.pixels().div_ceil(PART), shape.n, THREADS),
        image,
        found.as_const(),
        map.values.write(map.shape.len()),
        frame,
    );
}

/// See [`crate::backend::UnetOutput`].
pub fn unet_output<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    UnetOutput { shape, map, moments, image }: UnetOutput<'_, Buffer<D>>,
) {
    kernel::unet_output::<T, D>(
        cuda,
        blocks(shape.pixels().div_ceil(PART), shape.n, THREADS),
        map.values.read(map.shape.len()),
        moments.read(4 * shape.n),
        image.write_complex(shape.combined()),
        frame(shape, map.shape),
    );
}

/// See [`crate::backend::UnetOutputBackward`].
pub fn unet_output_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    UnetOutputBackward { shape, map, moments, d_image, d_map, d_moments }: UnetOutputBackward<'_, Buffer<D>>,
) {
    let parts = map.shape.pixels().div_ceil(PART);
    let (partial, _) = scratch(cuda, 4 * shape.n * parts, 0);
    kernel::unet_output_backward::<T, D>(
        cuda,
        blocks(parts, shape.n, THREADS),
        map.values.read(map.shape.len()),
        moments.read(4 * shape.n),
        d_image.read_complex(shape.combined()),
        d_map.values.write(map.shape.len()),
        partial,
        frame(shape, map.shape),
    );
    let d_moments = d_moments.write(4 * shape.n);
    kernel::unet_output_d_moments(cuda, join(map.shape), partial.as_const(), d_moments, int(parts));
}

/// See [`crate::backend::UnetInputBackward`].
pub fn unet_input_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    UnetInputBackward { shape, map, moments, d_map, d_moments, d_image }: UnetInputBackward<'_, Buffer<D>>,
) {
    let frame = frame(shape, map.shape);
    let (y, d) = (map.values.read(map.shape.len()), d_map.values.read(map.shape.len()));
    let parts = shape.pixels().div_ceil(PART);
    let launch = || blocks(parts, shape.n, THREADS);
    let (partial, coefficients) = scratch(cuda, 4 * shape.n * parts, 3 * map.shape.planes());
    kernel::unet_input_sums::<T, D>(cuda, launch(), y, d, partial, frame);
    kernel::unet_input_coefficients(
        cuda,
        join(map.shape),
        partial.as_const(),
        moments.read(4 * shape.n),
        d_moments.read(4 * shape.n),
        coefficients,
        int(parts),
        int(shape.pixels()),
    );
    let d_image = d_image.write_complex(shape.combined());
    kernel::unet_input_backward::<T, D>(cuda, launch(), y, d, coefficients.as_const(), d_image, frame);
}
