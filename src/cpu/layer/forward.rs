//! From inputs to outputs and their statistics.

use rayon::prelude::*;

use super::correlate::{Correlation, Made};
use super::{Filters, blocks_per_task, concatenated};
use crate::backend::FeatureMap;
use crate::cpu::Cpu;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::Moments;
use crate::real::Real;

/// Output values and, where the output has room for them, their statistics.
pub fn forward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Vec<T>>],
    filters: Filters<'_, T>,
    bias: Option<&[T]>,
    output: &mut FeatureMap<Vec<T>>,
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
        correlation.read(
            #[inline(always)]
            |c, window| {
                let (map, channel) = channels[c];
                chunks.fill_activated(chunk, inputs[map], channel, window);
            },
        );
        let first_block = first * up * up / block;
        for (b, rows) in rows.chunks_mut(block / (up * up)).enumerate() {
            let made = correlation.make(first_block + b, chunks.range(chunk).len());
            cpu.vectorised(
                #[inline(always)]
                || {
                    for (o, rows) in rows.iter_mut().enumerate() {
                        let channel = first + b * block / (up * up) + o;
                        let bias = bias.map_or(T::zero(), |bias| bias[channel]);
                        store(&made, o * up * up, up, bias, rows, out.width);
                        moments[channel - first] = Moments::of(rows, out.width);
                    }
                },
            );
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

/// Copies what was made, from plane `first` on, to output rows: past the padding columns, and two by two for a
/// transposed convolution.
#[inline(always)]
fn store<T: Real>(made: &Made<'_, T>, first: usize, up: usize, bias: T, rows: &mut [T], width: usize) {
    let Made { rows: y, plane, pitch } = made;
    let y = &y[first * plane..];
    for (r, row) in rows.chunks_exact_mut(width).enumerate() {
        if up == 1 {
            for (out, &y) in row.iter_mut().zip(&y[r * pitch..][..width]) {
                *out = y + bias;
            }
        } else {
            let at = (r % 2 * 2) * plane + r / 2 * pitch;
            let (left, right) = (&y[at..][..width / 2], &y[at + plane..][..width / 2]);
            for ((out, &left), &right) in row.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(right) {
                *out = [left, right];
            }
        }
    }
}
