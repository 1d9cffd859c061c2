//! The training loss and its gradient.

use crate::backend::{CropToTarget, ImageLoss, LossShape, SSIM_WINDOW};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks, blocks_with, int};

const THREADS: u32 = 256;
/// Windows, or pixels, that a block takes: rows and columns.
const TILE: [usize; 2] = [8, 32];

crate::parameter_struct! {
    /// Two images and the part that they have in common.
    pub struct LossCrop {
        pub height: i32,
        pub width: i32,
        pub output_rows: i32,
        pub output_columns: i32,
        pub output_top: i32,
        pub output_left: i32,
        pub target_rows: i32,
        pub target_columns: i32,
        pub target_top: i32,
        pub target_left: i32,
    }
}

crate::kernels! {
    fn ssim_windows(
        output: Const<f32>, target: Const<f32>, max_value: Const<f32>, slopes: Mut<f64>, partial: Mut<f64>,
        crop: LossCrop,
    );
    fn loss_gradient(
        output: Const<f32>, target: Const<f32>, slopes: Const<f64>, d_output: Mut<f32>, partial: Mut<f64>,
        crop: LossCrop, ssim_scale: f64, l1_scale: f64,
    );
    fn join_losses(
        ssim: Const<f64>, differences: Const<f64>, losses: Mut<f32>, ssim_parts: i32, difference_parts: i32,
        windows: f64, pixels: f64,
    );
    fn crop_to_target(output: Const<f32>, target: Mut<f32>, crop: LossCrop);
}

fn crop(shape: LossShape) -> LossCrop {
    let size = shape.crop();
    let begin = |image: [usize; 2], axis: usize| int((image[axis] - size[axis]) / 2);
    LossCrop {
        height: int(size[0]),
        width: int(size[1]),
        output_rows: int(shape.output[0]),
        output_columns: int(shape.output[1]),
        output_top: begin(shape.output, 0),
        output_left: begin(shape.output, 1),
        target_rows: int(shape.target[0]),
        target_columns: int(shape.target[1]),
        target_top: begin(shape.target, 0),
        target_left: begin(shape.target, 1),
    }
}

/// Tiles down and across.
fn tiles(size: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|axis| size[axis].div_ceil(TILE[axis]))
}

/// See [`crate::backend::ImageLoss`].
pub fn image_loss<D: Driver>(
    cuda: &Cuda<D>,
    ImageLoss { shape, weights, scale, output, target, max_value, losses, d_output }: ImageLoss<
        '_,
        Buffer<D>,
    >,
) {
    let n = shape.n;
    let images = |[rows, columns]: [usize; 2]| n * rows * columns;
    let pixels = images(shape.crop());
    let across = shape.crop().map(|size| (size + 1).saturating_sub(SSIM_WINDOW));
    let windows = images(across);

    let [of_windows, of_pixels] = [across, shape.output].map(tiles);
    // No tiles where no window fits along the other axis either: nothing is launched.
    let ssim_parts = images(of_windows);
    let difference_parts = images(of_pixels);
    let [slopes, ssim, differences] =
        cuda.scratch([3 * windows, ssim_parts, difference_parts].map(|doubles| 2 * doubles));
    let [slopes, ssim, differences] = [slopes, ssim, differences].map(Mut::doubles);
    let (output_values, target_values) =
        (output.read(images(shape.output)), target.read(images(shape.target)));

    kernel::ssim_windows(
        cuda,
        blocks_with(of_windows[1], of_windows[0], n, THREADS, 0),
        output_values,
        target_values,
        max_value.read(n),
        slopes,
        ssim,
        crop(shape),
    );
    kernel::loss_gradient(
        cuda,
        blocks_with(of_pixels[1], of_pixels[0], n, THREADS, 0),
        output_values,
        target_values,
        slopes.as_const(),
        d_output.write(images(shape.output)),
        differences,
        crop(shape),
        -scale * weights.ssim / windows.max(1) as f64,
        scale * weights.l1 / pixels as f64,
    );
    kernel::join_losses(
        cuda,
        blocks(1, 1, THREADS),
        ssim.as_const(),
        differences.as_const(),
        losses.write(2),
        int(ssim_parts),
        int(difference_parts),
        windows as f64,
        pixels as f64,
    );
}

/// See [`crate::backend::CropToTarget`].
pub fn crop_to_target<D: Driver>(
    cuda: &Cuda<D>,
    CropToTarget { shape, output, target }: CropToTarget<'_, Buffer<D>>,
) {
    let images = |[rows, columns]: [usize; 2]| shape.n * rows * columns;
    let [down, across] = tiles(shape.crop());
    kernel::crop_to_target(
        cuda,
        blocks_with(across, down, shape.n, THREADS, 0),
        output.read(images(shape.output)),
        target.write(images(shape.target)),
        crop(shape),
    );
}
