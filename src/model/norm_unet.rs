//! fastMRI's `NormUnet`: normalise, pad to multiples of 16, U-Net, crop, un-normalise; forward, and below it the
//! backward, the same names in reverse.

use std::mem::swap;

use crate::backend::{
    Backend, Convolution, FeatureMap, ImageShape, InputGradient, MapGradient, MapShape, Memory, Pass, Purpose,
};
use crate::error::{Error, Result};
use crate::model::architecture::{ConvBlockSpans, UnetSpans};

/// A U-Net with `chans` channels at its first level and its place among the parameters.
#[derive(Clone, Debug)]
pub struct NormUnet {
    pub chans: usize,
    pub spans: UnetSpans,
}

/// The raw outputs of a ConvBlock's two convolutions.
struct ConvBlock<B> {
    first: FeatureMap<B>,
    second: FeatureMap<B>,
}

/// What a forward pass leaves behind for its backward. Pooled maps are not kept: to make one again costs less than to
/// have it lie there for every cascade and coil.
pub struct Activations<B> {
    shape: ImageShape,
    /// `[N, 2, H', W']`, H' and W' multiples of 16.
    input: FeatureMap<B>,
    moments: B,
    down: Vec<ConvBlock<B>>,
    bottom: ConvBlock<B>,
    /// From the deepest level up.
    transposed: Vec<FeatureMap<B>>,
    up: Vec<ConvBlock<B>>,
    output: FeatureMap<B>,
}

/// What lives within one pass: room for the most demanding of several U-Nets, which take turns and cut it to their
/// maps' sizes.
pub struct Passing<B> {
    /// What the level at work hands down: its channels at half its size.
    pooled: FeatureMap<B>,
    gradients: Option<Gradients<B>>,
}

/// The gradients of a backward pass. A map's gradient is done with when its inputs' are there, all but those that a
/// skip connection waits for.
struct Gradients<B> {
    /// Of each level's second map on the way down: from the concatenation first, then from pooling.
    skip: Vec<MapGradient<B>>,
    /// Of maps with statistics, in turn.
    working: [MapGradient<B>; 2],
    /// Of maps without: the output, pooled maps, the input.
    plain: MapGradient<B>,
    moments: B,
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

/// The gradient of an input that has no other reader.
fn finished<B>(gradient: &mut MapGradient<B>) -> Option<InputGradient<'_, B>> {
    Some(InputGradient { gradient, partial: false })
}

/// The gradient of an input whose other reader comes later.
fn partial<B>(gradient: &mut MapGradient<B>) -> Option<InputGradient<'_, B>> {
    Some(InputGradient { gradient, partial: true })
}

/// `NormUnet.pad`'s size: the next multiple of 16.
fn padded(size: usize) -> usize {
    size.next_multiple_of(16)
}

impl NormUnet {
    pub fn pools(&self) -> usize {
        self.spans.down.len()
    }

    /// The maps of level `level`, 0 the full size; halves are rounded down, as pooling does.
    fn level(&self, shape: ImageShape, level: usize) -> MapShape {
        MapShape {
            n: shape.n,
            channels: self.chans << level,
            height: padded(shape.rows) >> level,
            width: padded(shape.columns) >> level,
        }
    }

    /// What level `level` hands down.
    fn pooled(&self, shape: ImageShape, level: usize) -> MapShape {
        self.level(shape, level + 1).with_channels(self.chans << level)
    }

    /// Input and output.
    fn ends(&self, shape: ImageShape) -> MapShape {
        self.level(shape, 0).with_channels(2)
    }

    /// Errors where an image is too small for the network's depth.
    pub fn check(&self, shape: ImageShape) -> Result<()> {
        let bottom = self.level(shape, self.pools());
        if bottom.pixels() < 2 {
            return Err(Error::input(format!(
                "a {} × {} image is padded to {} × {}, too small for {} pools: instance norm needs more than one \
                 pixel at the deepest level; use fewer pools or larger images",
                shape.rows,
                shape.columns,
                padded(shape.rows),
                padded(shape.columns),
                self.pools()
            )));
        }
        Ok(())
    }

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

