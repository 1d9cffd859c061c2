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
        cpu.vectorised(
            #[inline(always)]
            || {
                for ((u_out, &r), &u) in u_out.iter_mut().zip(r).zip(u) {
                    *u_out = u + r;
                }
                for ((v_out, &u), &v) in v_out.iter_mut().zip(u).zip(v) {
                    *v_out = (T::one() - lambda) * v + lambda * u;
                }
            },
        );
    });
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
        cpu.vectorised(
            #[inline(always)]
            || {
                let d_lambda = lane_sum([d_v, u, v], |[d_v, u, v]| d_v.as_f64() * (u - v).as_f64());
                d_r.copy_from_slice(d_u);
                for (d_u, d_v) in d_u.iter_mut().zip(d_v.iter_mut()) {
                    *d_u += lambda * *d_v;
                    *d_v *= T::one() - lambda;
                }
                d_lambda
            },
        )
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
            cpu.vectorised(
                #[inline(always)]
                || {
                    for ((d_u, d_m0), &d_m) in d_u.iter_mut().zip(d_m0.iter_mut()).zip(d_m) {
                        *d_u = *d_u - d_m;
                        *d_m0 = *d_m0 + d_m;
                    }
                },
            );
            add_normal_row(cpu, &projection, shape, row, sens_maps, d_m, d_v, scratch);
        },
    );
}
