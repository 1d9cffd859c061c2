//! Data consistency in coil-combined images: the normal operator, the final coil combination and their gradients.
//!
//! A task owns one row of one slice and visits its coils; the multi-coil state never leaves that task's scratch.

use num_complex::Complex;
use rayon::prelude::*;

use super::Cpu;
use super::fft::Projection;
use super::rows::{CHUNK, Row, coil_rows, complex, complex_mut, lane_sum};
use crate::backend::{ImageShape, Span};
use crate::real::Real;

/// See [`crate::backend::Backend::cascade_input`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_input<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    m0: &[T],
    u: &[T],
    v: &[T],
    m: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, m0, u, v] = [sens_maps, m0, u, v].map(complex);
    complex_mut(m).par_chunks_exact_mut(shape.columns).enumerate().for_each_init(
        || projection.scratch(1),
        |scratch, (i, m)| {
            let row = Row::of(shape, i);
            cpu.arch.dispatch(|| {
                let start = row.combined(shape, m0).iter().zip(row.combined(shape, u));
                for (m, (&m0, &u)) in m.iter_mut().zip(start) {
                    *m = m0 - u;
                }
            });
            add_normal_row(cpu, &projection, shape, row, sens_maps, row.combined(shape, v), m, scratch);
        },
    );
}

/// `sum += Σ_c S̄_c·P(S_c·v)` for one row.
#[allow(clippy::too_many_arguments)]
fn add_normal_row<T: Real>(
    cpu: &Cpu<T>,
    projection: &Projection<T>,
    shape: ImageShape,
    row: Row,
    sens_maps: &[Complex<T>],
    v: &[Complex<T>],
    sum: &mut [Complex<T>],
    scratch: &mut [T],
) {
    if is_zero(v) {
        return;
    }
    let (projected, work) = complex_mut(scratch).split_at_mut(shape.columns);
    for coil in 0..shape.coils {
        let sens = row.coil(shape, sens_maps, coil);
        cpu.arch.dispatch(|| multiply(sens, v, projected));
        projection.apply(row.n, projected, work);
        cpu.arch.dispatch(|| add_conjugate_product(sens, projected, sum));
    }
}

/// The first two cascades have v = 0, and so has every row outside the object: nothing to transform.
fn is_zero<T: Real>(row: &[Complex<T>]) -> bool {
    row.iter().all(|v| *v == Complex::default())
}

/// `product = a·b`.
#[inline(always)]
fn multiply<T: Real>(a: &[Complex<T>], b: &[Complex<T>], product: &mut [Complex<T>]) {
    for (product, (&a, &b)) in product.iter_mut().zip(a.iter().zip(b)) {
        *product = a * b;
    }
}

/// `sum += ā·b`.
#[inline(always)]
fn add_conjugate_product<T: Real>(a: &[Complex<T>], b: &[Complex<T>], sum: &mut [Complex<T>]) {
    for (sum, (a, &b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        *sum = *sum + a.conj() * b;
    }
}

/// See [`crate::backend::Backend::cascade_update`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_update<T: Real>(
    cpu: &Cpu<T>,
    parameters: &[T],
    dc_weight: Span,
    r: &[T],
    u: &[T],
    v: &[T],
    u_out: &mut [T],
    v_out: &mut [T],
) {
    let lambda = parameters[dc_weight.offset];
    let inputs = r.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)).zip(v.par_chunks(CHUNK));
    let outputs = u_out.par_chunks_mut(CHUNK).zip(v_out.par_chunks_mut(CHUNK));
    inputs.zip(outputs).for_each(|(((r, u), v), (u_out, v_out))| {
        cpu.arch.dispatch(|| {
            for ((u_out, &r), &u) in u_out.iter_mut().zip(r).zip(u) {
                *u_out = u + r;
            }
            for ((v_out, &u), &v) in v_out.iter_mut().zip(u).zip(v) {
                *v_out = (T::one() - lambda) * v + lambda * u;
            }
        });
    });
}

