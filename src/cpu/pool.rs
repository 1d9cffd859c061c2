//! 2×2 average pooling, and the end of a skip connection's gradient.

use rayon::prelude::*;

use crate::backend::{FeatureMap, MapGradient};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::norm::{GradientSums, activate_row, finish_row, stats};
use crate::real::Real;

/// See [`crate::backend::AvgPool`].
pub fn avg_pool<T: Real>(cpu: &Cpu<T>, input: &FeatureMap<Buffer<T>>, output: &mut FeatureMap<Buffer<T>>) {
    let (from, to) = (input.shape, output.shape);
    let quarter = T::real(0.25);
    output.values.par_chunks_mut(to.pixels()).enumerate().for_each(|(plane, pooled)| {
        let stats = stats(input, plane);
        let values = &input.values[plane * from.pixels()..][..from.pixels()];
        let mut scratch = cpu.shelf.take::<T>(2 * from.width);
        let (upper, lower) = scratch.split_at_mut(from.width);
        cpu.vectorised(
            #[inline(always)]
            || {
                for (pooled, rows) in
                    pooled.chunks_exact_mut(to.width).zip(values.chunks_exact(2 * from.width))
                {
                    activate_row(stats, &rows[..from.width], upper);
                    activate_row(stats, &rows[from.width..], lower);
                    let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                    for (pooled, (u, l)) in pooled.iter_mut().zip(pairs) {
                        *pooled = (u[0] + u[1] + l[0] + l[1]) * quarter;
                    }
                }
            },
        );
    });
}

/// See [`crate::backend::AvgPoolBackward`].
pub fn avg_pool_backward<T: Real>(
    cpu: &Cpu<T>,
    input: &FeatureMap<Buffer<T>>,
    pooled: &FeatureMap<Buffer<T>>,
    d_output: &MapGradient<Buffer<T>>,
    d_input: &mut MapGradient<Buffer<T>>,
) {
    let (full, small) = (input.shape, pooled.shape);
    let quarter = T::real(0.25);
    let means: Vec<[T; 2]> = d_input
        .values
        .par_chunks_mut(full.pixels())
        .enumerate()
        .map(|(plane, g)| {
            let stats = stats(input, plane);
            let values = &input.values[plane * full.pixels()..][..full.pixels()];
            let d_pooled = &d_output.values[plane * small.pixels()..][..small.pixels()];
            let mut sums = GradientSums::default();
            cpu.vectorised(
                #[inline(always)]
                || {
                    for (y, (g, x)) in
                        g.chunks_exact_mut(full.width).zip(values.chunks_exact(full.width)).enumerate()
                    {
                        if y / 2 < small.height {
                            let d_pooled = &d_pooled[y / 2 * small.width..][..small.width];
                            for (pair, &d) in g.as_chunks_mut::<2>().0.iter_mut().zip(d_pooled) {
                                pair[0] += d * quarter;
                                pair[1] += d * quarter;
                            }
                        }
                        if let Some(stats) = stats {
                            sums = sums.join(finish_row(stats, x, g));
                        }
                    }
                },
            );
            sums.means(full.pixels())
        })
        .collect();
    if let Some(sums) = &mut d_input.sums {
        sums.copy_from_slice(means.as_flattened());
    }
}
