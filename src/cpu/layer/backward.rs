//! From the gradient of outputs to those of inputs and weights, in one pass over each chunk.

use rayon::prelude::*;

use super::correlate::Correlation;
use super::gradient::Gradient;
use super::inputs::{self, Destination, Destinations};
use super::packed::Packed;
use super::read::{Split, read};
use super::weights::WeightGradient;
use super::{Filters, blocks_per_task, concatenated};
use crate::backend::{FeatureMap, InputGradient, MapGradient};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::chunk::{Chunks, into_parts};
use crate::cpu::norm::GradientSums;
use crate::cpu::tile::block_of;
use crate::real::Real;

/// Weight-gradient partial sums kept apart at most: enough for many threads, few enough to add up.
const GROUPS: usize = 16;

/// What a task does to one chunk.
struct ChunkWork<'a, 's, T> {
    chunk: usize,
    /// One for each of the task's channels; none where nobody asks for a gradient.
    destinations: Vec<Option<Destination<'a, T>>>,
    sums: &'s mut [GradientSums],
}

/// A range of blocks of input channels over a group of chunks.
struct Task<'a, 's, T> {
    first_block: usize,
    /// The group's weight gradient of these channels.
    d_weights: &'s mut [T],
    work: Vec<ChunkWork<'a, 's, T>>,
}

/// What tasks share.
struct Pass<'l, T: Real> {
    cpu: &'l Cpu<T>,
    maps: &'l [&'l FeatureMap<Buffer<T>>],
    /// Which map, and which of its channels.
    channels: Vec<(usize, usize)>,
    gradient: Gradient<'l, T>,
    chunks: &'l Chunks,
    weights: WeightGradient<'l, T>,
    /// Flipped filters, in blocks of input channels.
    packed: Packed<'l, T>,
}

/// Adds to `d_weights`, laid out as `filters.weights`; writes the gradients of those inputs that have a place.
pub fn backward<T: Real>(
    cpu: &Cpu<T>,
    maps: &[&FeatureMap<Buffer<T>>],
    filters: Filters<'_, T>,
    output: &FeatureMap<Buffer<T>>,
    d_output: &MapGradient<Buffer<T>>,
    d_weights: &mut [T],
    d_inputs: &mut [Option<InputGradient<'_, Buffer<T>>>],
) {
    let channels = concatenated(maps);
    let block = block_of(channels.len());
    let grid = filters.grid(output.shape);
    let chunks = if maps.iter().any(|i| (i.shape.height, i.shape.width) != (grid.height, grid.width)) {
        // What was read by reflection is handed back within a chunk: there must be only one.
        Chunks::whole(grid, filters.radius)
    } else {
        let blocks = channels.len().div_ceil(block);
        Chunks::plan::<T>(grid, filters.radius, filters.planes + block, blocks)
    };
    let pass = Pass {
        cpu,
        maps,
        gradient: Gradient { filters, output, d_output },
        chunks: &chunks,
        weights: WeightGradient::new(filters, &chunks, channels.len(), block),
        packed: filters.pack_backward(cpu, block),
        channels,
    };
    let total = grid.n * chunks.per_image;
    let mut partial = cpu.shelf.take::<T>(total.min(GROUPS) * pass.weights.len());
    let mut sums = vec![GradientSums::default(); total * pass.channels.len()];
    let (destinations, means) = inputs::destinations(maps, &chunks, total, d_inputs);
    pass.tasks(&mut partial, destinations, &mut sums).into_par_iter().for_each(|task| pass.run(task));
    inputs::average(maps, &chunks, pass.channels.len(), &sums, means);
    pass.weights.add_up(&mut partial, d_weights);
}

impl<T: Real> Pass<'_, T> {
    /// Cuts the work: groups of consecutive chunks, one for each weight gradient in `partial`, and of each group ranges
    /// of input channels.
    fn tasks<'a, 's>(
        &self,
        partial: &'s mut [T],
        destinations: Destinations<'a, T>,
        sums: &'s mut [GradientSums],
    ) -> Vec<Task<'a, 's, T>> {
        let Self { weights, packed: Packed { block, .. }, channels, .. } = self;
        let (total, groups) = (destinations.len(), partial.len() / weights.len());
        let blocks = blocks_per_task(channels.len().div_ceil(*block), groups);
        let mut work = destinations.into_iter().zip(sums.chunks_mut(channels.len())).enumerate();
        let mut tasks = Vec::new();
        for (group, partial) in partial.chunks_mut(weights.len()).enumerate() {
            let first = tasks.len();
            let parts = partial.chunks_mut(blocks * weights.of_block()).enumerate();
            tasks.extend(parts.map(|(part, d_weights)| Task {
                first_block: part * blocks,
                d_weights,
                work: Vec::new(),
            }));
            let count = (group + 1) * total / groups - group * total / groups;
            for (chunk, (destinations, sums)) in work.by_ref().take(count) {
                let of_task = blocks * block;
                let parts = into_parts(destinations, of_task).into_iter().zip(sums.chunks_mut(of_task));
                for (task, (destinations, sums)) in tasks[first..].iter_mut().zip(parts) {
                    task.work.push(ChunkWork { chunk, destinations, sums });
                }
            }
        }
        tasks
    }

    fn run(&self, task: Task<'_, '_, T>) {
        let Self { cpu, maps, channels, gradient, chunks, weights, packed } = self;
        let (block, planes) = (packed.block, weights.padded_planes());
        let mut correlation = Correlation::new(cpu, chunks, packed, planes);
        // What is not split is read in one way by both halves of the pass.
        let split = chunks.parts() > 1;
        let mut g = split.then(|| cpu.shelf.take::<T>(chunks.parts() * chunks.part(planes)));
        let mut x = cpu.shelf.take::<T>(chunks.parts() * chunks.part(block));
        task.d_weights.fill(T::zero());
        for ChunkWork { chunk, mut destinations, sums } in task.work {
            let rows = chunks.range(chunk).len();
            let mut to = vec![(Split::Inputs, &mut *correlation.x)];
            to.extend(g.as_deref_mut().map(|g| (Split::Gradient, g)));
            read(
                cpu,
                chunks,
                planes,
                &mut to,
                #[inline(always)]
                |plane, window| gradient.fill(chunks, chunk, plane, window),
            );
            let of_blocks = destinations.chunks_mut(block).zip(sums.chunks_mut(block));
            for (b, (destinations, sums)) in of_blocks.enumerate() {
                let first = (task.first_block + b) * block;
                if destinations.iter().any(Option::is_some) {
                    correlation.make(task.first_block + b, rows);
                }
                for (i, (destination, sums)) in destinations.iter_mut().zip(sums).enumerate() {
                    let Some(destination) = destination else { continue };
                    let (map, channel) = channels[first + i];
                    *sums = destination.hand_back(cpu, chunks, &correlation, i, (maps[map], channel, chunk));
                }
                read(
                    cpu,
                    chunks,
                    block,
                    &mut [(Split::Inputs, &mut x)],
                    #[inline(always)]
                    |i, window| match channels.get(first + i) {
                        Some(&(map, channel)) => chunks.fill_activated(chunk, maps[map], channel, window),
                        None => window.fill(T::zero()),
                    },
                );
                let d_weights = &mut task.d_weights[b * weights.of_block()..][..weights.of_block()];
                let g = g.as_deref().unwrap_or(&correlation.x);
                weights.add_chunk(cpu, g, &x, rows, d_weights);
            }
        }
    }
}
