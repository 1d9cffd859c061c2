//! Data consistency in coil-combined images. A value of the normal operator is a sum over coils, each of which is
//! transformed there and back.

use std::fmt;

use super::images;
use crate::backend::{ImageShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Input,
    Dc,
    Update,
    UpdateBackward,
    Normal,
}
use Operation::{Dc, Input, Normal, Update, UpdateBackward};

#[derive(Clone, Copy, Debug)]
pub struct Cascade {
    operation: Operation,
    shape: ImageShape,
}

impl Family for Cascade {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for operation in [Input, Dc, Update, UpdateBackward, Normal] {
            let shapes = match operation {
                Input | Normal => images::with_rows_of_all_lengths(),
                Dc | Update | UpdateBackward => images::SMALL.to_vec(),
            };
            cases.extend(shapes.into_iter().map(|shape| Self { operation, shape }));
        }
        // More values than one task of a large sum takes.
        let shape = images::shape(2, 1, 96, 101);
        cases.extend([Dc, Update, UpdateBackward].map(|operation| Self { operation, shape }));
        cases
    }

    fn random(random: &mut Random) -> Self {
        let operation = random.one_of(&[Input, Dc, Update, UpdateBackward, Normal]);
        Self { operation, shape: images::random_shape(random) }
    }

    fn images(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        match self.operation {
            Input => self.input(rig),
            Dc => self.dc(rig),
            Update => self.update(rig),
            UpdateBackward => self.update_backward(rig),
            Normal => self.normal(rig),
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
        rig.ops().run(operation::CascadeInput {
            shape,
            sens_maps: &sens_maps,
            mask: &mask,
            m0: &m0,
            u: &u,
            v: &v,
            m: &mut m,
        });
        rig.result("m", &m, Self::tolerance(shape));
        rig.all_unchanged(&[("sens_maps", &sens_maps), ("mask", &mask), ("m0", &m0), ("u", &u), ("v", &v)]);
    }

    fn dc<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.shape.combined();
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let [u, v] = ["u", "v"].map(|label| {
            let values = rig.random.values(len);
            rig.input(label, values)
        });
        let mut v_out = rig.output("v_out", len);
        rig.ops().run(operation::CascadeDc {
            parameters: &parameters,
            dc_weight: spans[0],
            u: &u,
            v: &v,
            v_out: &mut v_out,
        });
        // Two products and two sums.
        rig.result("v_out", &v_out, Tolerance::roundings(1.0).scale(1.0));
        rig.all_unchanged(&[("parameters", &parameters), ("u", &u), ("v", &v)]);
    }

    fn update<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.shape.combined();
        let [r, u] = ["r", "u"].map(|label| {
            let values = rig.random.values(len);
            rig.input(label, values)
        });
        let values = rig.random.values(len);
        let mut m = rig.in_out("m", values);
        let [mut u_out, mut u_alone] = ["u_out", "u_alone"].map(|label| rig.output(label, len));
        rig.ops().run(operation::CascadeUpdate { r: &r, u: &u, u_out: &mut u_out, m: Some(&mut m) });
        rig.ops().run(operation::CascadeUpdate { r: &r, u: &u, u_out: &mut u_alone, m: None });
        for (label, result) in [("u_out", &u_out), ("u_alone", &u_alone), ("m", &m)] {
            rig.result(label, result, Tolerance::roundings(0.5).scale(1.0));
        }
        rig.all_unchanged(&[("r", &r), ("u", &u)]);
    }

    fn update_backward<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.shape.combined();
        let (parameters, spans) = rig.parameters(&[1], 1.0);
        let [u, v, d_m, mut d_u, mut d_v, mut d_m0] = ["u", "v", "d_m", "d_u", "d_v", "d_m0"].map(|label| {
            let values = rig.random.values(len);
            rig.in_out(label, values)
        });
        let mut d_parameters = rig.parameter_gradient(&spans);
        rig.ops().run(operation::CascadeUpdateBackward {
            parameters: &parameters,
            dc_weight: spans[0],
            u: &u,
            v: &v,
            d_m: &d_m,
            d_u: &mut d_u,
            d_v: &mut d_v,
            d_m0: &mut d_m0,
            d_parameters: &mut d_parameters,
        });
        rig.result("d_u", &d_u, Tolerance::roundings(1.5).scale(1.0));
        rig.result("d_v", &d_v, Tolerance::roundings(1.0).scale(1.0));
        rig.result("d_m0", &d_m0, Tolerance::roundings(0.5).scale(1.0));
        // One number that may cancel; what is summed grows with the root of the terms' number.
        let tolerance = Tolerance::sum(len).scale((len as f64).sqrt() / 2.0);
        rig.result_in_parts("d_parameters", &d_parameters, &[("dc_weight", spans[0], tolerance)]);
        rig.all_unchanged(&[("parameters", &parameters), ("u", &u), ("v", &v), ("d_m", &d_m)]);
    }

    fn normal<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let shape = self.shape;
        let sens_maps = images::sens_maps(&mut rig.random, shape);
        let mask = rig.random.mask(shape.n * shape.columns);
        let v = images::image_with_empty_rows(&mut rig.random, shape);
        let [sens_maps, mask, v] = [("sens_maps", sens_maps), ("mask", mask), ("v", v)]
            .map(|(label, values)| rig.input(label, values));
        let values = rig.random.values(shape.combined());
        let mut sum = rig.in_out("sum", values);
        rig.ops().run(operation::NormalOperator {
            shape,
            sens_maps: &sens_maps,
            mask: &mask,
            v: &v,
            sum: &mut sum,
        });
        rig.result("sum", &sum, Self::tolerance(shape));
        rig.all_unchanged(&[("sens_maps", &sens_maps), ("mask", &mask), ("v", &v)]);
    }
}

impl fmt::Display for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageShape { n, coils, rows, columns } = self.shape;
        let name = match self.operation {
            Input => "cascade_input",
            Dc => "cascade_dc",
            Update => "cascade_update",
            UpdateBackward => "cascade_update_backward",
            Normal => "normal_operator",
        };
        // An update is of coil-combined images alone.
        let coils = match self.operation {
            Input | Normal => format!(" c{coils}"),
            Dc | Update | UpdateBackward => String::new(),
        };
        write!(f, "{name} n{n}{coils} {rows}x{columns}")
    }
}
