//! The one loop nest behind the three convolutions, forward and backward.
//!
//! A task takes a chunk of rows and a range of channels, reads its inputs into scratch (normalised and activated on
//! the way), runs the register tiles over it while it is in cache, and writes finished rows. Channels of a
//! transposed convolution's output count four times here, once for each pixel of its 2×2 blocks: "planes".

use rayon::prelude::*;

use crate::backend::{FeatureMap, InputGradient, MapGradient, MapShape};
use crate::cpu::Cpu;
use crate::cpu::chunk::{Chunks, into_parts, split_rows};
use crate::cpu::norm::{GradientSums, Moments, finish_row, stats, undo, undo_row};
use crate::cpu::tile::{Correlate, MARGIN, Reduce, TAPS, block_of, reduce_block_of};
use crate::real::Real;

/// Weight-gradient partial sums kept apart at most: enough for many threads, few enough to add up.
const GROUPS: usize = 16;

/// A convolution's weights: plane o, input i, tap k at `o·plane_stride + i·input_stride + k`.
#[derive(Clone, Copy)]
pub struct Filters<'a, T> {
    pub weights: &'a [T],
    pub planes: usize,
    pub inputs: usize,
    /// 1 for a 3×3 filter, 0 for a single tap.
    pub radius: usize,
    pub plane_stride: usize,
    pub input_stride: usize,
    /// Output pixels per input pixel along an axis: 2 for the transposed convolution.
    pub up: usize,
}

impl<T: Real> Filters<'_, T> {
    fn taps(&self) -> usize {
        (2 * self.radius + 1).pow(2)
    }

    fn at(&self, plane: usize, input: usize, tap: usize) -> usize {
        plane * self.plane_stride + input * self.input_stride + tap
    }

    /// Channels that tiles make together; the four planes of a transposed output stay together.
    fn forward_block(&self) -> usize {
        if self.up == 1 {
            block_of(self.planes)
        } else if self.planes.is_multiple_of(8) {
            8
        } else {
            4
        }
    }

    /// `[blocks, inputs, taps, block]` for the forward tiles.
    fn pack_forward(&self, block: usize, packed: &mut [T]) {
        let taps = self.taps();
        packed.par_chunks_mut(self.inputs * taps * block).enumerate().for_each(|(b, packed)| {
            for (row, packed) in packed.chunks_exact_mut(block).enumerate() {
                for (lane, packed) in packed.iter_mut().enumerate() {
                    let plane = b * block + lane;
                    *packed = if plane < self.planes {
                        self.weights[self.at(plane, row / taps, row % taps)]
                    } else {
                        T::zero()
                    };
                }
            }
        });
    }

    /// `[blocks, planes, taps, block]` for the tiles of the data gradient, which correlate with flipped filters.
    fn pack_backward(&self, block: usize, packed: &mut [T]) {
        let taps = self.taps();
        packed.par_chunks_mut(self.planes * taps * block).enumerate().for_each(|(b, packed)| {
            for (row, packed) in packed.chunks_exact_mut(block).enumerate() {
                for (lane, packed) in packed.iter_mut().enumerate() {
                    let input = b * block + lane;
                    *packed = if input < self.inputs {
                        self.weights[self.at(row / taps, input, taps - 1 - row % taps)]
                    } else {
                        T::zero()
                    };
                }
            }
        });
    }
}

/// The channels of concatenated maps, in order: which map, and which of its channels.
fn concatenated<T>(inputs: &[&FeatureMap<Vec<T>>]) -> Vec<(usize, usize)> {
    inputs
        .iter()
        .enumerate()
        .flat_map(|(map, input)| (0..input.shape.channels).map(move |c| (map, c)))
        .collect()
}

/// Ranges of blocks that make enough tasks for all threads out of `chunks` chunks.
fn blocks_per_task(blocks: usize, chunks: usize) -> usize {
    let wanted = (2 * rayon::current_num_threads()).div_ceil(chunks);
    blocks.div_ceil(wanted.min(blocks))
}

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
    let grid = MapShape { channels: planes, height: out.height / up, width: out.width / up, ..out };
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

