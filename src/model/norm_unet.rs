//! fastMRI's `NormUnet`: normalise, pad to multiples of 16, U-Net, crop, un-normalise; forward, and below it the
//! backward, the same names in reverse.

use crate::backend::{Backend, FeatureMap, ImageShape, InputGradient, MapGradient, MapShape, Purpose};
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

/// What a forward pass leaves behind for its backward.
pub struct Activations<B> {
    shape: ImageShape,
    /// `[N, 2, H', W']`, H' and W' multiples of 16.
    input: FeatureMap<B>,
    moments: B,
    down: Vec<ConvBlock<B>>,
    /// What each level hands down: `pooled[l]` has level l's channels and half its size.
    pooled: Vec<FeatureMap<B>>,
    bottom: ConvBlock<B>,
    /// From the deepest level up.
    transposed: Vec<FeatureMap<B>>,
    up: Vec<ConvBlock<B>>,
    output: FeatureMap<B>,
}

/// Gradients of one level's maps while a backward pass is under way.
struct LevelGradients<B> {
    /// Of the down path's second map: from the concatenation first, then from pooling.
    skip: MapGradient<B>,
    /// Of the first map of either path.
    first: MapGradient<B>,
    /// Of the up path's maps.
    second: MapGradient<B>,
    transposed: MapGradient<B>,
    pooled: MapGradient<B>,
}

/// Room for a backward pass, shared by all U-Nets of one shape.
pub struct Gradients<B> {
    levels: Vec<LevelGradients<B>>,
    bottom_first: MapGradient<B>,
    bottom_second: MapGradient<B>,
    input: MapGradient<B>,
    output: MapGradient<B>,
    moments: B,
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
    pub fn activations<B: Backend>(
        &self,
        ops: &B,
        purpose: Purpose,
        shape: ImageShape,
    ) -> Activations<B::Buffer> {
        let zeros = |len| ops.zeros(purpose, len);
        let raw = |shape: MapShape| FeatureMap {
            shape,
            values: zeros(shape.len()),
            stats: Some(zeros(2 * shape.planes())),
        };
        let plain = |shape: MapShape| FeatureMap { shape, values: zeros(shape.len()), stats: None };
        let block =
            |level| ConvBlock { first: raw(self.level(shape, level)), second: raw(self.level(shape, level)) };
        let pools = self.pools();
        let ends = self.level(shape, 0).with_channels(2);
        // A transposed convolution doubles the level below, which may be one short of this level's size.
        let transposed = |level: usize| {
            let below = self.level(shape, level + 1);
            MapShape {
                channels: self.chans << level,
                height: 2 * below.height,
                width: 2 * below.width,
                n: below.n,
            }
        };
        Activations {
            shape,
            input: plain(ends),
            moments: zeros(4 * shape.n),
            down: (0..pools).map(block).collect(),
            pooled: (0..pools)
                .map(|level| plain(self.level(shape, level + 1).with_channels(self.chans << level)))
                .collect(),
            bottom: block(pools),
            transposed: (0..pools).rev().map(|level| raw(transposed(level))).collect(),
            up: (0..pools).rev().map(block).collect(),
            output: plain(ends),
        }
    }

    /// Room for the gradients of a backward pass over such activations.
    pub fn gradients<B: Backend>(
        &self,
        ops: &B,
        activations: &Activations<B::Buffer>,
    ) -> Gradients<B::Buffer> {
        let like = |map: &FeatureMap<B::Buffer>| MapGradient {
            values: ops.zeros(Purpose::Gradients, map.shape.len()),
            sums: map.stats.as_ref().map(|_| ops.zeros(Purpose::Gradients, 2 * map.shape.planes())),
        };
        let pools = self.pools();
        Gradients {
            levels: (0..pools)
                .map(|level| LevelGradients {
                    skip: like(&activations.down[level].second),
                    first: like(&activations.down[level].first),
                    second: like(&activations.up[pools - 1 - level].second),
                    transposed: like(&activations.transposed[pools - 1 - level]),
                    pooled: like(&activations.pooled[level]),
                })
                .collect(),
            bottom_first: like(&activations.bottom.first),
            bottom_second: like(&activations.bottom.second),
            input: like(&activations.input),
            output: like(&activations.output),
            moments: ops.zeros(Purpose::Gradients, 4 * activations.shape.n),
        }
    }

