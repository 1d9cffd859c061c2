//! The centre of an image in the place of another's: copies.

use std::fmt;

use crate::backend::{LossShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct CropToTarget(LossShape);

/// n, the output's size, the target's.
const SHAPES: [(usize, [usize; 2], [usize; 2]); 9] = [
    (1, [1, 1], [1, 1]),
    (2, [3, 9], [9, 6]),
    (1, [7, 7], [7, 7]),
    (2, [12, 11], [9, 8]),
    (1, [8, 23], [13, 20]),
    (3, [40, 39], [37, 41]),
    (1, [8, 200], [9, 201]),
    (1, [200, 8], [180, 7]),
    (2, [96, 80], [64, 64]),
];

impl Family for CropToTarget {
    fn table() -> Vec<Self> {
        SHAPES.into_iter().map(|(n, output, target)| Self(LossShape { n, output, target })).collect()
    }

    fn random(random: &mut Random) -> Self {
        let n = random.size(1, 3);
        let mut size = || [0, 1].map(|_| random.size(1, 70));
        Self(LossShape { n, output: size(), target: size() })
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let LossShape { n, output, target } = self.0;
        let [output, target] = [output, target].map(|[rows, columns]| rig.random.values(n * rows * columns));
        let output = rig.input("output", output);
        let mut target = rig.in_out("target", target);
        rig.ops().run(operation::CropToTarget { shape: self.0, output: &output, target: &mut target });
        rig.result("target", &target, Tolerance::EXACT);
        rig.unchanged("output", &output);
    }
}

impl fmt::Display for CropToTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LossShape { n, output, target } = self.0;
        write!(f, "crop_to_target n{n} {}x{} {}x{}", output[0], output[1], target[0], target[1])
    }
}