    /// A transposed convolution doubles the level below, which may be one short of this level's size.
    fn transposed(&self, shape: ImageShape, level: usize) -> MapShape {
        let below = self.level(shape, level + 1);
        MapShape {
            channels: self.chans << level,
            height: 2 * below.height,
            width: 2 * below.width,
            n: below.n,
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

    /// All convolutions of a forward pass over such images; first the one that reads the input.
    fn convolutions(&self, shape: ImageShape) -> Vec<Convolution> {
        let mut all = Vec::new();
        let mut block = |level: usize, inputs: usize, spans: ConvBlockSpans| {
            let output = self.level(shape, level);
            for (weight, inputs) in [(spans[0], inputs), (spans[1], output.channels)] {
                all.push(Convolution { transposed: false, weight, inputs, output, pass: Pass::Forward });
            }
        };
        let pools = self.pools();
        for level in 0..pools {
            let above = if level == 0 { self.ends(shape) } else { self.pooled(shape, level - 1) };
            block(level, above.channels, self.spans.down[level]);
        }
        block(pools, self.pooled(shape, pools - 1).channels, self.spans.bottom);
        for (i, level) in (0..pools).rev().enumerate() {
            block(level, 2 * self.level(shape, level).channels, self.spans.up[i]);
        }
        for (i, level) in (0..pools).rev().enumerate() {
            let weight = self.spans.up_transpose[i];
            let (inputs, output) = (self.level(shape, level + 1).channels, self.transposed(shape, level));
            all.push(Convolution { transposed: true, weight, inputs, output, pass: Pass::Forward });
        }
        all
    }

    /// Those of a backward pass, with the gradient of its image or without.
    fn backward_convolutions(&self, shape: ImageShape, d_image: bool) -> Vec<Convolution> {
        let mut all = self.convolutions(shape);
        for (i, convolution) in all.iter_mut().enumerate() {
            let asked = i > 0 || d_image;
            convolution.pass = Pass::Backward(0..if asked { convolution.inputs } else { 0 });
        }
        all
    }

    /// `result = NormUnet(image)`, both `[N, rows, columns] c`.
    pub fn forward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        image: &B::Buffer,
        a: &mut Activations<B::Buffer>,
        passing: &mut Passing<B::Buffer>,
        result: &mut B::Buffer,
    ) {
        let conv_block =
            |input: &[&FeatureMap<B::Buffer>], spans: ConvBlockSpans, block: &mut ConvBlock<B::Buffer>| {
                ops.conv3x3(input, parameters, spans[0], &mut block.first);
                ops.conv3x3(&[&block.first], parameters, spans[1], &mut block.second);
            };
        let pooled = &mut passing.pooled;
        ops.announce(parameters, &self.convolutions(a.shape));
        ops.unet_input(a.shape, image, &mut a.input, &mut a.moments);
        for level in 0..self.pools() {
            let above = if level == 0 { &a.input } else { &*pooled };
            conv_block(&[above], self.spans.down[level], &mut a.down[level]);
            self.pool(ops, a, level, pooled);
        }
        conv_block(&[pooled], self.spans.bottom, &mut a.bottom);
        for (i, level) in (0..self.pools()).rev().enumerate() {
            let below = if i == 0 { &a.bottom.second } else { &a.up[i - 1].second };
            ops.conv_transpose(below, parameters, self.spans.up_transpose[i], &mut a.transposed[i]);
            conv_block(&[&a.transposed[i], &a.down[level].second], self.spans.up[i], &mut a.up[i]);
        }
        let top = &a.up[self.pools() - 1].second;
        ops.conv1x1(top, parameters, self.spans.head_weight, self.spans.head_bias, &mut a.output);
        ops.unet_output(a.shape, &a.output, &a.moments, result);
    }

    /// What level `level` hands down, in forward and again in backward.
    fn pool<B: Backend>(
        &self,
        ops: &B,
        a: &Activations<B::Buffer>,
        level: usize,
        pooled: &mut FeatureMap<B::Buffer>,
    ) {
        pooled.shape = self.pooled(a.shape, level);
        ops.set_len(&mut pooled.values, pooled.shape.len());
        ops.avg_pool(&a.down[level].second, pooled);
    }

    /// Adds to `d_parameters`; from `d_result` to `d_image`, which may be left out where nobody asks for it.
    ///
    /// # Panics
    /// Where `passing` is made for inference.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        a: &Activations<B::Buffer>,
        passing: &mut Passing<B::Buffer>,
        d_result: &B::Buffer,
        d_parameters: &mut B::Buffer,
        d_image: Option<&mut B::Buffer>,
    ) {
        let pools = self.pools();
        let (spans, p) = (&self.spans, parameters);
        let Passing { pooled, gradients } = passing;
        let Gradients { skip, working, plain, moments } =
            gradients.as_mut().expect("room for a backward pass");
        // The gradient that the next operation reads, and the one that it writes.
        let [mut from, mut to] = working.each_mut();
        ops.set_len(moments, 4 * a.shape.n);
        ops.announce(p, &self.backward_convolutions(a.shape, d_image.is_some()));
        ops.beside(|| self.pool(ops, a, pools - 1, pooled));

        fit(ops, plain, &a.output);
        ops.unet_output_backward(a.shape, &a.output, &a.moments, d_result, plain, moments);
        let top = &a.up[pools - 1].second;
        fit(ops, to, top);
        ops.conv1x1_backward(top, p, spans.head_weight, spans.head_bias, &a.output, plain, d_parameters, to);
        swap(&mut from, &mut to);
        for (level, skip) in skip[..pools].iter_mut().enumerate() {
            let i = pools - 1 - level;
            fit(ops, to, &a.up[i].first);
            ops.conv3x3_backward(
                &[&a.up[i].first],
                p,
                spans.up[i][1],
                &a.up[i].second,
                from,
                d_parameters,
                &mut [finished(to)],
            );
            swap(&mut from, &mut to);
            fit(ops, to, &a.transposed[i]);
            fit(ops, skip, &a.down[level].second);
            ops.conv3x3_backward(
                &[&a.transposed[i], &a.down[level].second],
                p,
                spans.up[i][0],
                &a.up[i].first,
                from,
                d_parameters,
                &mut [finished(to), partial(skip)],
            );
            swap(&mut from, &mut to);
            let below = if i == 0 { &a.bottom.second } else { &a.up[i - 1].second };
            fit(ops, to, below);
            ops.conv_transpose_backward(
                below,
                p,
                spans.up_transpose[i],
                &a.transposed[i],
                from,
                d_parameters,
                to,
            );
            swap(&mut from, &mut to);
        }
        fit(ops, to, &a.bottom.first);
        ops.conv3x3_backward(
            &[&a.bottom.first],
            p,
            spans.bottom[1],
            &a.bottom.second,
            from,
            d_parameters,
            &mut [finished(to)],
        );
        swap(&mut from, &mut to);
        fit(ops, plain, pooled);
        ops.conv3x3_backward(
            &[pooled],
            p,
            spans.bottom[0],
            &a.bottom.first,
            from,
            d_parameters,
            &mut [finished(plain)],
        );
        for (level, skip) in skip[..pools].iter_mut().enumerate().rev() {
            let block = &a.down[level];
            ops.avg_pool_backward(&block.second, pooled, plain, skip);
            if level > 0 {
                ops.beside(|| self.pool(ops, a, level - 1, pooled));
            }
            fit(ops, to, &block.first);
            ops.conv3x3_backward(
                &[&block.first],
                p,
                spans.down[level][1],
                &block.second,
                skip,
                d_parameters,
                &mut [finished(to)],
            );
            swap(&mut from, &mut to);
            let (source, asked) = if level == 0 { (&a.input, d_image.is_some()) } else { (&*pooled, true) };
            fit(ops, plain, source);
            ops.conv3x3_backward(
                &[source],
                p,
                spans.down[level][0],
                &block.first,
                from,
                d_parameters,
                &mut [if asked { finished(plain) } else { None }],
            );
        }
        if let Some(d_image) = d_image {
            ops.unet_input_backward(a.shape, &a.input, &a.moments, plain, moments, d_image);
        }
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
fn fit<B: Backend>(ops: &B, gradient: &mut MapGradient<B::Buffer>, map: &FeatureMap<B::Buffer>) {
    ops.set_len(&mut gradient.values, map.shape.len());
    if let Some(sums) = &mut gradient.sums {
        ops.set_len(sums, 2 * map.shape.planes());
    }
}
