//! The memory that a U-Net works in: what its forward pass leaves for the backward, and what passes share.

use super::NormUnet;
use crate::backend::{Backend, FeatureMap, ImageShape, MapGradient, MapShape, Memory, Purpose};

/// The raw outputs of a ConvBlock's two convolutions.
pub(super) struct ConvBlock<B> {
    pub(super) first: FeatureMap<B>,
    pub(super) second: FeatureMap<B>,
}

/// What a forward pass leaves behind for its backward. Pooled maps are not kept: to make one again costs less than to
/// have it lie there for every cascade and coil.
pub struct Activations<B> {
    pub(super) shape: ImageShape,
    /// `[N, 2, H', W']`, H' and W' multiples of 16.
    pub(super) input: FeatureMap<B>,
    pub(super) moments: B,
    pub(super) down: Vec<ConvBlock<B>>,
    pub(super) bottom: ConvBlock<B>,
    /// From the deepest level up.
    pub(super) transposed: Vec<FeatureMap<B>>,
    pub(super) up: Vec<ConvBlock<B>>,
    pub(super) output: FeatureMap<B>,
}

/// What lives within one pass: room for the most demanding of several U-Nets, which take turns and cut it to their
/// maps' sizes.
pub struct Passing<B> {
    /// What the level at work hands down: its channels at half its size.
    pub(super) pooled: FeatureMap<B>,
    pub(super) gradients: Option<Gradients<B>>,
}

/// The gradients of a backward pass. A map's gradient is done with when its inputs' are there, all but those that a
/// skip connection waits for.
pub(super) struct Gradients<B> {
    /// Of each level's second map on the way down: from the concatenation first, then from pooling.
    pub(super) skip: Vec<MapGradient<B>>,
    /// Of maps with statistics, in turn.
    pub(super) working: [MapGradient<B>; 2],
    /// Of maps without: the output, pooled maps, the input.
    pub(super) plain: MapGradient<B>,
    pub(super) moments: B,
}

/// Reals of a gradient's values and plane means.
type GradientLen = [usize; 2];

/// What one U-Net needs of a [`Passing`].
#[derive(Default)]
struct PassingLens {
    pooled: usize,
    skip: Vec<GradientLen>,
    working: GradientLen,
    plain: usize,
    moments: usize,
}

impl PassingLens {
    /// What is enough for both.
    fn max(self, other: Self) -> Self {
        let longer = |a: GradientLen, b: GradientLen| [a[0].max(b[0]), a[1].max(b[1])];
        let levels = self.skip.len().max(other.skip.len());
        let skip = |lens: &Self, level: usize| lens.skip.get(level).copied().unwrap_or_default();
        Self {
            pooled: self.pooled.max(other.pooled),
            skip: (0..levels).map(|level| longer(skip(&self, level), skip(&other, level))).collect(),
            working: longer(self.working, other.working),
            plain: self.plain.max(other.plain),
            moments: self.moments.max(other.moments),
        }
    }
}

impl NormUnet {
    /// Room for the activations of `[N, rows, columns] c` images.
    pub fn activations<M: Memory>(
        &self,
        ops: &M,
        purpose: Purpose,
        shape: ImageShape,
    ) -> Activations<M::Buffer> {
        let zeros = |len| ops.zeros(purpose, len);
        let values = |shape: MapShape| ops.map(purpose, shape.len());
        let raw = |shape: MapShape| FeatureMap {
            shape,
            values: values(shape),
            stats: Some(zeros(2 * shape.planes())),
        };
        let plain = |shape: MapShape| FeatureMap { shape, values: values(shape), stats: None };
        let block =
            |level| ConvBlock { first: raw(self.level(shape, level)), second: raw(self.level(shape, level)) };
        let pools = self.pools();
        Activations {
            shape,
            input: plain(self.ends(shape)),
            moments: zeros(4 * shape.n),
            down: (0..pools).map(block).collect(),
            bottom: block(pools),
            transposed: (0..pools).rev().map(|level| raw(self.transposed(shape, level))).collect(),
            up: (0..pools).rev().map(block).collect(),
            output: plain(self.ends(shape)),
        }
    }

    fn passing_lens(&self, shape: ImageShape) -> PassingLens {
        let pools = self.pools();
        let with_sums = |level: usize| {
            let map = self.level(shape, level);
            [map.len(), 2 * map.planes()]
        };
        let longest = |lens: &mut dyn Iterator<Item = usize>| lens.max().unwrap_or_default();
        let pooled = longest(&mut (0..pools).map(|level| self.pooled(shape, level).len()));
        PassingLens {
            pooled,
            skip: (0..pools).map(with_sums).collect(),
            working: [0, 1].map(|part| longest(&mut (0..=pools).map(|level| with_sums(level)[part]))),
            plain: pooled.max(self.ends(shape).len()),
            moments: 4 * shape.n,
        }
    }

    /// Reals of all gradients that a backward pass over such images needs room for.
    pub fn gradients_len(&self, shape: ImageShape) -> usize {
        let PassingLens { skip, working, plain, moments, .. } = self.passing_lens(shape);
        skip.iter().flatten().sum::<usize>() + 2 * working.iter().sum::<usize>() + plain + moments
    }
}

impl<B> Activations<B> {
    /// Cuts the room to `n` images, at most as many as it was made for.
    pub fn set_images<O: Backend<Buffer = B>>(&mut self, ops: &O, n: usize) {
        if self.shape.n == n {
            return;
        }
        self.shape.n = n;
        ops.set_len(&mut self.moments, 4 * n);
        let Self { input, down, bottom, transposed, up, output, .. } = self;
        let blocks = down.iter_mut().chain([bottom]).chain(up);
        let maps = blocks.flat_map(|block| [&mut block.first, &mut block.second]).chain(transposed);
        for map in maps.chain([input, output]) {
            map.shape.n = n;
            ops.set_len(&mut map.values, map.shape.len());
            if let Some(stats) = &mut map.stats {
                ops.set_len(stats, 2 * map.shape.planes());
            }
        }
    }
}

impl<B> Passing<B> {
    /// Room for each of the U-Nets with its images, and for their backward passes if these are to follow.
    pub fn new<M: Memory<Buffer = B>>(ops: &M, users: [(&NormUnet, ImageShape); 2], backward: bool) -> Self {
        let [a, b] = users.map(|(unet, shape)| unet.passing_lens(shape));
        let lens = a.max(b);
        let zeros = |len| ops.zeros(Purpose::Gradients, len);
        let map = |len| ops.map(Purpose::Gradients, len);
        let with_sums =
            |[values, sums]: GradientLen| MapGradient { values: map(values), sums: Some(zeros(sums)) };
        let (unet, shape) = users[0];
        Self {
            pooled: FeatureMap { shape: unet.pooled(shape, 0), values: map(lens.pooled), stats: None },
            gradients: backward.then(|| Gradients {
                skip: lens.skip.into_iter().map(with_sums).collect(),
                working: [with_sums(lens.working), with_sums(lens.working)],
                plain: MapGradient { values: map(lens.plain), sums: None },
                moments: zeros(lens.moments),
            }),
        }
    }
}

/// Cuts room for gradients to that of `map`.
pub(super) fn fit<B: Backend>(ops: &B, gradient: &mut MapGradient<B::Buffer>, map: &FeatureMap<B::Buffer>) {
    ops.set_len(&mut gradient.values, map.shape.len());
    if let Some(sums) = &mut gradient.sums {
        ops.set_len(sums, 2 * map.shape.planes());
    }
}
