//! Where the gradients of inputs go.

use super::correlate::Correlation;
use crate::backend::{FeatureMap, InputGradient, MapShape};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::chunk::{Chunks, split_rows};
use crate::cpu::norm::{GradientSums, finish_row, stats};
use crate::real::Real;

/// Where one channel's rows of an input's gradient go, and whether they are finished on the way.
pub struct Destination<'a, T> {
    rows: &'a mut [T],
    finish: bool,
}

/// For each chunk, the destinations of all channels; none where nobody asks for a gradient.
pub type Destinations<'a, T> = Vec<Vec<Option<Destination<'a, T>>>>;

/// Destinations of each chunk's channels, and for each input the plane means to fill in at the end.
pub fn destinations<'a, T: Real>(
    inputs: &[&FeatureMap<Buffer<T>>],
    chunks: &Chunks,
    total: usize,
    d_inputs: &'a mut [Option<InputGradient<'_, Buffer<T>>>],
) -> (Destinations<'a, T>, Vec<Option<&'a mut Buffer<T>>>) {
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

impl<T: Real> Destination<'_, T> {
    /// Writes the gradient of a map's channel over a chunk, plane `i` of what was made; finished if it is to be.
    pub fn hand_back(
        &mut self,
        cpu: &Cpu<T>,
        chunks: &Chunks,
        made: &Correlation<'_, T>,
        i: usize,
        (input, channel, chunk): (&FeatureMap<Buffer<T>>, usize, usize),
    ) -> GradientSums {
        let MapShape { channels, height, width, .. } = input.shape;
        if (height, width) == (chunks.height, chunks.width) {
            made.put(i, self.rows);
        } else {
            let mut image = cpu.shelf.take::<T>(chunks.height * chunks.width);
            made.put(i, &mut image);
            fold(&mut image, chunks, height, width);
            for (row, image) in self.rows.chunks_exact_mut(width).zip(image.chunks_exact(chunks.width)) {
                row.copy_from_slice(&image[..width]);
            }
        }
        let at = chunks.image(chunk) * channels + channel;
        let mut sums = GradientSums::default();
        if let Some(stats) = stats(input, at).filter(|_| self.finish) {
            let x = &input.values[(at * height + chunks.range(chunk).start) * width..];
            cpu.vectorised(
                #[inline(always)]
                || {
                    for (row, x) in self.rows.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        sums = sums.join(finish_row(stats, x, row));
                    }
                },
            );
        }
        sums
    }
}

/// Adds the gradient of what was read by reflection to that of what it reflects: the first `height` and `width` of an
/// image that is one chunk.
fn fold<T: Real>(image: &mut [T], chunks: &Chunks, height: usize, width: usize) {
    let pitch = chunks.width;
    for row in height..chunks.height {
        let to = 2 * (height - 1) - row;
        for column in 0..pitch {
            let value = image[row * pitch + column];
            image[to * pitch + column] += value;
        }
    }
    for column in width..pitch {
        let to = 2 * (width - 1) - column;
        for row in 0..height {
            let value = image[row * pitch + column];
            image[row * pitch + to] += value;
        }
    }
}

/// The plane means of each finished gradient, from the sums of its chunks.
pub fn average<T: Real>(
    inputs: &[&FeatureMap<Buffer<T>>],
    chunks: &Chunks,
    channels: usize,
    sums: &[GradientSums],
    means: Vec<Option<&mut Buffer<T>>>,
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
