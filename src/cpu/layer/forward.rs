//! From inputs to outputs and their statistics.

use rayon::prelude::*;

use super::{Filters, blocks_per_task, concatenated};
use crate::backend::FeatureMap;
use crate::cpu::Cpu;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::Moments;
use crate::cpu::tile::{Correlate, MARGIN};
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
    let taps = chunks.taps(channels.len());

    let mut packed = cpu.shelf.take::<T>(blocks * taps.len() * block);
    filters.pack_forward(block, &mut packed);
    let packed = &*packed;

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
        let mut x = cpu.shelf.take::<T>(channels.len() * chunks.plane() + MARGIN);
        cpu.vectorised(
            #[inline(always)]
            || {
                for (plane, &(map, channel)) in x.chunks_exact_mut(chunks.plane()).zip(&channels) {
                    chunks.fill_activated(chunk, inputs[map], channel, plane);
                }
            },
        );
        let positions = chunks.positions(chunks.range(chunk).len());
        let y_plane = positions.next_multiple_of(MARGIN);
        let mut y = cpu.shelf.take::<T>(block * y_plane);
        let first_block = first * up * up / block;
        for (b, rows) in rows.chunks_mut(block / (up * up)).enumerate() {
            let weights = &packed[(first_block + b) * taps.len() * block..][..taps.len() * block];
            Correlate { x: &x, taps: &taps, weights, block, y: &mut y, plane: y_plane, len: positions }
                .run(cpu.arch);
            cpu.vectorised(
                #[inline(always)]
                || {
                    for (o, rows) in rows.iter_mut().enumerate() {
                        let channel = first + b * block / (up * up) + o;
                        let bias = bias.map_or(T::zero(), |bias| bias[channel]);
                        store(
                            &y[o * up * up * y_plane..],
                            y_plane,
                            chunks.stride(),
                            up,
                            bias,
                            rows,
                            out.width,
                        );
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

/// Copies tile results to output rows: past the padding columns, and two by two for a transposed convolution.
#[inline(always)]
fn store<T: Real>(y: &[T], plane: usize, stride: usize, up: usize, bias: T, rows: &mut [T], width: usize) {
    for (r, row) in rows.chunks_exact_mut(width).enumerate() {
        if up == 1 {
            for (out, &y) in row.iter_mut().zip(&y[r * stride..][..width]) {
                *out = y + bias;
            }
        } else {
            let at = (r % 2 * 2) * plane + r / 2 * stride;
            let (left, right) = (&y[at..][..width / 2], &y[at + plane..][..width / 2]);
            for ((out, &left), &right) in row.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(right) {
                *out = [left, right];
            }
        }
    }
}
