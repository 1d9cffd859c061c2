//! Data consistency in coil-combined images. A value of the normal operator is a sum over coils, each of which is
//! transformed there and back.

use std::fmt;

use super::images;
use crate::backend::ImageShape;
use crate::validate::case::Family;
use crate::validate::checked::Checked;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Input,
    Update,
    UpdateBackward,
    InputBackward,
}
use Operation::{Input, InputBackward, Update, UpdateBackward};

#[derive(Clone, Copy, Debug)]
pub struct Cascade {
    operation: Operation,
    shape: ImageShape,
}

impl Family for Cascade {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for operation in [Input, Update, UpdateBackward, InputBackward] {
            let shapes = match operation {
                Input | InputBackward => images::with_rows_of_all_lengths(),
                Update | UpdateBackward => images::SMALL.to_vec(),
            };
            cases.extend(shapes.into_iter().map(|shape| Self { operation, shape }));
        }
        // More values than one task of a large sum takes.
        let shape = images::shape(2, 1, 96, 101);
        cases.extend([Update, UpdateBackward].map(|operation| Self { operation, shape }));
        cases
    }

    fn random(random: &mut Random) -> Self {
        let operation = random.one_of(&[Input, Update, UpdateBackward, InputBackward]);
        Self { operation, shape: images::random_shape(random) }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        match self.operation {
            Input => self.input(rig),
            Update => self.update(rig),
            UpdateBackward => self.update_backward(rig),
            InputBackward => self.input_backward(rig),
        }
    }
}

impl Cascade {
    /// Of sums over coils of what was transformed there and back; the numbers are of order 1 each.
    pub(super) fn tolerance(shape: ImageShape) -> Tolerance {
        let roundings = 1.5 * images::transform_roundings(shape.columns) + (shape.coils as f64).sqrt();
        Tolerance::roundings(roundings).scale(1.0)
    }

    fn input<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let sens_maps = images::sens_maps(&mut rig.random, shape);
        let mask = rig.random.mask(shape.n * shape.columns);
        let [m0, u] = [0, 1].map(|_| rig.random.values(shape.combined()));
        let v = images::image_with_empty_rows(&mut rig.random, shape);
        let sens_maps = rig.input("sens_maps", sens_maps);
        let mask = rig.input("mask", mask);
        let [m0, u, v] = [("m0", m0), ("u", u), ("v", v)].map(|(label, values)| rig.input(label, values));
        let mut m = rig.output("m", shape.combined());
        rig.ops().cascade_input(shape, &sens_maps, &mask, &m0, &u, &v, &mut m);
        rig.result("m", &m, Self::tolerance(shape));
        rig.all_unchanged(&[("sens_maps", &sens_maps), ("mask", &mask), ("m0", &m0), ("u", &u), ("v", &v)]);
    }

    fn update<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.shape.combined();
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let [r, u, v] = ["r", "u", "v"].map(|label| {
            let values = rig.random.values(len);
            rig.input(label, values)
        });
        let [mut u_out, mut v_out] = ["u_out", "v_out"].map(|label| rig.output(label, len));
        rig.ops().cascade_update(&parameters, spans[0], &r, &u, &v, &mut u_out, &mut v_out);
        // Two products and two sums, or one sum.
        rig.result("u_out", &u_out, Tolerance::roundings(0.5).scale(1.0));
        rig.result("v_out", &v_out, Tolerance::roundings(1.0).scale(1.0));
        rig.all_unchanged(&[("parameters", &parameters), ("r", &r), ("u", &u), ("v", &v)]);
    }

    fn update_backward<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.shape.combined();
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let [u, v, mut d_u, mut d_v] = ["u", "v", "d_u", "d_v"].map(|label| {
            let values = rig.random.values(len);
            rig.in_out(label, values)
        });
        let mut d_r = rig.output("d_r", len);
        let mut d_parameters = rig.parameter_gradient(&spans);
        rig.ops().cascade_update_backward(
            &parameters,
            spans[0],
            &u,
            &v,
            &mut d_u,
            &mut d_v,
            &mut d_r,
            &mut d_parameters,
        );
        rig.result("d_u", &d_u, Tolerance::roundings(1.0).scale(1.0));
        rig.result("d_v", &d_v, Tolerance::roundings(1.0).scale(1.0));
        rig.result("d_r", &d_r, Tolerance::EXACT);
        // One number that may cancel; what is summed grows with the root of the terms' number.
        let tolerance = Tolerance::sum(len).scale((len as f64).sqrt() / 2.0);
        rig.result_in_parts("d_parameters", &d_parameters, &[("dc_weight", spans[0], tolerance)]);
        rig.all_unchanged(&[("parameters", &parameters), ("u", &u), ("v", &v)]);
    }

    fn input_backward<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let sens_maps = images::sens_maps(&mut rig.random, shape);
        let mask = rig.random.mask(shape.n * shape.columns);
        let d_m = images::image_with_empty_rows(&mut rig.random, shape);
        let sens_maps = rig.input("sens_maps", sens_maps);
        let mask = rig.input("mask", mask);
        let d_m = rig.input("d_m", d_m);
        let [mut d_u, mut d_v, mut d_m0] = ["d_u", "d_v", "d_m0"].map(|label| {
            let values = rig.random.values(shape.combined());
            rig.in_out(label, values)
        });
        let ops = rig.ops();
        ops.cascade_input_backward(shape, &sens_maps, &mask, &d_m, &mut d_u, &mut d_v, &mut d_m0);
        rig.result("d_u", &d_u, Tolerance::roundings(0.5).scale(1.0));
        rig.result("d_v", &d_v, Self::tolerance(shape));
        rig.result("d_m0", &d_m0, Tolerance::roundings(0.5).scale(1.0));
        rig.all_unchanged(&[("sens_maps", &sens_maps), ("mask", &mask), ("d_m", &d_m)]);
    }
}

impl fmt::Display for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { n, coils, rows, columns } = self.shape;
        let name = match self.operation {
            Input => "cascade_input",
            Update => "cascade_update",
            UpdateBackward => "cascade_update_backward",
            InputBackward => "cascade_input_backward",
        };
        // An update is of coil-combined images alone.
        let coils = match self.operation {
            Input | InputBackward => format!(" c{coils}"),
            Update | UpdateBackward => String::new(),
        };
        write!(f, "{name} n{n}{coils} {rows}x{columns}")
    }
}
