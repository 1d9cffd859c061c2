//! What all cascades together give the sensitivity maps.

use super::blocks_of_lines;
use crate::backend::SensBackward;
use crate::cuda::driver::Driver;
use crate::cuda::fft::FftPlan;
use crate::cuda::kernel::{C32, Const, ImageShape, Mut};
use crate::cuda::{Buffer, Cuda, int};

/// Coils of a block.
const COILS: usize = 2;
/// Cascades of a launch. More take further launches, each of which reads the maps again.
const MOST_PAIRS: usize = 16;

crate::parameter_struct! {
    /// The images v of some cascades, and the gradients g of their inputs: `[N, rows, columns] c` each.
    pub struct Pairs {
        pub v: [Const<C32>; MOST_PAIRS],
        pub g: [Const<C32>; MOST_PAIRS],
        pub count: i32,
    }
}

crate::kernels! {
    fn sens_backward(
        sens_maps: Const<C32>, mask: Const<f32>, x0: Const<C32>, d_m0: Const<C32>, d_sens: Mut<C32>, pairs: Pairs,
        shape: ImageShape, plan: FftPlan,
    );
}

/// See [`crate::backend::SensBackward`].
pub fn sens_backward<D: Driver>(
    cuda: &Cuda<D>,
    SensBackward { shape, sens_maps, mask, x0, d_m0, pairs, d_sens }: SensBackward<'_, Buffer<D>>,
) {
    let coils = COILS.min(shape.coils);
    // Each coil is two lines and a sum.
    let grid = [shape.coils.div_ceil(COILS), shape.rows, shape.n];
    let launch = blocks_of_lines(grid, 2 * coils, coils, shape.columns);
    // The first launch adds the term of m₀, whether or not there are pairs.
    for start in (0..pairs.len().max(1)).step_by(MOST_PAIRS) {
        let pairs = &pairs[start..pairs.len().min(start + MOST_PAIRS)];
        let image = |image: Option<&Buffer<D>>| {
            image.map_or(Const::null(), |image| image.read_complex(shape.combined()))
        };
        kernel::sens_backward(
            cuda,
            launch,
            sens_maps.read_complex(shape.multicoil()),
            mask.read(shape.n * shape.columns),
            x0.read_complex(shape.multicoil()),
            image((start == 0).then_some(d_m0)),
            d_sens.write_complex(shape.multicoil()),
            Pairs {
                v: std::array::from_fn(|t| image(pairs.get(t).map(|pair| pair.0))),
                g: std::array::from_fn(|t| image(pairs.get(t).map(|pair| pair.1))),
                count: int(pairs.len()),
            },
            shape.into(),
            cuda.fft_plan(shape.columns),
        );
    }
}
