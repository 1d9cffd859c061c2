//! The final coil combination. A coil's image is transformed there and back, forward and again in the backward.

use std::fmt;

use super::cascade::Cascade;
use super::{images, pass};
use crate::backend::{ImageShape, operation};
use crate::cpu::{Cpu, cascade};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::{Random, single};
use crate::validate::rig::Rig;

#[derive(Clone, Copy, Debug)]
pub struct RssOutput {
    backward: bool,
    shape: ImageShape,
}

/// What both passes read.
struct Images {
    sens_maps: Vec<f64>,
    mask: Vec<f64>,
    x0: Vec<f64>,
    u: Vec<f64>,
    v: Vec<f64>,
}

impl Images {
    /// The gradient of a length is a direction, which little numbers have no accurate one of: x₀ is so large that its
    /// difference from `S·u` and `P(S·v)` stays away from 0. Except in empty rows of v, where every 4th pixel of x₀
    /// and u is 0 as well.
    fn new(random: &mut Random, shape: ImageShape) -> Self {
        let sens_maps = images::sens_maps(random, shape);
        let mask = random.mask(shape.n * shape.columns);
        let mut u = random.values(shape.combined());
        let v = images::image_with_empty_rows(random, shape);
        let mut x0: Vec<f64> = Vec::new();
        for _ in 0..shape.multicoil() / 2 {
            let (size, angle) = (random.uniform(4.0..6.0), random.uniform(0.0..6.2));
            x0.extend([size * angle.cos(), size * angle.sin()]);
        }
        let empty = |pixel: usize| v[2 * (pixel / shape.columns * shape.columns)..][..2] == [0.0; 2];
        for pixel in (0..shape.combined() / 2).filter(|pixel| pixel % 4 == 2 && empty(*pixel)) {
            u[2 * pixel..][..2].fill(0.0);
            let (n, at) = (pixel / shape.pixels(), pixel % shape.pixels());
            for coil in 0..shape.coils {
                x0[2 * ((n * shape.coils + coil) * shape.pixels() + at)..][..2].fill(0.0);
            }
        }
        x0.iter_mut().for_each(|x| *x = single(*x));
        Self { sens_maps, mask, x0, u, v }
    }

    fn output(&self, shape: ImageShape) -> Vec<f64> {
        let Self { sens_maps, mask, x0, u, v } = self;
        let mut output = vec![0.0; shape.combined() / 2];
        cascade::rss_output(&Cpu::default(), shape, sens_maps, mask, x0, u, v, &mut output);
        output
    }
}

impl Family for RssOutput {
    fn table() -> Vec<Self> {
        let of_pass = |backward| {
            images::with_rows_of_all_lengths().into_iter().map(move |shape| Self { backward, shape })
        };
        of_pass(false).chain(of_pass(true)).collect()
    }

    fn random(random: &mut Random) -> Self {
        Self { backward: random.coin(), shape: images::random_shape(random) }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let images = Images::new(&mut rig.random, shape);
        let output_values = images.output(shape);
        let Images { sens_maps, mask, x0, u, v } = images;
        let labels = ["sens_maps", "mask", "x0", "u", "v"];
        let mut values = [sens_maps, mask, x0, u, v].into_iter();
        let inputs = labels.map(|label| rig.input(label, values.next().expect("one for each label")));
        let [sens_maps, mask, x0, u, v] = &inputs;
        let tolerance = Cascade::tolerance(shape);
        if !self.backward {
            let mut output = rig.output("output", shape.combined() / 2);
            rig.ops().run(operation::RssOutput { shape, sens_maps, mask, x0, u, v, output: &mut output });
            rig.result("output", &output, tolerance);
        } else {
            let output = rig.input("output", output_values);
            let d_output = rig.random.values(shape.combined() / 2);
            let d_output = rig.input("d_output", d_output);
            let [mut d_u, mut d_v] = ["d_u", "d_v"].map(|label| rig.output(label, shape.combined()));
            let mut d_sens = rig.output("d_sens", shape.multicoil());
            rig.ops().run(operation::RssOutputBackward {
                shape,
                sens_maps,
                mask,
                x0,
                u,
                v,
                output: &output,
                d_output: &d_output,
                d_u: &mut d_u,
                d_v: &mut d_v,
                d_sens: &mut d_sens,
            });
            for (label, buffer) in [("d_u", &d_u), ("d_v", &d_v), ("d_sens", &d_sens)] {
                rig.result(label, buffer, tolerance);
            }
            rig.all_unchanged(&[("output", &output), ("d_output", &d_output)]);
        }
        for (label, buffer) in labels.iter().zip(&inputs) {
            rig.unchanged(label, buffer);
        }
    }
}

impl fmt::Display for RssOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { n, coils, rows, columns } = self.shape;
        write!(f, "rss_output{} n{n} c{coils} {rows}x{columns}", pass(self.backward))
    }
}
