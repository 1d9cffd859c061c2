//! Definitions as loops, central differences and thread counts.

use super::*;
use crate::cpu::buffer::Buffer;
use crate::cpu::testing::*;

const LAMBDA: Span = Span { offset: 1, len: 1 };

/// Random inputs of one shape. At one pixel of the first slice everything is 0, so the output is too.
struct Inputs {
    shape: ImageShape,
    mask: Vec<f64>,
    sens: Vec<f64>,
    x0: Vec<f64>,
    m0: Vec<f64>,
    u: Vec<f64>,
    v: Vec<f64>,
}

impl Inputs {
    fn new(shape: ImageShape) -> Self {
        let multicoil = |seed| {
            let mut image = values(seed, shape.multicoil());
            for coil in image[..2 * shape.coils * shape.pixels()].chunks_exact_mut(2 * shape.pixels()) {
                coil[..2].fill(0.0);
            }
            image
        };
        let combined = |seed| values(seed, shape.combined());
        let (mut sens, x0) = (multicoil(32), multicoil(33));
        // P spreads a row into its first pixel unless the row is dark in every coil.
        for slice in sens[..2 * shape.coils * shape.pixels()].chunks_exact_mut(2 * shape.pixels()) {
            slice[..2 * shape.columns].fill(0.0);
        }
        let mask = mask(31, shape);
        Self { shape, mask, sens, x0, m0: combined(34), u: combined(35), v: combined(36) }
    }

    fn cascade_input(&self, sens: &[f64], m0: &[f64], u: &[f64], v: &[f64]) -> Vec<f64> {
        let mut m = poison(self.shape.combined());
        cascade_input(&cpu(), self.shape, sens, &self.mask, m0, u, v, &mut m);
        m
    }

    fn normal(&self, v: &[f64]) -> Vec<f64> {
        let zero = vec![0.0; v.len()];
        self.cascade_input(&self.sens, &zero, &zero, v)
    }

    fn rss_output(&self, sens: &[f64], u: &[f64], v: &[f64]) -> Vec<f64> {
        let mut output = poison(self.shape.combined() / 2);
        rss_output(&cpu(), self.shape, sens, &self.mask, &self.x0, u, v, &mut output);
        output
    }

    /// `S_c·image` of all coils.
    fn expand(&self, image: &[f64]) -> Vec<Complex<f64>> {
        let shape = self.shape;
        let combined = |i| i / (shape.coils * shape.pixels()) * shape.pixels() + i % shape.pixels();
        complex(&self.sens).iter().enumerate().map(|(i, s)| s * complex(image)[combined(i)]).collect()
    }

    /// `P(S_c·image)` of all coils, through the full 2-D transform.
    fn projected(&self, image: &[f64]) -> Vec<Complex<f64>> {
        let expanded = self.expand(image);
        let projected = naive_projection(self.shape, &self.mask, bytemuck::cast_slice(&expanded));
        complex(&projected).to_vec()
    }

    /// Calls with each coil of each pixel: index into multi-coil and into combined arrays.
    fn for_each(&self, mut f: impl FnMut(usize, usize)) {
        for n in 0..self.shape.n {
            for coil in 0..self.shape.coils {
                for pixel in 0..self.shape.pixels() {
                    let of_slice = n * self.shape.pixels();
                    f((n * self.shape.coils + coil) * self.shape.pixels() + pixel, of_slice + pixel);
                }
            }
        }
    }
}

#[test]
fn cascade_input_is_its_definition() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        let mut expected: Vec<Complex<f64>> =
            complex(&i.m0).iter().zip(complex(&i.u)).map(|(m0, u)| m0 - u).collect();
        let projected = i.projected(&i.v);
        i.for_each(|coil, pixel| expected[pixel] += complex(&i.sens)[coil].conj() * projected[coil]);
        let m = i.cascade_input(&i.sens, &i.m0, &i.u, &i.v);
        assert_close(&m, bytemuck::cast_slice(&expected), 1e-13);
    }
}

