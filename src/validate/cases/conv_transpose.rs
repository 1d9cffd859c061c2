//! 2×2 transposed convolution. A value of the output is a sum of one product for each channel in, a gradient of the
//! input one of 4 for each channel out, a gradient of a weight one of as many as the input has pixels. On tensor cores the
//! operands of these products are rounded as those of 3×3 convolutions are: see [`Tolerance::products`].

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
pub struct ConvTranspose {
    backward: bool,
    input: MapShape,
    stats: bool,
    out: usize,
}

/// n, channels in and out, height and width of the input.
const SHAPES: [[usize; 5]; 22] = [
    [1, 1, 1, 1, 1],
    [1, 1, 2, 3, 5],
    [1, 2, 1, 1, 7],
    [2, 6, 3, 5, 7],
    [1, 36, 18, 16, 11],
    [2, 36, 18, 8, 10],
    [1, 18, 9, 17, 33],
    [1, 5, 3, 3, 100],
    [1, 5, 3, 100, 3],
    [1, 16, 8, 32, 32],
    [3, 4, 2, 31, 20],
    [1, 72, 36, 6, 5],
    [1, 288, 144, 2, 3],
    [2, 36, 18, 70, 90],
    [1, 7, 13, 9, 17],
    // Rows of whole runs of pixels, and planes of whole runs whose rows are not.
    [2, 9, 5, 8, 12],
    [1, 1, 1, 2, 4],
    [2, 3, 1, 7, 6],
    [2, 49, 21, 10, 9],
    [1, 17, 7, 16, 16],
    [1, 66, 37, 10, 46],
    // Large enough for the cuts of tensor cores that make most rows a block.
    [3, 70, 22, 62, 68],
];

impl Family for ConvTranspose {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for (i, [n, channels, out, height, width]) in SHAPES.into_iter().enumerate() {
            let input = MapShape { n, channels, height, width };
            // The U-Net's inputs all have statistics.
            let stats = if i.is_multiple_of(5) { &[true, false][..] } else { &[true] };
            for (backward, &stats) in
                [false, true].into_iter().flat_map(|b| stats.iter().map(move |s| (b, s)))
            {
                cases.push(Self { backward, input, stats, out });
            }
        }
        cases
    }

    /// From each level of both U-Nets to the one above, forward and backward.
    fn paper() -> Vec<Self> {
        let below = paper_maps().filter(|&(level, _)| level > 0).map(|(_, input)| input);
        let cases = |input: MapShape| {
            let out = input.channels / 2;
            [false, true].map(|backward| Self { backward, input, stats: true, out })
        };
        below.flat_map(cases).collect()
    }

    fn random(random: &mut Random) -> Self {
        let input = MapShape {
            n: random.size(1, 2),
            channels: random.size(1, 40),
            height: random.size(2, 36),
            width: random.size(2, 36),
        };
        Self { backward: random.coin(), input, stats: random.coin(), out: random.size(1, 20) }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let MapShape { n, channels, height, width } = self.input;
        let shape = MapShape { n, channels: self.out, height: 2 * height, width: 2 * width };
        let precision = rig.ops().precision();
        let input = rig.map("input", self.input, self.stats);
        let gain = gain(if self.backward { 4 * self.out } else { channels });
        let (parameters, spans) = rig.parameters(&[4 * channels * self.out], gain);
        if !self.backward {
            let mut output = rig.empty_map("output", shape, true);
            rig.ops().run(operation::ConvTranspose {
                input: &input,
                parameters: &parameters,
                weight: spans[0],
                output: &mut output,
            });
            rig.map_result("output", &output, Tolerance::sum(channels).products(precision));
        } else {
            let output = rig.written_map("output", shape, true);
            let d_output = rig.gradient("d_output", shape, true);
            let mut d_parameters = rig.parameter_gradient(&spans);
            let mut d_input = rig.empty_gradient("d_input", self.input, self.stats);
            rig.ops().run(operation::ConvTransposeBackward {
                input: &input,
                parameters: &parameters,
                weight: spans[0],
                output: &output,
                d_output: &d_output,
                d_parameters: &mut d_parameters,
                d_input: &mut d_input,
            });
            let tolerance = Tolerance::sum(4 * self.out).products(precision);
            rig.gradient_result("d_input", &d_input, tolerance);
            let weight = ("weight", spans[0], sum_over_pixels(n * height * width).products(precision));
            rig.result_in_parts("d_parameters", &d_parameters, &[weight]);
            rig.map_unchanged("output", &output);
            rig.gradient_unchanged("d_output", &d_output);
        }
        rig.unchanged("parameters", &parameters);
        rig.map_unchanged("input", &input);
    }
}

impl fmt::Display for ConvTranspose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backward, input: MapShape { n, channels, height, width }, stats, out } = *self;
        let (pass, raw) = (pass(backward), raw(stats));
        write!(f, "conv_transpose{pass} {channels}->{out} n{n} {height}x{width}{raw}")
    }
}