/// What the backward of a convolution produces for one channel of one input: rows to write, whether to finish.
struct Destination<'a, T> {
    rows: &'a mut [T],
    finish: bool,
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
    let Filters { up, radius, planes, .. } = filters;
    let out = output.shape;
    let grid = MapShape { channels: planes, height: out.height / up, width: out.width / up, ..out };
    let channels = concatenated(inputs);
    let in_block = block_of(channels.len());
    let in_blocks = channels.len().div_ceil(in_block);
    let out_block = reduce_block_of(planes);
    let padded_planes = planes.next_multiple_of(out_block);
    let short = inputs.iter().any(|i| (i.shape.height, i.shape.width) != (grid.height, grid.width));
    let chunks = if short {
        Chunks::whole(grid, radius)
    } else {
        Chunks::plan::<T>(grid, radius, planes + in_block, in_blocks)
    };
    let taps = chunks.taps(planes);
    let filter = filters.taps();

    let mut packed = cpu.shelf.take::<T>(in_blocks * taps.len() * in_block);
    filters.pack_backward(in_block, &mut packed);
    let packed = &*packed;

    // Destinations and sums of each chunk's channels: [n·chunks][channels].
    let total = out.n * chunks.per_image;
    let mut sums = vec![GradientSums::default(); total * channels.len()];
    let mut finishes = Vec::new();
    let mut destinations: Vec<Vec<Option<Destination<'_, T>>>> = (0..total).map(|_| Vec::new()).collect();
    for (input, d_input) in inputs.iter().zip(d_inputs.iter_mut()) {
        match d_input {
            None => {
                destinations.iter_mut().for_each(|d| d.extend((0..input.shape.channels).map(|_| None)));
                finishes.push(None);
            }
            Some(InputGradient { gradient, partial }) => {
                let finish = !*partial && input.stats.is_some();
                let rows = if short { input.shape.height } else { chunks.rows };
                let cut = split_rows(&mut gradient.values, input.shape, rows);
                for (destinations, rows) in destinations.iter_mut().zip(cut) {
                    destinations.extend(rows.into_iter().map(|rows| Some(Destination { rows, finish })));
                }
                finishes.push(gradient.sums.as_mut().filter(|_| finish));
            }
        }
    }

    // A task: a group of chunks, a range of input blocks, its part of the group's weight gradient
    // [inputs][planes][taps], and for every chunk of the group its destinations and sums.
    let groups = total.min(GROUPS);
    let per_task = blocks_per_task(in_blocks, groups) * in_block;
    let row = padded_planes * filter;
    let padded_inputs = in_blocks * in_block;
    let mut partial = vec![T::zero(); groups * padded_inputs * row];
    struct Work<'a, 'b, T> {
        chunk: usize,
        destinations: Vec<Option<Destination<'a, T>>>,
        sums: &'b mut [GradientSums],
    }
    let mut tasks = Vec::new();
    {
        let mut chunk = 0;
        let mut cut = destinations.into_iter().zip(sums.chunks_mut(channels.len()));
        for (group, partial) in partial.chunks_mut(padded_inputs * row).enumerate() {
            let mut group_tasks: Vec<(usize, &mut [T], Vec<Work<'_, '_, T>>)> = partial
                .chunks_mut(per_task * row)
                .enumerate()
                .map(|(part, partial)| (part * per_task, partial, Vec::new()))
                .collect();
            while chunk < (group + 1) * total / groups {
                let (destinations, sums) = cut.next().expect("one a chunk");
                let parts = into_parts(destinations, per_task).into_iter().zip(sums.chunks_mut(per_task));
                for (task, (destinations, sums)) in group_tasks.iter_mut().zip(parts) {
                    task.2.push(Work { chunk, destinations, sums });
                }
                chunk += 1;
            }
            tasks.extend(group_tasks);
        }
    }

    tasks.into_par_iter().for_each(|(first, partial, work)| {
        let plane = chunks.plane();
        let mut g = cpu.shelf.take::<T>(padded_planes * plane + MARGIN);
        let mut x = cpu.shelf.take::<T>(in_block * plane + MARGIN);
        let mut wide = cpu.shelf.take::<T>(out.width);
        let y_plane = chunks.positions(chunks.rows).next_multiple_of(MARGIN);
        let mut y = cpu.shelf.take::<T>(in_block * y_plane);
        g[padded_planes * plane..].fill(T::zero());
        x[in_block * plane..].fill(T::zero());
        for Work { chunk, mut destinations, sums } in work {
            cpu.vectorised(
                #[inline(always)]
                || fill_gradient(&chunks, chunk, output, d_output, up, planes, &mut g, &mut wide),
            );
            let rows = chunks.range(chunk).len();
            let len = chunks.positions(rows);
            for (b, destinations) in destinations.chunks_mut(in_block).enumerate() {
                let first = first + b * in_block;
                cpu.vectorised(
                    #[inline(always)]
                    || {
                        for (i, plane) in x.chunks_exact_mut(plane).enumerate() {
                            match channels.get(first + i) {
                                Some(&(map, channel)) => {
                                    chunks.fill_activated(chunk, inputs[map], channel, plane)
                                }
                                None => plane.fill(T::zero()),
                            }
                        }
                    },
                );
                if destinations.iter().any(Option::is_some) {
                    let weights =
                        &packed[first / in_block * taps.len() * in_block..][..taps.len() * in_block];
                    Correlate {
                        x: &g,
                        taps: &taps,
                        weights,
                        block: in_block,
                        y: &mut y,
                        plane: y_plane,
                        len,
                    }
                    .run(cpu.arch);
                    cpu.vectorised(
                        #[inline(always)]
                        || {
                            for (i, destination) in destinations.iter_mut().enumerate() {
                                let Some(destination) = destination else { continue };
                                let (map, channel) = channels[first + i];
                                let y = &mut y[i * y_plane..];
                                sums[b * in_block + i] =
                                    hand_back(&chunks, chunk, inputs[map], channel, y, destination);
                            }
                        },
                    );
                }
                let partial = &mut partial[b * in_block * row..][..in_block * row];
                weight_gradient(cpu, &chunks, &g, &x, (planes, out_block, in_block), len, partial);
            }
        }
    });

    let mut at = 0;
    for (input, finish) in inputs.iter().zip(finishes) {
        let count = input.shape.channels;
        if let Some(means) = finish {
            for (plane, means) in means.chunks_exact_mut(2).enumerate() {
                let (n, channel) = (plane / count, plane % count);
                let parts = (0..chunks.per_image)
                    .map(|c| sums[(n * chunks.per_image + c) * channels.len() + at + channel]);
                let total = parts.fold(GradientSums::default(), GradientSums::join);
                means.copy_from_slice(&total.means(input.shape.pixels()));
            }
        }
        at += count;
    }

    for group in partial.chunks(padded_inputs * row) {
        for i in 0..channels.len() {
            for o in 0..planes {
                let from = &group[(i * padded_planes + o) * filter..][..filter];
                let to = &mut d_weights[filters.at(o, i, 0)..][..filter];
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
            }
        }
    }
}