/// See [`crate::backend::Backend::rss_output`].
#[allow(clippy::too_many_arguments)]
pub fn rss_output<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    u: &[T],
    v: &[T],
    output: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, x0, u, v] = [sens_maps, x0, u, v].map(complex);
    output.par_chunks_exact_mut(shape.columns).enumerate().for_each_init(
        || projection.scratch(1),
        |scratch, (i, output)| {
            let row = Row::of(shape, i);
            let (u, v) = (row.combined(shape, u), row.combined(shape, v));
            let (image, work) = complex_mut(scratch).split_at_mut(shape.columns);
            output.fill(T::zero());
            for coil in 0..shape.coils {
                let (sens, x0) = (row.coil(shape, sens_maps, coil), row.coil(shape, x0, coil));
                coil_image_row(cpu, &projection, row.n, sens, x0, u, v, image, work);
                cpu.arch.dispatch(|| {
                    for (sum, image) in output.iter_mut().zip(&*image) {
                        *sum += image.norm_sqr();
                    }
                });
            }
            cpu.arch.dispatch(|| output.iter_mut().for_each(|output| *output = output.sqrt()));
        },
    );
}

/// `image = x₀ − S·u + P(S·v)` for one row of one coil of slice `n`.
#[allow(clippy::too_many_arguments)]
fn coil_image_row<T: Real>(
    cpu: &Cpu<T>,
    projection: &Projection<T>,
    n: usize,
    sens: &[Complex<T>],
    x0: &[Complex<T>],
    u: &[Complex<T>],
    v: &[Complex<T>],
    image: &mut [Complex<T>],
    work: &mut [Complex<T>],
) {
    cpu.arch.dispatch(|| multiply(sens, v, image));
    projection.apply(n, image, work);
    cpu.arch.dispatch(|| {
        for ((image, &x0), (&sens, &u)) in image.iter_mut().zip(x0).zip(sens.iter().zip(u)) {
            *image = *image + (x0 - sens * u);
        }
    });
}

/// See [`crate::backend::Backend::rss_output_backward`]. Where the output is 0 so is the gradient.
#[allow(clippy::too_many_arguments)]
pub fn rss_output_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    u: &[T],
    v: &[T],
    output: &[T],
    d_output: &[T],
    d_u: &mut [T],
    d_v: &mut [T],
    d_sens: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, x0, u, v] = [sens_maps, x0, u, v].map(complex);
    let mut d_sens = coil_rows(shape, complex_mut(d_sens));
    let d_images = complex_mut(d_u)
        .par_chunks_exact_mut(shape.columns)
        .zip(complex_mut(d_v).par_chunks_exact_mut(shape.columns));
    let rows = d_images.zip(d_sens.par_chunks_exact_mut(shape.coils)).enumerate();
    rows.for_each_init(
        || (projection.scratch(1), cpu.shelf.take(shape.columns)),
        |(scratch, factor), (i, ((d_u, d_v), d_sens))| {
            let row = Row::of(shape, i);
            let (u, v) = (row.combined(shape, u), row.combined(shape, v));
            let (image, work) = complex_mut(scratch).split_at_mut(shape.columns);
            let outputs = row.combined(shape, output).iter().zip(row.combined(shape, d_output));
            for (factor, (&output, &d_output)) in factor.iter_mut().zip(outputs) {
                *factor = if output == T::zero() { T::zero() } else { d_output / output };
            }
            d_u.fill(Complex::default());
            d_v.fill(Complex::default());
            for (coil, d_sens) in d_sens.iter_mut().enumerate() {
                let (sens, x0) = (row.coil(shape, sens_maps, coil), row.coil(shape, x0, coil));
                coil_image_row(cpu, &projection, row.n, sens, x0, u, v, image, work);
                // From here on `image` is the gradient of the coil's image, then P of it.
                cpu.arch.dispatch(|| {
                    for (image, &factor) in image.iter_mut().zip(&**factor) {
                        *image = *image * factor;
                    }
                    for ((d_u, sens), &image) in d_u.iter_mut().zip(sens).zip(&*image) {
                        *d_u = *d_u - sens.conj() * image;
                    }
                    for ((d_sens, u), &image) in d_sens.iter_mut().zip(u).zip(&*image) {
                        *d_sens = -(u.conj() * image);
                    }
                });
                projection.apply(row.n, image, work);
                cpu.arch.dispatch(|| {
                    add_conjugate_product(sens, image, d_v);
                    add_conjugate_product(v, image, d_sens);
                });
            }
        },
    );
}

