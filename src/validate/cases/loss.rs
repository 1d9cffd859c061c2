//! The training loss. A window's variance is a difference of two numbers that almost cancel, so all sums are expected
//! in double precision (see `src/cpu/loss.rs`): what remains is the rounding of the results.

use std::fmt;

use crate::backend::{LossShape, LossWeights, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Loss {
    shape: LossShape,
    weights: LossWeights,
    scale: f64,
    /// The images' largest value: 1, or a ten-thousandth, as fastMRI's are.
    max_value: f64,
}

/// n, the output's size, the target's.
const SHAPES: [(usize, [usize; 2], [usize; 2]); 11] = [
    (1, [7, 7], [7, 7]),
    (2, [9, 14], [9, 14]),
    (2, [12, 11], [9, 8]),
    (1, [8, 23], [13, 20]),
    (1, [15, 9], [10, 16]),
    (1, [33, 17], [32, 100]),
    (3, [40, 39], [37, 41]),
    (1, [64, 70], [64, 64]),
    (1, [8, 200], [9, 201]),
    (1, [200, 8], [180, 7]),
    (2, [96, 80], [64, 64]),
];

/// Smaller than a window: nothing but the absolute error.
const TINY: [(usize, [usize; 2], [usize; 2]); 3] =
    [(1, [1, 1], [1, 1]), (2, [3, 9], [9, 6]), (1, [6, 40], [40, 40])];

const BOTH: LossWeights = LossWeights { ssim: 0.7, l1: 0.2 };
const SSIM: LossWeights = LossWeights { ssim: 1.0, l1: 0.0 };
const L1: LossWeights = LossWeights { ssim: 0.0, l1: 1.0 };

impl Family for Loss {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for (i, (n, output, target)) in SHAPES.into_iter().enumerate() {
            let shape = LossShape { n, output, target };
            cases.push(Self { shape, weights: BOTH, scale: 1.0, max_value: 1.0 });
            // Of ascent, the scale is negative.
            let weights = if i % 2 == 0 { SSIM } else { L1 };
            cases.push(Self { shape, weights, scale: -0.5, max_value: 1e-4 });
        }
        for (n, output, target) in TINY {
            let shape = LossShape { n, output, target };
            cases.push(Self { shape, weights: L1, scale: 1.0, max_value: 1.0 });
        }
        cases
    }

    fn random(random: &mut Random) -> Self {
        let n = random.size(1, 3);
        let mut size = || [0, 1].map(|_| random.size(7, 70));
        let shape = LossShape { n, output: size(), target: size() };
        Self {
            shape,
            weights: random.one_of(&[BOTH, SSIM, L1]),
            scale: random.one_of(&[1.0, -1.0, 0.25]),
            max_value: random.one_of(&[1.0, 1e-4]),
        }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let LossShape { n, output, target } = self.shape;
        let mut image = |[height, width]: [usize; 2]| -> Vec<f64> {
            rig.random.uniforms(0.0..self.max_value, n * height * width)
        };
        let (mut output_values, mut target_values) = (image(output), image(target));
        // Where both are 0 the absolute error has no slope.
        output_values.iter_mut().step_by(7).for_each(|value| *value = 0.0);
        target_values.iter_mut().step_by(5).for_each(|value| *value = 0.0);
        let max_value = rig.random.uniforms(0.8 * self.max_value..self.max_value, n);
        let output = rig.input("output", output_values);
        let target = rig.input("target", target_values);
        let max_value = rig.input("max_value", max_value);
        let mut losses = rig.output("losses", 2);
        let mut d_output = rig.output("d_output", n * self.shape.output[0] * self.shape.output[1]);
        rig.ops().run(operation::ImageLoss {
            shape: self.shape,
            weights: self.weights,
            scale: self.scale,
            output: &output,
            target: &target,
            max_value: &max_value,
            losses: &mut losses,
            d_output: &mut d_output,
        });
        // Two numbers of very different sizes.
        rig.result("losses", &losses, Tolerance::roundings(2.0).scale(0.0));
        rig.result("d_output", &d_output, Tolerance::roundings(2.0));
        rig.all_unchanged(&[("output", &output), ("target", &target), ("max_value", &max_value)]);
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape: LossShape { n, output, target }, weights, scale, max_value } = *self;
        write!(f, "image_loss n{n} {}x{} {}x{}", output[0], output[1], target[0], target[1])?;
        write!(f, " ssim {} l1 {} scale {scale} max {max_value:e}", weights.ssim, weights.l1)
    }
}