#[test]
fn the_normal_operator_is_self_adjoint() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        assert_close(&[dot(&i.u, &i.normal(&i.v))], &[dot(&i.normal(&i.u), &i.v)], 1e-13);
    }
}

#[test]
fn the_normal_operator_is_added_and_its_own_gradient() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        let [d_m, before] = [41, 42].map(|seed| values(seed, shape.combined()));
        let mut d_v = before.clone();
        normal_operator(&cpu(), shape, &i.sens, &i.mask, &d_m, &mut d_v);
        let d_v: Vec<_> = d_v.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert_close(&d_v, &i.normal(&d_m), 1e-13);
        assert_gradient(|v| dot(&i.cascade_input(&i.sens, &i.m0, &i.u, v), &d_m), &i.v, &d_v);
    }
}

#[test]
fn sens_backward_adds_what_m0_and_every_normal_operator_give() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        let d_m0 = values(51, shape.combined());
        let vs = [i.v.clone(), vec![0.0; shape.combined()], values(52, shape.combined())].map(Buffer::from);
        let gs = [53, 54, 55].map(|seed| Buffer::from(values(seed, shape.combined())));
        let pairs: Vec<_> = vs.iter().zip(&gs).collect();
        let before = values(56, shape.multicoil());
        let mut d_sens = before.clone();
        sens_backward(&cpu(), shape, &i.sens, &i.mask, &i.x0, &d_m0, &pairs, &mut d_sens);
        d_sens.iter_mut().zip(&before).for_each(|(after, before)| *after -= before);
        let loss = |sens: &[f64]| {
            let mut m0 = poison(shape.combined());
            crate::cpu::sens::sens_reduce(&cpu(), shape, sens, &i.x0, &mut m0);
            let zero = vec![0.0; m0.len()];
            let normal = |v: &[f64]| i.cascade_input(sens, &zero, &zero, v);
            dot(&m0, &d_m0) + vs.iter().zip(&gs).map(|(v, g)| dot(&normal(v), g)).sum::<f64>()
        };
        assert_gradient(loss, &i.sens, &d_sens);
    }
}

#[test]
fn rss_output_is_its_definition() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        let (expanded, projected) = (i.expand(&i.u), i.projected(&i.v));
        let mut expected = vec![0.0; shape.combined() / 2];
        i.for_each(|coil, pixel| {
            expected[pixel] += (complex(&i.x0)[coil] - expanded[coil] + projected[coil]).norm_sqr();
        });
        expected.iter_mut().for_each(|sum| *sum = sum.sqrt());
        let output = i.rss_output(&i.sens, &i.u, &i.v);
        assert_eq!(output[0], 0.0, "the case of an output of 0 is covered");
        assert_close(&output, &expected, 1e-13);
    }
}

#[test]
fn the_gradients_of_rss_output_are_right() {
    for shape in SHAPES {
        let i = Inputs::new(shape);
        let output = i.rss_output(&i.sens, &i.u, &i.v);
        let d_output = values(61, output.len());
        let (mut d_u, mut d_v) = (poison(i.u.len()), poison(i.v.len()));
        let mut d_sens = poison(i.sens.len());
        rss_output_backward(
            &cpu(),
            shape,
            &i.sens,
            &i.mask,
            &i.x0,
            &i.u,
            &i.v,
            &output,
            &d_output,
            &mut d_u,
            &mut d_v,
            &mut d_sens,
        );
        // The root has a kink at the dark pixel, whose gradient is 0 by definition.
        let loss = |output: Vec<f64>| dot(&output[1..], &d_output[1..]);
        assert_gradient(|u| loss(i.rss_output(&i.sens, u, &i.v)), &i.u, &d_u);
        assert_gradient(|v| loss(i.rss_output(&i.sens, &i.u, v)), &i.v, &d_v);
        assert_gradient(|sens| loss(i.rss_output(sens, &i.u, &i.v)), &i.sens, &d_sens);
    }
}