/// See [`crate::backend::Backend::cascade_update_backward`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_update_backward<T: Real>(
    cpu: &Cpu<T>,
    parameters: &[T],
    dc_weight: Span,
    u: &[T],
    v: &[T],
    d_u: &mut [T],
    d_v: &mut [T],
    d_r: &mut [T],
    d_parameters: &mut [T],
) {
    let lambda = parameters[dc_weight.offset];
    let inputs = u.par_chunks(CHUNK).zip(v.par_chunks(CHUNK));
    let gradients = d_u.par_chunks_mut(CHUNK).zip(d_v.par_chunks_mut(CHUNK)).zip(d_r.par_chunks_mut(CHUNK));
    let d_lambda = inputs.zip(gradients).map(|((u, v), ((d_u, d_v), d_r))| {
        cpu.arch.dispatch(|| {
            let d_lambda = lane_sum([d_v, u, v], |[d_v, u, v]| d_v.as_f64() * (u - v).as_f64());
            d_r.copy_from_slice(d_u);
            for (d_u, d_v) in d_u.iter_mut().zip(d_v) {
                *d_u += lambda * *d_v;
                *d_v *= T::one() - lambda;
            }
            d_lambda
        })
    });
    let d_lambda: Vec<f64> = d_lambda.collect();
    d_parameters[dc_weight.offset] += T::real(d_lambda.iter().sum());
}

/// See [`crate::backend::Backend::cascade_input_backward`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_input_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    d_m: &[T],
    d_u: &mut [T],
    d_v: &mut [T],
    d_m0: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, d_m] = [sens_maps, d_m].map(complex);
    let rows = complex_mut(d_u)
        .par_chunks_exact_mut(shape.columns)
        .zip(complex_mut(d_v).par_chunks_exact_mut(shape.columns))
        .zip(complex_mut(d_m0).par_chunks_exact_mut(shape.columns));
    rows.enumerate().for_each_init(
        || projection.scratch(1),
        |scratch, (i, ((d_u, d_v), d_m0))| {
            let row = Row::of(shape, i);
            let d_m = row.combined(shape, d_m);
            cpu.arch.dispatch(|| {
                for ((d_u, d_m0), &d_m) in d_u.iter_mut().zip(d_m0).zip(d_m) {
                    *d_u = *d_u - d_m;
                    *d_m0 = *d_m0 + d_m;
                }
            });
            add_normal_row(cpu, &projection, shape, row, sens_maps, d_m, d_v, scratch);
        },
    );
}

