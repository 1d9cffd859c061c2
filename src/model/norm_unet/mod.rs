//! fastMRI's `NormUnet`: normalise, pad to multiples of 16, U-Net, crop, un-normalise; forward, and below it the
//! backward, the same names in reverse. The memory that they work in: activations.rs.

mod activations;

use std::mem::swap;

use crate::backend::*;
use crate::error::{Error, Result};
use crate::model::architecture::{ConvBlockSpans, UnetSpans};
pub use activations::{Activations, Passing};
use activations::{ConvBlock, Gradients, fit};

/// A U-Net with `chans` channels at its first level and its place among the parameters.
#[derive(Clone, Debug)]
pub struct NormUnet {
    pub chans: usize,
    pub spans: UnetSpans,
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
                ops.run(Conv3x3 { inputs: input, parameters, weight: spans[0], output: &mut block.first });
                ops.run(Conv3x3 {
                    inputs: &[&block.first],
                    parameters,
                    weight: spans[1],
                    output: &mut block.second,
                });
            };
        let pooled = &mut passing.pooled;
        ops.run(Announce { parameters, convolutions: &self.convolutions(a.shape) });
        ops.run(UnetInput { shape: a.shape, image, map: &mut a.input, moments: &mut a.moments });
        for level in 0..self.pools() {
            let above = if level == 0 { &a.input } else { &*pooled };
            conv_block(&[above], self.spans.down[level], &mut a.down[level]);
            self.pool(ops, a, level, pooled);
        }
        conv_block(&[pooled], self.spans.bottom, &mut a.bottom);
        for (i, level) in (0..self.pools()).rev().enumerate() {
            let below = if i == 0 { &a.bottom.second } else { &a.up[i - 1].second };
            ops.run(ConvTranspose {
                input: below,
                parameters,
                weight: self.spans.up_transpose[i],
                output: &mut a.transposed[i],
            });
            conv_block(&[&a.transposed[i], &a.down[level].second], self.spans.up[i], &mut a.up[i]);
        }
        let top = &a.up[self.pools() - 1].second;
        ops.run(Conv1x1 {
            input: top,
            parameters,
            weight: self.spans.head_weight,
            bias: self.spans.head_bias,
            output: &mut a.output,
        });
        ops.run(UnetOutput { shape: a.shape, map: &a.output, moments: &a.moments, image: result });
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
        ops.run(AvgPool { input: &a.down[level].second, output: pooled });
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
        let spans = &self.spans;
        let Passing { pooled, gradients } = passing;
        let Gradients { skip, working, plain, moments } =
            gradients.as_mut().expect("room for a backward pass");
        // The gradient that the next operation reads, and the one that it writes.
        let [mut from, mut to] = working.each_mut();
        let convolutions = self.backward_convolutions(a.shape, d_image.is_some());
        ops.set_len(moments, 4 * a.shape.n);
        ops.run(Announce { parameters, convolutions: &convolutions });
        ops.beside(|| self.pool(ops, a, pools - 1, pooled));

        fit(ops, plain, &a.output);
        ops.run(UnetOutputBackward {
            shape: a.shape,
            map: &a.output,
            moments: &a.moments,
            d_image: d_result,
            d_map: plain,
            d_moments: moments,
        });
        let top = &a.up[pools - 1].second;
        fit(ops, to, top);
        ops.run(Conv1x1Backward {
            input: top,
            parameters,
            weight: spans.head_weight,
            bias: spans.head_bias,
            output: &a.output,
            d_output: plain,
            d_parameters,
            d_input: to,
        });
        swap(&mut from, &mut to);
        let mut layers = Layers { ops, parameters, d_parameters };
        for (level, skip) in skip[..pools].iter_mut().enumerate() {
            let i = pools - 1 - level;
            let Activations { down, transposed, up, .. } = a;
            layers.conv([&up[i].first], spans.up[i][1], &up[i].second, from, [finished(to)]);
            swap(&mut from, &mut to);
            let both = [&transposed[i], &down[level].second];
            layers.conv(both, spans.up[i][0], &up[i].first, from, [finished(to), partial(skip)]);
            swap(&mut from, &mut to);
            let below = if i == 0 { &a.bottom.second } else { &up[i - 1].second };
            layers.conv_transpose(below, spans.up_transpose[i], &transposed[i], from, to);
            swap(&mut from, &mut to);
        }
        let bottom = &a.bottom;
        layers.conv([&bottom.first], spans.bottom[1], &bottom.second, from, [finished(to)]);
        swap(&mut from, &mut to);
        layers.conv([pooled], spans.bottom[0], &bottom.first, from, [finished(plain)]);
        for (level, skip) in skip[..pools].iter_mut().enumerate().rev() {
            let ConvBlock { first, second } = &a.down[level];
            ops.run(AvgPoolBackward { input: second, output: pooled, d_output: plain, d_input: skip });
            if level > 0 {
                ops.beside(|| self.pool(ops, a, level - 1, pooled));
            }
            layers.conv([first], spans.down[level][1], second, skip, [finished(to)]);
            swap(&mut from, &mut to);
            let (source, asked) = if level == 0 { (&a.input, d_image.is_some()) } else { (&*pooled, true) };
            let d_source = if asked { finished(plain) } else { None };
            layers.conv([source], spans.down[level][0], first, from, [d_source]);
        }
        if let Some(d_image) = d_image {
            ops.run(UnetInputBackward {
                shape: a.shape,
                map: &a.input,
                moments: &a.moments,
                d_map: plain,
                d_moments: moments,
                d_image,
            });
        }
    }
}

/// The layers of a backward pass, with what all of them have in common. Gradients are made to fit before they are written.
struct Layers<'l, B: Backend> {
    ops: &'l B,
    parameters: &'l B::Buffer,
    d_parameters: &'l mut B::Buffer,
}

impl<B: Backend> Layers<'_, B> {
    fn conv<const N: usize>(
        &mut self,
        inputs: [&FeatureMap<B::Buffer>; N],
        weight: Span,
        output: &FeatureMap<B::Buffer>,
        d_output: &MapGradient<B::Buffer>,
        d_inputs: [Option<InputGradient<'_, B::Buffer>>; N],
    ) {
        let Self { ops, parameters, d_parameters } = self;
        let mut d_inputs = d_inputs;
        for (input, d_input) in inputs.iter().zip(&mut d_inputs) {
            if let Some(d_input) = d_input {
                fit(*ops, d_input.gradient, input);
            }
        }
        let (inputs, d_inputs) = (&inputs, &mut d_inputs);
        ops.run(Conv3x3Backward { inputs, parameters, weight, output, d_output, d_parameters, d_inputs });
    }

    fn conv_transpose(
        &mut self,
        input: &FeatureMap<B::Buffer>,
        weight: Span,
        output: &FeatureMap<B::Buffer>,
        d_output: &MapGradient<B::Buffer>,
        d_input: &mut MapGradient<B::Buffer>,
    ) {
        let Self { ops, parameters, d_parameters } = self;
        fit(*ops, d_input, input);
        ops.run(ConvTransposeBackward { input, parameters, weight, output, d_output, d_parameters, d_input });
    }
}