/// What a cascade makes of u and v, where its U-Net adds r.
fn updated(parameters: &[f64], r: &[f64], u: &[f64], v: &[f64]) -> [Vec<f64>; 2] {
    let [mut u_out, mut v_out] = [poison(u.len()), poison(u.len())];
    cascade_dc(&cpu(), parameters, LAMBDA, u, v, &mut v_out);
    cascade_update(&cpu(), r, u, &mut u_out, None);
    [u_out, v_out]
}

#[test]
fn the_update_and_its_gradients_are_right() {
    for len in [2, 30, CHUNK + 6, 2 * CHUNK] {
        let parameters = vec![f64::NAN, 0.7, f64::NAN];
        let [r, u, v] = [71, 72, 73].map(|seed| values(seed, len));
        let [u_out, v_out] = updated(&parameters, &r, &u, &v);
        let expected: Vec<f64> = u.iter().zip(&v).map(|(u, v)| 0.3 * v + 0.7 * u).collect();
        assert_close(&v_out, &expected, 1e-15);
        assert_close(&u_out, &u.iter().zip(&r).map(|(u, r)| u + r).collect::<Vec<_>>(), 1e-15);
        let (mut m, mut u_with_m) = (v.clone(), poison(len));
        cascade_update(&cpu(), &r, &u, &mut u_with_m, Some(&mut m));
        assert_eq!(u_with_m, u_out);
        assert_close(&m, &v.iter().zip(&r).map(|(v, r)| v - r).collect::<Vec<_>>(), 1e-15);

        let [g_u, g_v, d_m, g_m0] = [74, 75, 76, 77].map(|seed| values(seed, len));
        let [mut d_u, mut d_v, mut d_m0] = [g_u.clone(), g_v.clone(), g_m0.clone()];
        let mut d_parameters = vec![5.0, 6.0, 7.0];
        cascade_update_backward(
            &cpu(),
            &parameters,
            LAMBDA,
            &u,
            &v,
            &d_m,
            &mut d_u,
            &mut d_v,
            &mut d_m0,
            &mut d_parameters,
        );
        // What the U-Net is shown is −u beside what u does not touch.
        let loss =
            |[u_out, v_out]: [Vec<f64>; 2], u: &[f64]| dot(&u_out, &g_u) + dot(&v_out, &g_v) - dot(u, &d_m);
        assert_gradient(|u| loss(updated(&parameters, &r, u, &v), u), &u, &d_u);
        assert_gradient(|v| loss(updated(&parameters, &r, &u, v), &u), &v, &d_v);
        assert_close(&d_m0, &g_m0.iter().zip(&d_m).map(|(a, b)| a + b).collect::<Vec<_>>(), 1e-15);
        assert_eq!([d_parameters[0], d_parameters[2]], [5.0, 7.0]);
        let of_lambda = |lambda: &[f64]| loss(updated(&[0.0, lambda[0], 0.0], &r, &u, &v), &u);
        assert_gradient(of_lambda, &[0.7], &[d_parameters[1] - 6.0]);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = SHAPES[1];
    let i = Inputs::new(shape);
    let len = 3 * CHUNK + 10;
    let [u, v, d_m, d_u, d_v, d_m0] = [81, 82, 83, 84, 85, 86].map(|seed| values(seed, len));
    assert_same_bits(|| {
        let output = i.rss_output(&i.sens, &i.u, &i.v);
        let m = i.cascade_input(&i.sens, &i.m0, &i.u, &i.v);
        let mut d_sens = vec![0.0; i.sens.len()];
        let [of_v, of_m] = [i.v.clone(), m.clone()].map(Buffer::from);
        sens_backward(&cpu(), shape, &i.sens, &i.mask, &i.x0, &i.m0, &[(&of_v, &of_m)], &mut d_sens);
        let mut d_lambda = vec![0.0; 2];
        let [mut d_u, mut d_v, mut d_m0] = [d_u.clone(), d_v.clone(), d_m0.clone()];
        cascade_update_backward(
            &cpu(),
            &[0.0, 0.6],
            LAMBDA,
            &u,
            &v,
            &d_m,
            &mut d_u,
            &mut d_v,
            &mut d_m0,
            &mut d_lambda,
        );
        [output, m, d_sens, d_lambda, d_u, d_v, d_m0].concat()
    });
}
