//! What all cascades give the sensitivity maps: for each of them two products that are transformed there and back.

use std::fmt;

use super::images;
use crate::backend::{ImageShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct SensBackward {
    shape: ImageShape,
    pairs: usize,
}

impl Family for SensBackward {
    fn table() -> Vec<Self> {
        let shapes = images::with_rows_of_all_lengths().into_iter().enumerate();
        let mut cases: Vec<Self> = shapes.map(|(i, shape)| Self { shape, pairs: 1 + i % 3 }).collect();
        cases.push(Self { shape: images::shape(1, 2, 3, 24), pairs: 0 });
        cases.push(Self { shape: images::shape(2, 2, 4, 31), pairs: 12 });
        cases
    }

    fn random(random: &mut Random) -> Self {
        Self { shape: images::random_shape(random), pairs: random.size(0, 5) }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let sens_maps = images::sens_maps(&mut rig.random, shape);
        let mask = rig.random.mask(shape.n * shape.columns);
        let x0 = rig.random.values(shape.multicoil());
        let d_m0 = rig.random.values(shape.combined());
        let d_sens = rig.random.values(shape.multicoil());
        let sens_maps = rig.input("sens_maps", sens_maps);
        let mask = rig.input("mask", mask);
        let x0 = rig.input("x0", x0);
        let d_m0 = rig.input("d_m0", d_m0);
        let mut d_sens = rig.in_out("d_sens", d_sens);
        let buffers: Vec<[B::Buffer; 2]> = (0..self.pairs)
            .map(|i| {
                // The first cascade's v is 0 throughout.
                let v = match i {
                    0 if self.pairs > 1 => vec![0.0; shape.combined()],
                    _ => images::image_with_empty_rows(&mut rig.random, shape),
                };
                let g = rig.random.values(shape.combined());
                [rig.input(&format!("v {i}"), v), rig.input(&format!("d_m {i}"), g)]
            })
            .collect();
        let pairs: Vec<(&B::Buffer, &B::Buffer)> = buffers.iter().map(|[v, g]| (v, g)).collect();
        rig.ops().run(operation::SensBackward {
            shape,
            sens_maps: &sens_maps,
            mask: &mask,
            x0: &x0,
            d_m0: &d_m0,
            pairs: &pairs,
            d_sens: &mut d_sens,
        });
        let terms = 1.0 + 2.0 * self.pairs as f64;
        let roundings = 1.5 * images::transform_roundings(shape.columns) + terms.sqrt();
        rig.result("d_sens", &d_sens, Tolerance::roundings(roundings).scale(terms.sqrt()));
        rig.all_unchanged(&[("sens_maps", &sens_maps), ("mask", &mask), ("x0", &x0), ("d_m0", &d_m0)]);
        for (i, [v, g]) in buffers.iter().enumerate() {
            rig.all_unchanged(&[(&format!("v {i}"), v), (&format!("d_m {i}"), g)]);
        }
    }
}

impl fmt::Display for SensBackward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape: ImageShape { n, coils, rows, columns }, pairs } = *self;
        write!(f, "sens_backward n{n} c{coils} {rows}x{columns} of {pairs}")
    }
}
