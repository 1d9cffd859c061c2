//! What all cascades together give the sensitivity maps.

use rayon::prelude::*;

use super::{add_conjugate_product, is_zero, multiply};
use crate::backend::ImageShape;
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::fft::Projection;
use crate::cpu::rows::{Row, coil_rows, complex, complex_mut};
use crate::real::Real;

/// See [`crate::backend::SensBackward`].
#[allow(clippy::too_many_arguments)]
pub fn sens_backward<T: Real>(
    cpu: &Cpu<T>,
    shape: ImageShape,
    sens_maps: &[T],
    mask: &[T],
    x0: &[T],
    d_m0: &[T],
    pairs: &[(&Buffer<T>, &Buffer<T>)],
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
                cpu.vectorised(
                    #[inline(always)]
                    || add_conjugate_product(d_m0, x0, d_sens),
                );
            }
            // Both terms of a pair have the factor v.
            let pairs = pairs.iter().map(|(v, g)| (row.combined(shape, v), row.combined(shape, g)));
            for (v, g) in pairs.filter(|(v, _)| !is_zero(v)) {
                for (coil, d_sens) in d_sens.iter_mut().enumerate() {
                    let sens = row.coil(shape, sens_maps, coil);
                    cpu.vectorised(
                        #[inline(always)]
                        || {
                            let (sv, sg) = projected.split_at_mut(shape.columns);
                            multiply(sens, v, sv);
                            multiply(sens, g, sg);
                        },
                    );
                    projection.apply(row.n, projected, work);
                    cpu.vectorised(
                        #[inline(always)]
                        || {
                            let (sv, sg) = projected.split_at(shape.columns);
                            add_conjugate_product(g, sv, d_sens);
                            add_conjugate_product(v, sg, d_sens);
                        },
                    );
                }
            }
        },
    );
}
