//! Coil images of weighted k-space. A value is the result of two transforms.

use std::fmt;

use super::images;
use crate::backend::{ImageShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Ifft2c {
    shape: ImageShape,
    weights: Weights,
}

/// How columns are weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weights {
    /// A mask: some columns are left out.
    Mask,
    /// Any numbers.
    Any,
}

impl Family for Ifft2c {
    fn table() -> Vec<Self> {
        let shapes = images::of_all_lengths();
        let masked = shapes.iter().map(|&shape| Self { shape, weights: Weights::Mask });
        let weighted = shapes.iter().step_by(5).map(|&shape| Self { shape, weights: Weights::Any });
        masked.chain(weighted).collect()
    }

    fn random(random: &mut Random) -> Self {
        let shape = images::random_shape(random);
        let weights = random.one_of(&[Weights::Mask, Weights::Any]);
        // Lengths of both axes matter here.
        if random.coin() {
            let ImageShape { rows, columns, .. } = shape;
            return Self { shape: ImageShape { rows: columns, columns: rows, ..shape }, weights };
        }
        Self { shape, weights }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let kspace = rig.random.values(self.shape.multicoil());
        let kspace = rig.input("kspace", kspace);
        let len = self.shape.n * self.shape.columns;
        let columns = match self.weights {
            Weights::Mask => rig.random.mask(len),
            Weights::Any => rig.random.values(len),
        };
        let columns = rig.input("columns", columns);
        let mut images = rig.output("images", self.shape.multicoil());
        rig.ops().run(operation::Ifft2c {
            shape: self.shape,
            kspace: &kspace,
            columns: &columns,
            images: &mut images,
        });
        rig.result("images", &images, Tolerance::roundings(images::transform_roundings(self.shape.pixels())));
        rig.all_unchanged(&[("kspace", &kspace), ("columns", &columns)]);
    }
}

impl fmt::Display for Ifft2c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { n, coils, rows, columns } = self.shape;
        let weights = if self.weights == Weights::Any { " weighted" } else { "" };
        write!(f, "ifft2c n{n} c{coils} {rows}x{columns}{weights}")
    }
}
