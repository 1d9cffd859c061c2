//! 1×1 convolution with bias. A value of the output is a sum of one product for each channel in, a gradient of the
//! input one for each channel out, the gradients of weights and biases of as many as the output has pixels.

use std::fmt;

use super::{paper_maps, pass, raw};
use crate::backend::{MapShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::maps::{gain, sum_over_pixels};
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Conv1x1 {
    backward: bool,
    input: MapShape,
    stats: bool,
    out: usize,
}

/// n, channels in and out, height, width.
const SHAPES: [[usize; 5]; 11] = [
    [1, 1, 1, 1, 1],
    [1, 1, 2, 3, 5],
    [1, 3, 1, 7, 3],
    [2, 18, 2, 10, 13],
    [1, 18, 2, 33, 17],
    [1, 8, 2, 64, 48],
    [3, 8, 2, 31, 20],
    [1, 5, 3, 3, 100],
    [1, 36, 7, 100, 3],
    [2, 4, 2, 160, 96],
    [1, 72, 2, 16, 16],
];

impl Family for Conv1x1 {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for (i, [n, channels, out, height, width]) in SHAPES.into_iter().enumerate() {
            let input = MapShape { n, channels, height, width };
            // The U-Net's input has statistics.
            let stats = if i.is_multiple_of(5) { &[true, false][..] } else { &[true] };
            for (backward, &stats) in
                [false, true].into_iter().flat_map(|b| stats.iter().map(move |s| (b, s)))
            {
                cases.push(Self { backward, input, stats, out });
            }
        }
        cases
    }

    /// The last layer of both U-Nets, forward and backward.
    fn paper() -> Vec<Self> {
        let top = paper_maps().filter(|&(level, _)| level == 0).map(|(_, input)| input);
        top.flat_map(|input| [false, true].map(|backward| Self { backward, input, stats: true, out: 2 }))
            .collect()
    }

    fn random(random: &mut Random) -> Self {
        let input = MapShape {
            n: random.size(1, 3),
            channels: random.size(1, 40),
            height: random.size(2, 60),
            width: random.size(2, 60),
        };
        let out = random.one_of(&[1, 2, 2, 2, 3, 9]);
        Self { backward: random.coin(), input, stats: random.coin(), out }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let channels = self.input.channels;
        let shape = self.input.with_channels(self.out);
        let input = rig.map("input", self.input, self.stats);
        let gain = gain(if self.backward { self.out } else { channels });
        let (parameters, spans) = rig.parameters(&[channels * self.out, self.out], gain);
        if !self.backward {
            let mut output = rig.empty_map("output", shape, false);
            rig.ops().run(operation::Conv1x1 {
                input: &input,
                parameters: &parameters,
                weight: spans[0],
                bias: spans[1],
                output: &mut output,
            });
            rig.map_result("output", &output, Tolerance::sum(channels));
        } else {
            let output = rig.written_map("output", shape, false);
            let d_output = rig.gradient("d_output", shape, false);
            let mut d_parameters = rig.parameter_gradient(&spans);
            let mut d_input = rig.empty_gradient("d_input", self.input, self.stats);
            rig.ops().run(operation::Conv1x1Backward {
                input: &input,
                parameters: &parameters,
                weight: spans[0],
                bias: spans[1],
                output: &output,
                d_output: &d_output,
                d_parameters: &mut d_parameters,
                d_input: &mut d_input,
            });
            rig.gradient_result("d_input", &d_input, Tolerance::sum(self.out));
            let tolerance = sum_over_pixels(shape.n * shape.pixels());
            let parts = [("weight", spans[0], tolerance), ("bias", spans[1], tolerance)];
            rig.result_in_parts("d_parameters", &d_parameters, &parts);
            rig.map_unchanged("output", &output);
            rig.gradient_unchanged("d_output", &d_output);
        }
        rig.unchanged("parameters", &parameters);
        rig.map_unchanged("input", &input);
    }
}

impl fmt::Display for Conv1x1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backward, input: MapShape { n, channels, height, width }, stats, out } = *self;
        let (pass, raw) = (pass(backward), raw(stats));
        write!(f, "conv1x1{pass} {channels}->{out} n{n} {height}x{width}{raw}")
    }
}