    /// `result = NormUnet(image)`, both `[N, rows, columns] c`.
    pub fn forward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        image: &B::Buffer,
        a: &mut Activations<B::Buffer>,
        result: &mut B::Buffer,
    ) {
        let conv_block =
            |inputs: &[&FeatureMap<B::Buffer>], spans: ConvBlockSpans, block: &mut ConvBlock<B::Buffer>| {
                ops.conv3x3(inputs, parameters, spans[0], &mut block.first);
                ops.conv3x3(&[&block.first], parameters, spans[1], &mut block.second);
            };
        ops.unet_input(a.shape, image, &mut a.input, &mut a.moments);
        for level in 0..self.pools() {
            let above = if level == 0 { &a.input } else { &a.pooled[level - 1] };
            conv_block(&[above], self.spans.down[level], &mut a.down[level]);
            ops.avg_pool(&a.down[level].second, &mut a.pooled[level]);
        }
        conv_block(&[&a.pooled[self.pools() - 1]], self.spans.bottom, &mut a.bottom);
        for (i, level) in (0..self.pools()).rev().enumerate() {
            let below = if i == 0 { &a.bottom.second } else { &a.up[i - 1].second };
            ops.conv_transpose(below, parameters, self.spans.up_transpose[i], &mut a.transposed[i]);
            conv_block(&[&a.transposed[i], &a.down[level].second], self.spans.up[i], &mut a.up[i]);
        }
        let top = &a.up[self.pools() - 1].second;
        ops.conv1x1(top, parameters, self.spans.head_weight, self.spans.head_bias, &mut a.output);
        ops.unet_output(a.shape, &a.output, &a.moments, result);
    }

    /// Adds to `d_parameters`; from `d_result` to `d_image`, which may be left out where nobody asks for it.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<B: Backend>(
        &self,
        ops: &B,
        parameters: &B::Buffer,
        a: &Activations<B::Buffer>,
        d_result: &B::Buffer,
        g: &mut Gradients<B::Buffer>,
        d_parameters: &mut B::Buffer,
        d_image: Option<&mut B::Buffer>,
    ) {
        let pools = self.pools();
        let (spans, p) = (&self.spans, parameters);

        ops.unet_output_backward(a.shape, &a.output, &a.moments, d_result, &mut g.output, &mut g.moments);
        let top = &a.up[pools - 1].second;
        ops.conv1x1_backward(
            top,
            p,
            spans.head_weight,
            spans.head_bias,
            &a.output,
            &g.output,
            d_parameters,
            &mut g.levels[0].second,
        );
        for level in 0..pools {
            let i = pools - 1 - level;
            let (above, below) = g.levels.split_at_mut(level + 1);
            let g_level = &mut above[level];
            ops.conv3x3_backward(
                &[&a.up[i].first],
                p,
                spans.up[i][1],
                &a.up[i].second,
                &g_level.second,
                d_parameters,
                &mut [finished(&mut g_level.first)],
            );
            ops.conv3x3_backward(
                &[&a.transposed[i], &a.down[level].second],
                p,
                spans.up[i][0],
                &a.up[i].first,
                &g_level.first,
                d_parameters,
                &mut [finished(&mut g_level.transposed), partial(&mut g_level.skip)],
            );
            let (source, g_source) = match below.first_mut() {
                Some(g_below) => (&a.up[i - 1].second, &mut g_below.second),
                None => (&a.bottom.second, &mut g.bottom_second),
            };
            ops.conv_transpose_backward(
                source,
                p,
                spans.up_transpose[i],
                &a.transposed[i],
                &g_level.transposed,
                d_parameters,
                g_source,
            );
        }
        ops.conv3x3_backward(
            &[&a.bottom.first],
            p,
            spans.bottom[1],
            &a.bottom.second,
            &g.bottom_second,
            d_parameters,
            &mut [finished(&mut g.bottom_first)],
        );
        ops.conv3x3_backward(
            &[&a.pooled[pools - 1]],
            p,
            spans.bottom[0],
            &a.bottom.first,
            &g.bottom_first,
            d_parameters,
            &mut [finished(&mut g.levels[pools - 1].pooled)],
        );
        for level in (0..pools).rev() {
            let block = &a.down[level];
            let (above, at) = g.levels.split_at_mut(level);
            let g_level = &mut at[0];
            ops.avg_pool_backward(&block.second, &a.pooled[level], &g_level.pooled, &mut g_level.skip);
            ops.conv3x3_backward(
                &[&block.first],
                p,
                spans.down[level][1],
                &block.second,
                &g_level.skip,
                d_parameters,
                &mut [finished(&mut g_level.first)],
            );
            let (source, g_source) = match above.last_mut() {
                Some(g_above) => (&a.pooled[level - 1], finished(&mut g_above.pooled)),
                None => (&a.input, if d_image.is_some() { finished(&mut g.input) } else { None }),
            };
            ops.conv3x3_backward(
                &[source],
                p,
                spans.down[level][0],
                &block.first,
                &g_level.first,
                d_parameters,
                &mut [g_source],
            );
        }
        if let Some(d_image) = d_image {
            ops.unet_input_backward(a.shape, &a.input, &a.moments, &g.input, &g.moments, d_image);
        }
    }
}