/// See [`crate::backend::Backend::sens_backward`].
#[allow(clippy::too_many_arguments)]
pub fn sens_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    d_m0: &[T],
    pairs: &[(&Vec<T>, &Vec<T>)],
    d_sens: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, x0, d_m0] = [sens_maps, x0, d_m0].map(complex);
    let pairs: Vec<_> = pairs.iter().map(|(v, g)| (complex(v), complex(g))).collect();
    coil_rows(shape, complex_mut(d_sens)).par_chunks_exact_mut(shape.coils).enumerate().for_each_init(
        || projection.scratch(2),
        |scratch, (i, d_sens)| {
            let row = Row::of(shape, i);
            let (projected, work) = complex_mut(scratch).split_at_mut(2 * shape.columns);
            for (coil, d_sens) in d_sens.iter_mut().enumerate() {
                let (d_m0, x0) = (row.combined(shape, d_m0), row.coil(shape, x0, coil));
                cpu.arch.dispatch(|| add_conjugate_product(d_m0, x0, d_sens));
            }
            // Both terms of a pair have the factor v.
            let pairs = pairs.iter().map(|(v, g)| (row.combined(shape, v), row.combined(shape, g)));
            for (v, g) in pairs.filter(|(v, _)| !is_zero(v)) {
                for (coil, d_sens) in d_sens.iter_mut().enumerate() {
                    let sens = row.coil(shape, sens_maps, coil);
                    cpu.arch.dispatch(|| {
                        let (sv, sg) = projected.split_at_mut(shape.columns);
                        multiply(sens, v, sv);
                        multiply(sens, g, sg);
                    });
                    projection.apply(row.n, projected, work);
                    cpu.arch.dispatch(|| {
                        let (sv, sg) = projected.split_at(shape.columns);
                        add_conjugate_product(g, sv, d_sens);
                        add_conjugate_product(v, sg, d_sens);
                    });
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn cascade_input_backward_adds_the_gradients() {
        for shape in SHAPES {
            let i = Inputs::new(shape);
            let d_m = values(41, shape.combined());
            let before = [42, 43, 44].map(|seed| values(seed, shape.combined()));
            let [mut d_u, mut d_v, mut d_m0] = before.clone();
            cascade_input_backward(&cpu(), shape, &i.sens, &i.mask, &d_m, &mut d_u, &mut d_v, &mut d_m0);
            let [d_u, d_v, d_m0] = [(d_u, &before[0]), (d_v, &before[1]), (d_m0, &before[2])]
                .map(|(after, before)| after.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<_>>());
            let loss = |m: Vec<f64>| dot(&m, &d_m);
            assert_gradient(|m0| loss(i.cascade_input(&i.sens, m0, &i.u, &i.v)), &i.m0, &d_m0);
            assert_gradient(|u| loss(i.cascade_input(&i.sens, &i.m0, u, &i.v)), &i.u, &d_u);
            assert_gradient(|v| loss(i.cascade_input(&i.sens, &i.m0, &i.u, v)), &i.v, &d_v);
        }
    }

    #[test]
    fn sens_backward_adds_what_m0_and_every_normal_operator_give() {
        for shape in SHAPES {
            let i = Inputs::new(shape);
            let d_m0 = values(51, shape.combined());
            let vs = [i.v.clone(), vec![0.0; shape.combined()], values(52, shape.combined())];
            let gs = [53, 54, 55].map(|seed| values(seed, shape.combined()));
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

    fn updated(parameters: &[f64], r: &[f64], u: &[f64], v: &[f64]) -> [Vec<f64>; 2] {
        let [mut u_out, mut v_out] = [poison(u.len()), poison(u.len())];
        cascade_update(&cpu(), parameters, LAMBDA, r, u, v, &mut u_out, &mut v_out);
        [u_out, v_out]
    }

    #[test]
    fn cascade_update_and_its_gradients_are_right() {
        for len in [2, 30, CHUNK + 6, 2 * CHUNK] {
            let parameters = vec![f64::NAN, 0.7, f64::NAN];
            let [r, u, v] = [71, 72, 73].map(|seed| values(seed, len));
            let [u_out, v_out] = updated(&parameters, &r, &u, &v);
            let expected: Vec<f64> = u.iter().zip(&v).map(|(u, v)| 0.3 * v + 0.7 * u).collect();
            assert_close(&v_out, &expected, 1e-15);
            assert_close(&u_out, &u.iter().zip(&r).map(|(u, r)| u + r).collect::<Vec<_>>(), 1e-15);

            let [g_u, g_v] = [74, 75].map(|seed| values(seed, len));
            let [mut d_u, mut d_v, mut d_r] = [g_u.clone(), g_v.clone(), poison(len)];
            let mut d_parameters = vec![5.0, 6.0, 7.0];
            cascade_update_backward(
                &cpu(),
                &parameters,
                LAMBDA,
                &u,
                &v,
                &mut d_u,
                &mut d_v,
                &mut d_r,
                &mut d_parameters,
            );
            let loss = |[u, v]: [Vec<f64>; 2]| dot(&u, &g_u) + dot(&v, &g_v);
            assert_gradient(|r| loss(updated(&parameters, r, &u, &v)), &r, &d_r);
            assert_gradient(|u| loss(updated(&parameters, &r, u, &v)), &u, &d_u);
            assert_gradient(|v| loss(updated(&parameters, &r, &u, v)), &v, &d_v);
            assert_eq!([d_parameters[0], d_parameters[2]], [5.0, 7.0]);
            let of_lambda = |lambda: &[f64]| loss(updated(&[0.0, lambda[0], 0.0], &r, &u, &v));
            assert_gradient(of_lambda, &[0.7], &[d_parameters[1] - 6.0]);
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let shape = SHAPES[1];
        let i = Inputs::new(shape);
        let len = 3 * CHUNK + 10;
        let [u, v, d_u, d_v] = [81, 82, 83, 84].map(|seed| values(seed, len));
        assert_same_bits(|| {
            let output = i.rss_output(&i.sens, &i.u, &i.v);
            let m = i.cascade_input(&i.sens, &i.m0, &i.u, &i.v);
            let mut d_sens = vec![0.0; i.sens.len()];
            sens_backward(&cpu(), shape, &i.sens, &i.mask, &i.x0, &i.m0, &[(&i.v, &m)], &mut d_sens);
            let mut d_lambda = vec![0.0; 2];
            let [mut d_u, mut d_v, mut d_r] = [d_u.clone(), d_v.clone(), poison(len)];
            cascade_update_backward(
                &cpu(),
                &[0.0, 0.6],
                LAMBDA,
                &u,
                &v,
                &mut d_u,
                &mut d_v,
                &mut d_r,
                &mut d_lambda,
            );
            [output, m, d_sens, d_lambda, d_u, d_v, d_r].concat()
        });
    }
}