/// The chunk's ∂L/∂(raw output), one plane an output plane, zeros in the planes that only fill up a block.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn fill_gradient<T: Real>(
    chunks: &Chunks,
    chunk: usize,
    output: &FeatureMap<Vec<T>>,
    d_output: &MapGradient<Vec<T>>,
    up: usize,
    planes: usize,
    g: &mut [T],
    wide: &mut [T],
) {
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
fn hand_back<T: Real>(
    chunks: &Chunks,
    chunk: usize,
    input: &FeatureMap<Vec<T>>,
    channel: usize,
    y: &mut [T],
    destination: &mut Destination<'_, T>,
) -> GradientSums {
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

/// Adds the chunk's weight gradient of one block of inputs to `partial`, `[inputs][planes][taps]`.
fn weight_gradient<T: Real>(
    cpu: &Cpu<T>,
    chunks: &Chunks,
    g: &[T],
    x: &[T],
    (planes, out_block, in_block): (usize, usize, usize),
    len: usize,
    partial: &mut [T],
) {
    let (plane, stride, radius) = (chunks.plane(), chunks.stride(), chunks.radius);
    let size = 2 * radius + 1;
    // Six taps at a time: a filter row of two inputs, or six inputs of a 1×1 filter.
    let inputs_at_once = TAPS / size;
    let padded_planes = planes.next_multiple_of(out_block);
    // Tile results of a block: positions of the chunk itself, past the halo.
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
                Reduce { g, plane, block: out_block, x, taps, len, sums: &mut sums[..out_block * TAPS] }
                    .run(cpu.arch);
                for o in 0..out_block {
                    for t in 0..TAPS.min((in_block - first_in) * size) {
                        let input = first_in + t / size;
                        let at =
                            ((input * padded_planes) + first_out + o) * size * size + ky * size + t % size;
                        partial[at] += sums[o * TAPS + t];
                    }
                }
            }
        }
    }
}
