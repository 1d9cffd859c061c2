//! From the gradient of outputs to those of inputs and weights, in one pass over each chunk.

use rayon::prelude::*;

use super::{Filters, blocks_per_task, concatenated};
use crate::backend::{FeatureMap, InputGradient, MapGradient, MapShape};
use crate::cpu::Cpu;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::{GradientSums, finish_row, stats, undo, undo_row};
use crate::cpu::tile::{Correlate, MARGIN, Reduce, TAPS, block_of, reduce_block_of};
use crate::real::Real;

/// Weight-gradient partial sums kept apart at most: enough for many threads, few enough to add up.
const GROUPS: usize = 16;

/// What one layer's backward works on.
struct Layer<'l, T> {
    inputs: &'l [&'l FeatureMap<Vec<T>>],
    /// Which map, and which of its channels.
    channels: Vec<(usize, usize)>,
    filters: Filters<'l, T>,
    output: &'l FeatureMap<Vec<T>>,
    d_output: &'l MapGradient<Vec<T>>,
    chunks: Chunks,
    /// Input channels that tiles take together, and output planes.
    in_block: usize,
    out_block: usize,
}

/// Where one channel's rows of an input's gradient go, and whether they are finished on the way.
struct Destination<'a, T> {
    rows: &'a mut [T],
    finish: bool,
}

/// What a task does to one chunk.
struct ChunkWork<'a, 's, T> {
    chunk: usize,
    /// One for each of the task's channels; none where nobody asks for a gradient.
    destinations: Vec<Option<Destination<'a, T>>>,
    sums: &'s mut [GradientSums],
}

/// A range of input channels over a group of chunks.
struct Task<'a, 's, T> {
    first_channel: usize,
    /// The group's weight gradient of these channels, `[inputs][planes][taps]`.
    d_weights: &'s mut [T],
    work: Vec<ChunkWork<'a, 's, T>>,
}

/// Adds to `d_weights`, laid out as `filters.weights`; writes the gradients of those inputs that have a place.
pub fn backward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Vec<T>>],
    filters: Filters<'_, T>,
    output: &FeatureMap<Vec<T>>,
    d_output: &MapGradient<Vec<T>>,
    d_weights: &mut [T],
    d_inputs: &mut [Option<InputGradient<'_, Vec<T>>>],
) {
    let layer = Layer::new(inputs, filters, output, d_output);
    let mut packed = cpu.shelf.take::<T>(layer.in_blocks() * layer.packed_block());
    filters.pack_backward(layer.in_block, &mut packed);
    let packed = &*packed;

    let total = output.shape.n * layer.chunks.per_image;
    let groups = total.min(GROUPS);
    let mut partial = cpu.shelf.take::<T>(groups * layer.partial_len());
    let mut sums = vec![GradientSums::default(); total * layer.channels.len()];
    let (destinations, means) = layer.destinations(d_inputs);
    let tasks = layer.tasks(groups, &mut partial, destinations, &mut sums);
    tasks.into_par_iter().for_each(|task| layer.run(cpu, packed, task));

    layer.average(&sums, means);
    layer.add_up(&partial, d_weights);
}

/// For each chunk, the destinations of all channels.
type Destinations<'a, T> = Vec<Vec<Option<Destination<'a, T>>>>;

