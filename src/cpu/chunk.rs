//! How images are cut for the convolutions: chunks of whole rows that fit the second-level cache, laid out flat in
//! scratch with the zero padding that a 3×3 filter needs.
//!
//! In a chunk's plane, rows are `stride = width + radius` apart: one zero column serves as the right padding of a
//! row and the left padding of the next. What filters with three rows read is split into parts (`winograd.rs`), with
//! a row for each band of [`BAND`]; a single tap reads rows as they are, in one part. Either way position `p = row·stride
//! + column` of a part then reads the filter's column kx at `p + kx`.

use std::ops::Range;

use crate::backend::{FeatureMap, MapShape};
use crate::cpu::buffer::Buffer;
use crate::cpu::norm::{Stats, activate_row, stats};
use crate::cpu::tile::MARGIN;
use crate::cpu::winograd::{self, BAND};
use crate::real::Real;

/// Bytes that planes of a chunk may take which tiles read one after another: half of a common second-level cache.
const CHUNK_BYTES: usize = 768 << 10;

/// About how many tasks a layer should make, of chunks times blocks of channels, so that many threads find work; and the
/// rows below which a chunk is more halo than image.
const TASKS: usize = 16;
const FEWEST_ROWS: usize = 8;

/// The cut of a batch of images into chunks of rows. It depends on shapes alone, never on the number of threads:
/// sums over chunks must not either.
#[derive(Clone, Copy)]
pub struct Chunks {
    pub height: usize,
    pub width: usize,
    pub radius: usize,
    /// Rows of every chunk but the last.
    pub rows: usize,
    /// Chunks of one image.
    pub per_image: usize,
}

impl Chunks {
    /// For planes of `shape`'s size, `channels` of which are worked on at a time, in `blocks` independent parts.
    pub fn plan<T>(shape: MapShape, radius: usize, channels: usize, blocks: usize) -> Self {
        let whole = Self::whole(shape, radius);
        let (band, parts) = (whole.band(), whole.parts());
        let band_bytes = channels * parts * whole.stride() * size_of::<T>();
        let cached = (CHUNK_BYTES / band_bytes * band).max(4);
        let spread = shape.height.div_ceil(TASKS.div_ceil(shape.n * blocks)).max(FEWEST_ROWS);
        // As even as whole bands can be.
        let per_image = shape.height.div_ceil(cached.min(spread));
        let rows = shape.height.div_ceil(per_image).next_multiple_of(band);
        Self { rows, per_image: shape.height.div_ceil(rows), ..whole }
    }

    /// The whole image as one chunk.
    pub fn whole(shape: MapShape, radius: usize) -> Self {
        Self { height: shape.height, width: shape.width, radius, rows: shape.height, per_image: 1 }
    }

    /// Rows of chunk `index` (n·per_image + chunk).
    pub fn range(&self, index: usize) -> Range<usize> {
        let start = index % self.per_image * self.rows;
        start..(start + self.rows).min(self.height)
    }

    pub fn image(&self, index: usize) -> usize {
        index / self.per_image
    }

    pub fn stride(&self) -> usize {
        self.width + self.radius
    }

    /// Rows that make one row of every part. All chunks but an image's last are whole bands.
    fn band(&self) -> usize {
        if self.radius == 0 { 1 } else { BAND }
    }

    pub fn parts(&self) -> usize {
        winograd::parts(self.radius)
    }

    pub fn bands(&self, rows: usize) -> usize {
        rows.div_ceil(self.band())
    }

    /// Reals of a chunk's plane as it is read, with its halo: rows of bands, and room for a register more.
    pub fn window(&self) -> usize {
        (self.bands(self.rows) * self.band() + 2 * self.radius) * self.stride() + MARGIN
    }

    /// Reals between two planes of a part: the last position's taps too.
    pub fn plane(&self) -> usize {
        self.bands(self.rows) * self.stride() + 2 * self.radius
    }

    /// Reals between two parts of so many channels.
    pub fn part(&self, channels: usize) -> usize {
        channels * self.plane() + MARGIN
    }

    /// Positions of a part that a filter is evaluated at: its rows with their padding column.
    pub fn positions(&self, rows: usize) -> usize {
        self.bands(rows) * self.stride()
    }

    /// Offsets of the taps of a filter over `channels` planes of a part: `[channels, kx]`.
    pub fn taps(&self, channels: usize) -> Vec<usize> {
        (0..channels).flat_map(|c| (0..=2 * self.radius).map(move |kx| c * self.plane() + kx)).collect()
    }

    /// Fills one plane: the chunk's rows and the halo by `row(y, destination)`, zeros where there is no image.
    #[inline(always)]
    pub fn fill<T: Real>(&self, index: usize, plane: &mut [T], mut row: impl FnMut(usize, &mut [T])) {
        let range = self.range(index);
        let (radius, stride) = (self.radius, self.stride());
        for (r, target) in plane.chunks_mut(stride).enumerate() {
            let inside =
                (range.start + r).checked_sub(radius).filter(|&y| y < range.end + radius && y < self.height);
            match inside {
                Some(y) if target.len() == stride => {
                    target[..radius].fill(T::zero());
                    row(y, &mut target[radius..]);
                }
                _ => target.fill(T::zero()),
            }
        }
    }

    /// Fills one plane with what a reader of the map's plane reads. A map that is a row or column short is
    /// reflected there.
    #[inline(always)]
    pub fn fill_activated<T: Real>(
        &self,
        index: usize,
        map: &FeatureMap<Buffer<T>>,
        channel: usize,
        plane: &mut [T],
    ) {
        let MapShape { channels, height, width, .. } = map.shape;
        let at = self.image(index) * channels + channel;
        let values = &map.values[at * height * width..][..height * width];
        let stats: Option<Stats<T>> = stats(map, at);
        self.fill(
            index,
            plane,
            #[inline(always)]
            |y, target| {
                let y = reflect(y, height);
                activate_row(stats, &values[y * width..][..width], &mut target[..width]);
                for x in width..target.len() {
                    target[x] = target[reflect(x, width)];
                }
            },
        );
    }
}

/// PyTorch's reflection of an index beyond the end: the edge itself is not repeated.
pub fn reflect(index: usize, len: usize) -> usize {
    if index < len { index } else { 2 * (len - 1) - index }
}

/// Mutable rows of every plane, cut into chunks of `rows`: `[n·chunks][channels]`.
pub fn split_rows<T>(values: &mut [T], shape: MapShape, rows: usize) -> Vec<Vec<&mut [T]>> {
    let per_image = shape.height.div_ceil(rows);
    let mut cut: Vec<Vec<&mut [T]>> =
        (0..shape.n * per_image).map(|_| Vec::with_capacity(shape.channels)).collect();
    for (at, plane) in values.chunks_mut(shape.pixels()).enumerate() {
        for (chunk, part) in plane.chunks_mut(rows * shape.width).enumerate() {
            cut[at / shape.channels * per_image + chunk].push(part);
        }
    }
    cut
}

/// Cuts `items` into lists of at most `len`, in order.
pub fn into_parts<I>(items: Vec<I>, len: usize) -> Vec<Vec<I>> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some(items.by_ref().take(len).collect::<Vec<_>>()).filter(|part| !part.is_empty()))
        .collect()
}
