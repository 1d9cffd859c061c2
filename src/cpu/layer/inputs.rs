//! From the gradient of outputs to those of inputs.

use rayon::prelude::*;

use super::correlate::{Correlation, Made};
use super::gradient::Gradient;
use super::{blocks_per_task, concatenated};
use crate::backend::{FeatureMap, InputGradient, MapShape};
use crate::cpu::Cpu;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::{GradientSums, finish_row, stats};
use crate::cpu::tile::block_of;
use crate::real::Real;

/// Where one channel's rows of an input's gradient go, and whether they are finished on the way.
struct Destination<'a, T> {
    rows: &'a mut [T],
    finish: bool,
}

/// For each chunk, the destinations of all channels; none where nobody asks for a gradient.
type Destinations<'a, T> = Vec<Vec<Option<Destination<'a, T>>>>;

/// Writes the gradients of those inputs that have a place.
pub fn backward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Vec<T>>],
    gradient: Gradient<'_, T>,
    d_inputs: &mut [Option<InputGradient<'_, Vec<T>>>],
) {
    let filters = gradient.filters;
    let channels = concatenated(inputs);
    let block = block_of(channels.len());
    let blocks = channels.len().div_ceil(block);
    let grid = filters.grid(gradient.output.shape);
    let chunks = if inputs.iter().any(|i| (i.shape.height, i.shape.width) != (grid.height, grid.width)) {
        // What was read by reflection is handed back within a chunk: there must be only one.
        Chunks::whole(grid, filters.radius)
    } else {
        Chunks::plan::<T>(grid, filters.radius, filters.planes + block, blocks)
    };
    let packed = &filters.pack_backward(cpu, block);

    let total = grid.n * chunks.per_image;
    let per_task = blocks_per_task(blocks, total) * block;
    let mut sums = vec![GradientSums::default(); total * channels.len()];
    let (destinations, means) = destinations(inputs, &chunks, total, d_inputs);
    let mut tasks = Vec::new();
    for ((chunk, destinations), sums) in
        destinations.into_iter().enumerate().zip(sums.chunks_mut(channels.len()))
    {
        let parts = into_parts(destinations, per_task).into_iter().zip(sums.chunks_mut(per_task));
        tasks.extend(
            parts
                .enumerate()
                .map(|(part, (destinations, sums))| (chunk, part * per_task, destinations, sums)),
        );
    }

    tasks.into_par_iter().for_each(|(chunk, first, mut destinations, sums)| {
        if destinations.iter().all(Option::is_none) {
            return;
        }
        let mut wide = cpu.shelf.take::<T>(gradient.output.shape.width);
        let mut correlation = Correlation::new(cpu, &chunks, packed, filters.planes);
        correlation.read(
            #[inline(always)]
            |plane, window| gradient.fill(&chunks, chunk, plane, window, &mut wide),
        );
        for (b, destinations) in destinations.chunks_mut(block).enumerate() {
            if destinations.iter().all(Option::is_none) {
                continue;
            }
            let mut made = correlation.make(first / block + b, chunks.range(chunk).len());
            cpu.vectorised(
                #[inline(always)]
                || {
                    for (i, destination) in destinations.iter_mut().enumerate() {
                        let Some(destination) = destination else { continue };
                        let (map, channel) = channels[first + b * block + i];
                        sums[b * block + i] =
                            hand_back(&chunks, chunk, inputs[map], channel, &mut made, i, destination);
                    }
                },
            );
        }
    });
    average(inputs, &chunks, channels.len(), &sums, means);
}

/// Destinations of each chunk's channels, and for each input the plane means to fill in at the end.
fn destinations<'a, T: Real>(
    inputs: &[&FeatureMap<Vec<T>>],
    chunks: &Chunks,
    total: usize,
    d_inputs: &'a mut [Option<InputGradient<'_, Vec<T>>>],
) -> (Destinations<'a, T>, Vec<Option<&'a mut Vec<T>>>) {
    let mut destinations: Destinations<'a, T> = (0..total).map(|_| Vec::new()).collect();
    let mut means = Vec::new();
    for (input, d_input) in inputs.iter().zip(d_inputs) {
        let Some(InputGradient { gradient, partial }) = d_input else {
            destinations.iter_mut().for_each(|d| d.extend((0..input.shape.channels).map(|_| None)));
            means.push(None);
            continue;
        };
        let finish = !*partial && input.stats.is_some();
        let rows = if chunks.per_image == 1 { input.shape.height } else { chunks.rows };
        let cut = split_rows(&mut gradient.values, input.shape, rows);
        for (destinations, rows) in destinations.iter_mut().zip(cut) {
            destinations.extend(rows.into_iter().map(|rows| Some(Destination { rows, finish })));
        }
        means.push(gradient.sums.as_mut().filter(|_| finish));
    }
    (destinations, means)
}

/// Writes one channel's rows of an input's gradient from plane `i` of what was made, finished if it is to be.
#[inline(always)]
fn hand_back<T: Real>(
    chunks: &Chunks,
    chunk: usize,
    input: &FeatureMap<Vec<T>>,
    channel: usize,
    made: &mut Made<'_, T>,
    i: usize,
    destination: &mut Destination<'_, T>,
) -> GradientSums {
    let MapShape { channels, height, width, .. } = input.shape;
    let pitch = made.pitch;
    let y = &mut made.rows[i * made.plane..];
    // The gradient of what was read by reflection belongs to what it reflects.
    for row in height..chunks.height {
        let to = 2 * (height - 1) - row;
        for column in 0..chunks.width {
            let value = y[row * pitch + column];
            y[to * pitch + column] += value;
        }
    }
    for column in width..chunks.width {
        let to = 2 * (width - 1) - column;
        for row in 0..height {
            let value = y[row * pitch + column];
            y[row * pitch + to] += value;
        }
    }
    let at = chunks.image(chunk) * channels + channel;
    let first = chunks.range(chunk).start;
    let stats = stats(input, at).filter(|_| destination.finish);
    let mut sums = GradientSums::default();
    for (r, row) in destination.rows.chunks_exact_mut(width).enumerate() {
        row.copy_from_slice(&y[r * pitch..][..width]);
        if let Some(stats) = stats {
            let x = &input.values[(at * height + first + r) * width..][..width];
            sums = sums.join(finish_row(stats, x, row));
        }
    }
    sums
}

/// The plane means of each finished gradient, from the sums of its chunks.
fn average<T: Real>(
    inputs: &[&FeatureMap<Vec<T>>],
    chunks: &Chunks,
    channels: usize,
    sums: &[GradientSums],
    means: Vec<Option<&mut Vec<T>>>,
) {
    let mut at = 0;
    for (input, means) in inputs.iter().zip(means) {
        let count = input.shape.channels;
        for (plane, means) in means.into_iter().flat_map(|m| m.chunks_exact_mut(2)).enumerate() {
            let (n, channel) = (plane / count, plane % count);
            let of_chunk = |c| sums[(n * chunks.per_image + c) * channels + at + channel];
            let total = (0..chunks.per_image).map(of_chunk).fold(GradientSums::default(), GradientSums::join);
            means.copy_from_slice(&total.means(input.shape.pixels()));
        }
        at += count;
    }
}