impl<'l, T: Real> Layer<'l, T> {
    fn new(
        inputs: &'l [&'l FeatureMap<Vec<T>>],
        filters: Filters<'l, T>,
        output: &'l FeatureMap<Vec<T>>,
        d_output: &'l MapGradient<Vec<T>>,
    ) -> Self {
        let channels = concatenated(inputs);
        let in_block = block_of(channels.len());
        let grid = filters.grid(output.shape);
        let chunks = if inputs.iter().any(|i| (i.shape.height, i.shape.width) != (grid.height, grid.width)) {
            // What was read by reflection is handed back within a chunk: there must be only one.
            Chunks::whole(grid, filters.radius)
        } else {
            let blocks = channels.len().div_ceil(in_block);
            Chunks::plan::<T>(grid, filters.radius, filters.planes + in_block, blocks)
        };
        let out_block = reduce_block_of(filters.planes);
        Self { inputs, channels, filters, output, d_output, chunks, in_block, out_block }
    }

    fn in_blocks(&self) -> usize {
        self.channels.len().div_ceil(self.in_block)
    }

    /// Packed weights of a block of inputs.
    fn packed_block(&self) -> usize {
        self.filters.planes * self.filters.taps() * self.in_block
    }

    fn padded_planes(&self) -> usize {
        self.filters.planes.next_multiple_of(self.out_block)
    }

    /// Weights of one input channel in a partial sum: `[planes][taps]`, planes filled up to a block.
    fn partial_row(&self) -> usize {
        self.padded_planes() * self.filters.taps()
    }

    fn partial_len(&self) -> usize {
        self.in_blocks() * self.in_block * self.partial_row()
    }

    /// Destinations of each chunk's channels, and for each input the plane means to fill in at the end.
    fn destinations<'a>(
        &self,
        d_inputs: &'a mut [Option<InputGradient<'_, Vec<T>>>],
    ) -> (Destinations<'a, T>, Vec<Option<&'a mut Vec<T>>>) {
        let total = self.output.shape.n * self.chunks.per_image;
        let mut destinations: Destinations<'a, T> = (0..total).map(|_| Vec::new()).collect();
        let mut means = Vec::new();
        for (input, d_input) in self.inputs.iter().zip(d_inputs) {
            let Some(InputGradient { gradient, partial }) = d_input else {
                destinations.iter_mut().for_each(|d| d.extend((0..input.shape.channels).map(|_| None)));
                means.push(None);
                continue;
            };
            let finish = !*partial && input.stats.is_some();
            let rows = if self.chunks.per_image == 1 { input.shape.height } else { self.chunks.rows };
            let cut = split_rows(&mut gradient.values, input.shape, rows);
            for (destinations, rows) in destinations.iter_mut().zip(cut) {
                destinations.extend(rows.into_iter().map(|rows| Some(Destination { rows, finish })));
            }
            means.push(gradient.sums.as_mut().filter(|_| finish));
        }
        (destinations, means)
    }

    /// Cuts the work: groups of consecutive chunks, and of each group ranges of input channels.
    fn tasks<'a, 's>(
        &self,
        groups: usize,
        partial: &'s mut [T],
        destinations: Destinations<'a, T>,
        sums: &'s mut [GradientSums],
    ) -> Vec<Task<'a, 's, T>> {
        let total = destinations.len();
        let per_task = blocks_per_task(self.in_blocks(), groups) * self.in_block;
        let mut cut = destinations.into_iter().zip(sums.chunks_mut(self.channels.len())).enumerate();
        let mut tasks = Vec::new();
        for (group, partial) in partial.chunks_mut(self.partial_len()).enumerate() {
            let first = tasks.len();
            tasks.extend(partial.chunks_mut(per_task * self.partial_row()).enumerate().map(
                |(part, d_weights)| Task { first_channel: part * per_task, d_weights, work: Vec::new() },
            ));
            let end = (group + 1) * total / groups;
            let begin = group * total / groups;
            for (chunk, (destinations, sums)) in cut.by_ref().take(end - begin) {
                let parts = into_parts(destinations, per_task).into_iter().zip(sums.chunks_mut(per_task));
                for (task, (destinations, sums)) in tasks[first..].iter_mut().zip(parts) {
                    task.work.push(ChunkWork { chunk, destinations, sums });
                }
            }
        }
        tasks
    }

    fn run(&self, cpu: &Cpu<T>, packed: &[T], task: Task<'_, '_, T>) {
        let Self { chunks, channels, inputs, in_block, .. } = self;
        let (plane, in_block) = (chunks.plane(), *in_block);
        let taps = chunks.taps(self.filters.planes);
        let mut g = cpu.shelf.take::<T>(self.padded_planes() * plane + MARGIN);
        let mut x = cpu.shelf.take::<T>(in_block * plane + MARGIN);
        let mut wide = cpu.shelf.take::<T>(self.output.shape.width);
        let y_plane = chunks.positions(chunks.rows).next_multiple_of(MARGIN);
        let mut y = cpu.shelf.take::<T>(in_block * y_plane);
        // Tiles read on beyond the last plane; what they make of it is dropped, but NaN there would not be zero.
        g[self.padded_planes() * plane..].fill(T::zero());
        x[in_block * plane..].fill(T::zero());
        task.d_weights.fill(T::zero());
        for ChunkWork { chunk, mut destinations, sums } in task.work {
            cpu.vectorised(
                #[inline(always)]
                || self.fill_gradient(chunk, &mut g, &mut wide),
            );
            let len = chunks.positions(chunks.range(chunk).len());
            for (b, destinations) in destinations.chunks_mut(in_block).enumerate() {
                let first = task.first_channel + b * in_block;
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        for (i, plane) in x.chunks_exact_mut(plane).enumerate() {
                            match channels.get(first + i) {
                                Some(&(map, c)) => chunks.fill_activated(chunk, inputs[map], c, plane),
                                None => plane.fill(T::zero()),
                            }
                        }
                    },
                );
                if destinations.iter().any(Option::is_some) {
                    let weights = &packed[first / in_block * self.packed_block()..][..self.packed_block()];
                    let (block, y) = (in_block, &mut y);
                    Correlate { x: &g, taps: &taps, weights, block, y, plane: y_plane, len }.run(cpu.arch);
                    cpu.vectorised(
                        #[inline(always)]
                        || {
                            for (i, destination) in destinations.iter_mut().enumerate() {
                                let Some(destination) = destination else { continue };
                                let y = &mut y[i * y_plane..];
                                sums[b * in_block + i] = self.hand_back(chunk, first + i, y, destination);
                            }
                        },
                    );
                }
                let d_weights = &mut task.d_weights[b * in_block * self.partial_row()..];
                self.weight_gradient(cpu, &g, &x, len, d_weights);
            }
        }
    }

    /// The plane means of each finished gradient, from the sums of its chunks.
    fn average(&self, sums: &[GradientSums], means: Vec<Option<&mut Vec<T>>>) {
        let mut at = 0;
        for (input, means) in self.inputs.iter().zip(means) {
            let count = input.shape.channels;
            for (plane, means) in means.into_iter().flat_map(|m| m.chunks_exact_mut(2)).enumerate() {
                let (n, channel) = (plane / count, plane % count);
                let of_chunk = |c| sums[(n * self.chunks.per_image + c) * self.channels.len() + at + channel];
                let total = (0..self.chunks.per_image)
                    .map(of_chunk)
                    .fold(GradientSums::default(), GradientSums::join);
                means.copy_from_slice(&total.means(input.shape.pixels()));
            }
            at += count;
        }
    }

    /// Adds the groups' weight gradients, in their order, to the layer's.
    fn add_up(&self, partial: &[T], d_weights: &mut [T]) {
        let Filters { planes, plane_stride, input_stride, .. } = self.filters;
        let taps = self.filters.taps();
        let add = |o: usize, i: usize, to: &mut [T]| {
            for group in partial.chunks(self.partial_len()) {
                let from = &group[i * self.partial_row() + o * taps..][..taps];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
            }
        };
        // By the slower of the two dimensions, so that each part is one stretch of memory.
        if plane_stride >= input_stride {
            d_weights.par_chunks_mut(plane_stride).enumerate().for_each(|(o, row)| {
                (0..self.channels.len()).for_each(|i| add(o, i, &mut row[i * input_stride..][..taps]));
            });
        } else {
            d_weights.par_chunks_mut(input_stride).enumerate().for_each(|(i, row)| {
                (0..planes).for_each(|o| add(o, i, &mut row[o * plane_stride..][..taps]));
            });
        }
    }

    /// The chunk's ∂L/∂(raw output), one plane an output plane, zeros in the planes that only fill up a block.
    #[inline(always)]
    fn fill_gradient(&self, chunk: usize, g: &mut [T], wide: &mut [T]) {
        let Self { chunks, output, d_output, filters: Filters { up, planes, .. }, .. } = *self;
        let MapShape { channels, width, .. } = output.shape;
        for (o, plane) in g.chunks_exact_mut(chunks.plane()).enumerate() {
            if o >= planes {
                plane.fill(T::zero());
                continue;
            }
            let (channel, dy, dx) = (o / (up * up), o / up % up, o % up);
            let at = chunks.image(chunk) * channels + channel;
            let undo = undo(output, d_output, at);
            let from = at * output.shape.pixels();
            chunks.fill(
                chunk,
                plane,
                #[inline(always)]
                |y, target| {
                    let row = from + (y * up + dy) * width..from + (y * up + dy + 1) * width;
                    let (g, x) = (&d_output.values[row.clone()], &output.values[row]);
                    if up == 1 {
                        undo_row(undo, g, x, target);
                    } else {
                        undo_row(undo, g, x, wide);
                        for (target, pair) in target.iter_mut().zip(wide.as_chunks::<2>().0) {
                            *target = pair[dx];
                        }
                    }
                },
            );
        }
    }

    /// Writes one channel's rows of an input's gradient from the tiles' results, finished if it is to be.
    #[inline(always)]
    fn hand_back(
        &self,
        chunk: usize,
        channel: usize,
        y: &mut [T],
        destination: &mut Destination<'_, T>,
    ) -> GradientSums {
        let (map, channel) = self.channels[channel];
        let (input, chunks) = (self.inputs[map], &self.chunks);
        let MapShape { channels, height, width, .. } = input.shape;
        let stride = chunks.stride();
        // The gradient of what was read by reflection belongs to what it reflects.
        for row in height..chunks.height {
            let to = 2 * (height - 1) - row;
            for column in 0..chunks.width {
                let value = y[row * stride + column];
                y[to * stride + column] += value;
            }
        }
        for column in width..chunks.width {
            let to = 2 * (width - 1) - column;
            for row in 0..height {
                let value = y[row * stride + column];
                y[row * stride + to] += value;
            }
        }
        let at = chunks.image(chunk) * channels + channel;
        let first = chunks.range(chunk).start;
        let stats = stats(input, at).filter(|_| destination.finish);
        let mut sums = GradientSums::default();
        for (r, row) in destination.rows.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(&y[r * stride..][..width]);
            if let Some(stats) = stats {
                let x = &input.values[(at * height + first + r) * width..][..width];
                sums = sums.join(finish_row(stats, x, row));
            }
        }
        sums
    }

    /// Adds the chunk's weight gradient of one block of inputs to `d_weights`, `[inputs][planes][taps]`.
    fn weight_gradient(&self, cpu: &Cpu<T>, g: &[T], x: &[T], len: usize, d_weights: &mut [T]) {
        let Self { chunks, in_block, out_block, filters: Filters { planes, radius, .. }, .. } = *self;
        let (plane, stride, size) = (chunks.plane(), chunks.stride(), 2 * radius + 1);
        // Six taps at a time: a filter row of two inputs, or six inputs of a 1×1 filter.
        let inputs_at_once = TAPS / size;
        // Positions of the chunk itself, past the halo.
        let g = &g[radius * stride + radius..];
        for first_out in (0..planes).step_by(out_block) {
            for first_in in (0..in_block).step_by(inputs_at_once) {
                for ky in 0..size {
                    let taps = std::array::from_fn(|t| {
                        let input = (first_in + t / size).min(in_block - 1);
                        input * plane + ky * stride + t % size
                    });
                    let mut sums = [T::zero(); 4 * TAPS];
                    let g = &g[first_out * plane..];
                    let (block, of_block) = (out_block, &mut sums[..out_block * TAPS]);
                    Reduce { g, plane, block, x, taps, len, sums: of_block }.run(cpu.arch);
                    for o in 0..out_block {
                        for t in 0..TAPS.min((in_block - first_in) * size) {
                            let input = first_in + t / size;
                            let at = input * self.partial_row() + (first_out + o) * size * size + ky * size;
                            d_weights[at + t % size] += sums[o * TAPS + t];
                        }
                    }
                }
            }
        }
    }
}
