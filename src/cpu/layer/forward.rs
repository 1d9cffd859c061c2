//! From inputs to outputs and their statistics.

use rayon::prelude::*;

use super::correlate::Correlation;
use super::read::{Split, read};
use super::{Filters, blocks_per_task, concatenated};
use crate::backend::FeatureMap;
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::Moments;
use crate::real::Real;

/// Output values and, where the output has room for them, their statistics.
pub fn forward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Buffer<T>>],
    filters: Filters<'_, T>,
    bias: Option<&[T]>,
    output: &mut FeatureMap<Buffer<T>>,
) {
    let Filters { up, radius, planes, .. } = filters;
    let out = output.shape;
    let grid = filters.grid(out);
    let channels = concatenated(inputs);
    let block = filters.forward_block();
    let blocks = planes.div_ceil(block);
    let chunks = Chunks::plan::<T>(grid, radius, channels.len(), blocks);
    let packed = &filters.pack_forward(cpu, block);

    // Whole output channels per task, in whole blocks.
    let per_task = blocks_per_task(blocks, out.n * chunks.per_image) * block / (up * up);
    let mut moments = vec![Moments::default(); out.n * chunks.per_image * out.channels];
    let mut tasks = Vec::new();
    let rows = split_rows(&mut output.values, out, chunks.rows * up);
    for ((chunk, rows), moments) in rows.into_iter().enumerate().zip(moments.chunks_mut(out.channels)) {
        let parts = into_parts(rows, per_task).into_iter().zip(moments.chunks_mut(per_task));
        tasks
            .extend(parts.enumerate().map(|(part, (rows, moments))| (chunk, part * per_task, rows, moments)));
    }

    tasks.into_par_iter().for_each(|(chunk, first, mut rows, moments)| {
        let mut correlation = Correlation::new(cpu, &chunks, packed, channels.len());
        read(
            cpu,
            &chunks,
            channels.len(),
            &mut [(Split::Inputs, &mut correlation.x)],
            #[inline(always)]
            |c, window| {
                let (map, channel) = channels[c];
                chunks.fill_activated(chunk, inputs[map], channel, window);
            },
        );
        let first_block = first * up * up / block;
        for (b, rows) in rows.chunks_mut(block / (up * up)).enumerate() {
            correlation.make(first_block + b, chunks.range(chunk).len());
            for (o, rows) in rows.iter_mut().enumerate() {
                let channel = first + b * block / (up * up) + o;
                if up == 1 {
                    correlation.put(o, rows);
                }
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        if up == 2 {
                            interleave(correlation.flat(4 * o), chunks.stride(), rows, out.width);
                        }
                        if let Some(bias) = bias {
                            rows.iter_mut().for_each(|y| *y += bias[channel]);
                        }
                        moments[channel - first] = Moments::of(rows, out.width);
                    },
                );
            }
        }
    });

    if let Some(stats) = &mut output.stats {
        for (plane, stats) in stats.chunks_exact_mut(2).enumerate() {
            let (n, channel) = (plane / out.channels, plane % out.channels);
            let parts =
                (0..chunks.per_image).map(|c| moments[(n * chunks.per_image + c) * out.channels + channel]);
            stats.copy_from_slice(&parts.fold(Moments::default(), Moments::join).stats());
        }
    }
}

/// Writes what a transposed convolution makes, from four planes `plane` apart with rows `stride` apart.
#[inline(always)]
fn interleave<T: Real>((y, plane): (&[T], usize), stride: usize, rows: &mut [T], width: usize) {
    for (r, row) in rows.chunks_exact_mut(width).enumerate() {
        let at = (r % 2 * 2) * plane + r / 2 * stride;
        let (left, right) = (&y[at..][..width / 2], &y[at + plane..][..width / 2]);
        for ((out, &left), &right) in row.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(right) {
            *out = [left, right];
        }
    }
}
