//! Data consistency in coil-combined images: the normal operator, the final coil combination and their gradients.
//!
//! A task owns one row of one slice and visits its coils; the multi-coil state never leaves that task's scratch.

mod rss_output;
mod sens_backward;
#[cfg(test)]
mod tests;

pub use rss_output::{rss_output, rss_output_backward};
pub use sens_backward::sens_backward;

use num_complex::Complex;
use rayon::prelude::*;

use crate::backend::{ImageShape, Span};
use crate::cpu::Cpu;
use crate::cpu::fft::Projection;
use crate::cpu::rows::{CHUNK, Row, complex, complex_mut, lane_sum};
use crate::real::Real;

/// See [`crate::backend::CascadeInput`].
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
            cpu.vectorised(
                #[inline(always)]
                || {
                    let start = row.combined(shape, m0).iter().zip(row.combined(shape, u));
                    for (m, (&m0, &u)) in m.iter_mut().zip(start) {
                        *m = m0 - u;
                    }
                },
            );
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
        cpu.vectorised(
            #[inline(always)]
            || multiply(sens, v, projected),
        );
        projection.apply(row.n, projected, work);
        cpu.vectorised(
            #[inline(always)]
            || add_conjugate_product(sens, projected, sum),
        );
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

/// See [`crate::backend::CascadeDc`].
pub fn cascade_dc<T: Real>(
    cpu: &Cpu<T>,
    parameters: &[T],
    dc_weight: Span,
    u: &[T],
    v: &[T],
    v_out: &mut [T],
) {
    let lambda = parameters[dc_weight.offset];
    let inputs = u.par_chunks(CHUNK).zip(v.par_chunks(CHUNK));
    inputs.zip(v_out.par_chunks_mut(CHUNK)).for_each(|((u, v), v_out)| {
        cpu.vectorised(
            #[inline(always)]
            || {
                for ((v_out, &u), &v) in v_out.iter_mut().zip(u).zip(v) {
                    *v_out = (T::one() - lambda) * v + lambda * u;
                }
            },
        );
    });
}

/// See [`crate::backend::CascadeUpdate`].
pub fn cascade_update<T: Real>(cpu: &Cpu<T>, r: &[T], u: &[T], u_out: &mut [T], m: Option<&mut [T]>) {
    let steps = u_out.par_chunks_mut(CHUNK).zip(u.par_chunks(CHUNK)).zip(r.par_chunks(CHUNK));
    steps.for_each(|((u_out, u), r)| {
        cpu.vectorised(
            #[inline(always)]
            || {
                for ((u_out, &u), &r) in u_out.iter_mut().zip(u).zip(r) {
                    *u_out = u + r;
                }
            },
        );
    });
    let Some(m) = m else { return };
    m.par_chunks_mut(CHUNK).zip(r.par_chunks(CHUNK)).for_each(|(m, r)| {
        cpu.vectorised(
            #[inline(always)]
            || {
                for (m, &r) in m.iter_mut().zip(r) {
                    *m = *m - r;
                }
            },
        );
    });
}

/// See [`crate::backend::CascadeUpdateBackward`].
#[allow(clippy::too_many_arguments)]
pub fn cascade_update_backward<T: Real>(
    cpu: &Cpu<T>,
    parameters: &[T],
    dc_weight: Span,
    u: &[T],
    v: &[T],
    d_m: &[T],
    d_u: &mut [T],
    d_v: &mut [T],
    d_m0: &mut [T],
    d_parameters: &mut [T],
) {
    let lambda = parameters[dc_weight.offset];
    let inputs = u.par_chunks(CHUNK).zip(v.par_chunks(CHUNK)).zip(d_m.par_chunks(CHUNK));
    let gradients = d_u.par_chunks_mut(CHUNK).zip(d_v.par_chunks_mut(CHUNK)).zip(d_m0.par_chunks_mut(CHUNK));
    let d_lambda = inputs.zip(gradients).map(|(((u, v), d_m), ((d_u, d_v), d_m0))| {
        cpu.vectorised(
            #[inline(always)]
            || {
                let d_lambda = lane_sum([d_v, u, v], |[d_v, u, v]| d_v.as_f64() * (u - v).as_f64());
                for ((d_u, d_v), &d_m) in d_u.iter_mut().zip(d_v.iter_mut()).zip(d_m) {
                    *d_u += lambda * *d_v - d_m;
                    *d_v *= T::one() - lambda;
                }
                for (d_m0, &d_m) in d_m0.iter_mut().zip(d_m) {
                    *d_m0 += d_m;
                }
                d_lambda
            },
        )
    });
    let d_lambda: Vec<f64> = d_lambda.collect();
    d_parameters[dc_weight.offset] += T::real(d_lambda.iter().sum());
}

/// See [`crate::backend::NormalOperator`].
pub fn normal_operator<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    v: &[T],
    sum: &mut [T],
) {
    let projection = Projection::new(cpu, shape, mask);
    let [sens_maps, v] = [sens_maps, v].map(complex);
    complex_mut(sum).par_chunks_exact_mut(shape.columns).enumerate().for_each_init(
        || projection.scratch(1),
        |scratch, (i, sum)| {
            let row = Row::of(shape, i);
            add_normal_row(cpu, &projection, shape, row, sens_maps, row.combined(shape, v), sum, scratch);
        },
    );
}
