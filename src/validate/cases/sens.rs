//! Sensitivity maps. A value needs a sum over coils of positive terms, its root, and a division.

use std::fmt;

use super::images;
use crate::backend::{ImageShape, operation};
use crate::cpu::{Cpu, sens};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::{Random, single};
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Divide,
    Reduce,
    DivideBackward,
}
use Operation::{Divide, DivideBackward, Reduce};

#[derive(Clone, Copy, Debug)]
pub struct Sens {
    operation: Operation,
    shape: ImageShape,
    /// One coil of one pixel is not a number.
    nan: bool,
}

impl Family for Sens {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for operation in [Divide, Reduce, DivideBackward] {
            for (i, shape) in images::SMALL.into_iter().enumerate() {
                cases.push(Self { operation, shape, nan: false });
                if operation != Reduce && i == 2 {
                    cases.push(Self { operation, shape, nan: true });
                }
            }
        }
        cases
    }

    fn random(random: &mut Random) -> Self {
        let operation = random.one_of(&[Divide, Reduce, DivideBackward]);
        let shape = images::random_shape(random);
        Self { operation, shape, nan: operation != Reduce && random.size(0, 3) == 0 }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let tolerance = Tolerance::roundings(2.0 + (shape.coils as f64).sqrt() / 2.0);
        match self.operation {
            Divide => {
                let raw = self.raw(&mut rig.random);
                let raw = rig.input("raw", raw);
                let mut sens_maps = rig.output("sens_maps", shape.multicoil());
                rig.ops().run(operation::DivideByRss { shape, raw: &raw, sens_maps: &mut sens_maps });
                rig.result("sens_maps", &sens_maps, tolerance);
                rig.unchanged("raw", &raw);
            }
            Reduce => {
                let sens_maps = images::sens_maps(&mut rig.random, shape);
                let sens_maps = rig.input("sens_maps", sens_maps);
                let images = rig.random.values(shape.multicoil());
                let images = rig.input("images", images);
                let mut combined = rig.output("combined", shape.combined());
                rig.ops().run(operation::SensReduce {
                    shape,
                    sens_maps: &sens_maps,
                    images: &images,
                    combined: &mut combined,
                });
                // An image of one pixel may cancel.
                rig.result("combined", &combined, tolerance.scale(0.6));
                rig.all_unchanged(&[("sens_maps", &sens_maps), ("images", &images)]);
            }
            DivideBackward => {
                let raw = self.raw(&mut rig.random);
                let mut sens_maps = vec![0.0; shape.multicoil()];
                sens::divide_by_rss(&Cpu::default(), shape, &raw, &mut sens_maps);
                let raw = rig.input("raw", raw);
                let sens_maps = rig.input("sens_maps", sens_maps.into_iter().map(single).collect());
                let d_sens = rig.random.values(shape.multicoil());
                let mut d_sens = rig.in_out("d_sens", d_sens);
                rig.ops().run(operation::DivideByRssBackward {
                    shape,
                    raw: &raw,
                    sens_maps: &sens_maps,
                    d_sens: &mut d_sens,
                });
                // With one coil only the part across S remains of d, divided by a size of at least 1/2.
                rig.result("d_sens", &d_sens, tolerance.scale(2.0));
                rig.all_unchanged(&[("raw", &raw), ("sens_maps", &sens_maps)]);
            }
        }
    }
}

impl Sens {
    /// Raw maps whose every coil is some way off 0, for a gradient is as large as they are small; except at every 5th
    /// pixel, where all coils are 0.
    fn raw(&self, random: &mut Random) -> Vec<f64> {
        let mut raw = Vec::new();
        for i in 0..self.shape.multicoil() / 2 {
            let size = if i % self.shape.pixels() % 5 == 3 { 0.0 } else { random.uniform(0.5..1.5) };
            let angle = random.uniform(0.0..6.2);
            raw.extend([single(size * angle.cos()), single(size * angle.sin())]);
        }
        if self.nan {
            raw[2 * (self.shape.pixels() / 2)] = f64::NAN;
        }
        raw
    }
}

impl fmt::Display for Sens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { n, coils, rows, columns } = self.shape;
        let name = match self.operation {
            Divide => "divide_by_rss",
            Reduce => "sens_reduce",
            DivideBackward => "divide_by_rss_backward",
        };
        write!(f, "{name} n{n} c{coils} {rows}x{columns}{}", if self.nan { " nan" } else { "" })
    }
}
