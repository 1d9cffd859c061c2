//! 3×3 convolution. A value of the output is a sum of 9 products for each channel in, a gradient of the input one of 9
//! for each channel out, a gradient of a weight one of as many as the output has pixels. On tensor cores the operands of
//! these products are rounded: see [`Tolerance::products`]. The CPU sums other products up: see [`Checked::filtering`].

use std::fmt;

use super::{PAPER_POOLS, paper_maps};
use crate::backend::{FeatureMap, InputGradient, MapShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::maps::{gain, sum_over_pixels};
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

/// What the backward does with an input's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Finished,
    Partial,
    Absent,
}
use Place::{Absent, Finished, Partial};

#[derive(Clone, Copy, Debug)]
struct Input {
    channels: usize,
    stats: bool,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
pub struct Conv {
    backward: bool,
    first: Input,
    second: Option<Input>,
    output: MapShape,
    /// Rows and columns that the first input lacks, and that are reflected.
    short: [usize; 2],
}

/// n, channels of one or two inputs, channels out, height, width, and what the first input lacks.
type Row = (usize, &'static [usize], usize, usize, usize, [usize; 2]);

const SHAPES: [Row; 36] = [
    (1, &[1], 1, 1, 1, [0, 0]),
    (1, &[1], 1, 3, 5, [0, 0]),
    (1, &[2], 3, 5, 7, [0, 0]),
    (1, &[2], 18, 16, 16, [0, 0]),
    (2, &[3], 8, 6, 17, [0, 0]),
    (2, &[1], 5, 4, 33, [0, 0]),
    (1, &[18], 18, 33, 17, [0, 0]),
    (1, &[18], 36, 10, 23, [0, 0]),
    (1, &[36], 18, 17, 33, [0, 0]),
    (2, &[7], 13, 3, 100, [0, 0]),
    (1, &[7], 13, 100, 3, [0, 0]),
    (1, &[8], 8, 32, 32, [0, 0]),
    (1, &[4], 4, 130, 66, [0, 0]),
    (1, &[72], 9, 8, 8, [0, 0]),
    (1, &[9], 72, 8, 8, [0, 0]),
    (3, &[16], 16, 16, 16, [0, 0]),
    (1, &[144], 40, 5, 6, [0, 0]),
    (1, &[1], 1, 400, 401, [0, 0]),
    (1, &[2], 36, 272, 262, [0, 0]),
    (1, &[1, 1], 1, 3, 3, [0, 0]),
    (1, &[5, 4], 6, 9, 33, [0, 0]),
    (2, &[18, 18], 18, 16, 20, [0, 0]),
    (1, &[8, 8], 8, 23, 40, [0, 0]),
    (1, &[3, 2], 4, 7, 5, [1, 1]),
    (2, &[2, 2], 3, 6, 9, [0, 1]),
    (1, &[18, 18], 18, 17, 22, [1, 0]),
    (2, &[4, 4], 4, 45, 75, [1, 1]),
    (2, &[5], 6, 9, 34, [1, 1]),
    // Large enough for the tilings of tensor cores that make more than the fewest channels a block.
    (1, &[10], 10, 111, 159, [0, 0]),
    (1, &[18], 18, 63, 191, [0, 0]),
    (3, &[10], 32, 191, 15, [0, 0]),
    (3, &[32], 10, 191, 15, [0, 0]),
    (1, &[18], 18, 111, 159, [0, 0]),
    (3, &[33], 10, 95, 47, [0, 0]),
    (2, &[17], 49, 69, 101, [0, 0]),
    (3, &[69], 72, 9, 103, [0, 0]),
];
/// Where those begin that take seconds.
const LARGE: usize = 28;

impl Family for Conv {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for (i, &(n, channels, out, height, width, short)) in SHAPES.iter().enumerate() {
            let output = MapShape { n, channels: out, height, width };
            // As the U-Net has them: a lone input with statistics or without, two with. And one pair without.
            let always = i == 0 || i >= LARGE || channels.len() == 2 && i % 4 != 3;
            let stats = if always { &[true][..] } else { &[true, false] };
            for &stats in stats {
                let places = match channels.len() {
                    1 => &[[Finished; 2], [Absent; 2]][..],
                    _ => &[[Finished, Partial], [Partial, Finished], [Absent, Partial]],
                };
                let input = |at: usize, place| Input { channels: channels[at], stats, place };
                let case = |backward, [first, second]: [Place; 2]| Self {
                    backward,
                    first: input(0, first),
                    second: (channels.len() > 1).then(|| input(1, second)),
                    output,
                    short,
                };
                cases.push(case(false, [Finished; 2]));
                // The rarer places at every third shape, and a different one each time.
                cases.push(case(true, places[0]));
                if i % 3 == 1 && i < LARGE {
                    cases.push(case(true, places[1 + i / 3 % (places.len() - 1)]));
                }
            }
        }
        cases
    }

    /// Every 3×3 convolution of both U-Nets, forward and backward.
    fn paper() -> Vec<Self> {
        let mut cases = Vec::new();
        for (level, output) in paper_maps() {
            let channels = output.channels;
            let input = |channels, stats, place| Input { channels, stats, place };
            // What is pooled or the image has no statistics.
            let above = if level == 0 { 2 } else { channels / 2 };
            let mut layers =
                vec![(input(above, false, Finished), None), (input(channels, true, Finished), None)];
            if level < PAPER_POOLS {
                layers.push((input(channels, true, Finished), Some(input(channels, true, Partial))));
            }
            for (first, second) in layers {
                let case = |backward| Self { backward, first, second, output, short: [0, 0] };
                cases.extend([false, true].map(case));
            }
        }
        cases
    }

    fn random(random: &mut Random) -> Self {
        let two = random.coin();
        let mut input = |most| Input {
            channels: random.size(1, most),
            stats: random.coin(),
            place: random.one_of(&[Finished, Finished, Partial, Absent]),
        };
        let (first, second) = (input(24), input(24));
        let short = random.coin();
        let output = MapShape {
            n: random.size(1, 2),
            channels: random.size(1, 24),
            height: random.size(3, 36),
            width: random.size(3, 36),
        };
        Self {
            backward: random.coin(),
            first,
            second: two.then_some(second),
            output,
            short: if short { random.one_of(&[[0, 1], [1, 0], [1, 1]]) } else { [0, 0] },
        }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let terms_in = 9 * self.inputs().map(|input| input.channels).sum::<usize>();
        let out = self.output.channels;
        let precision = rig.ops().precision();
        let filtering = rig.ops().filtering();
        let inputs: Vec<FeatureMap<B::Buffer>> = (0..)
            .zip(self.inputs())
            .map(|(i, input)| rig.map(LABELS[i], self.shape(i), input.stats))
            .collect();
        let maps: Vec<&FeatureMap<B::Buffer>> = inputs.iter().collect();
        let gain = if self.backward { gain(9 * out) } else { gain(terms_in) };
        let (parameters, spans) = rig.parameters(&[terms_in * out], gain);
        if !self.backward {
            let mut output = rig.empty_map("output", self.output, true);
            rig.ops().run(operation::Conv3x3 {
                inputs: &maps,
                parameters: &parameters,
                weight: spans[0],
                output: &mut output,
            });
            rig.map_result("output", &output, Tolerance::sum(terms_in).times(filtering).products(precision));
        } else {
            let output = rig.written_map("output", self.output, true);
            let d_output = rig.gradient("d_output", self.output, true);
            let mut d_parameters = rig.parameter_gradient(&spans);
            let mut gradients: Vec<_> = (0..)
                .zip(self.inputs())
                .map(|(i, input)| {
                    let sums = input.stats;
                    (input.place != Absent).then(|| rig.empty_gradient(D_LABELS[i], self.shape(i), sums))
                })
                .collect();
            let mut places: Vec<_> = gradients
                .iter_mut()
                .zip(self.inputs())
                .map(|(gradient, input)| {
                    let partial = input.place == Partial;
                    gradient.as_mut().map(|gradient| InputGradient { gradient, partial })
                })
                .collect();
            let ops = rig.ops();
            ops.run(operation::Conv3x3Backward {
                inputs: &maps,
                parameters: &parameters,
                weight: spans[0],
                output: &output,
                d_output: &d_output,
                d_parameters: &mut d_parameters,
                d_inputs: &mut places,
            });
            for (i, (gradient, input)) in gradients.iter().zip(self.inputs()).enumerate() {
                let tolerance = Tolerance::sum(9 * out).times(filtering).products(precision);
                match gradient {
                    Some(gradient) if input.place == Partial => {
                        rig.partial_result(D_LABELS[i], gradient, tolerance);
                    }
                    Some(gradient) => rig.gradient_result(D_LABELS[i], gradient, tolerance),
                    None => {}
                }
            }
            let tolerance = sum_over_pixels(self.output.n * self.output.pixels()).products(precision);
            let weight = ("weight", spans[0], tolerance);
            rig.result_in_parts("d_parameters", &d_parameters, &[weight]);
            rig.map_unchanged("output", &output);
            rig.gradient_unchanged("d_output", &d_output);
        }
        rig.unchanged("parameters", &parameters);
        for (label, map) in LABELS.iter().zip(&inputs) {
            rig.map_unchanged(label, map);
        }
    }
}

const LABELS: [&str; 2] = ["input 0", "input 1"];
const D_LABELS: [&str; 2] = ["d_input 0", "d_input 1"];

impl Conv {
    fn inputs(&self) -> impl Iterator<Item = Input> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    fn shape(&self, input: usize) -> MapShape {
        match self.second {
            Some(second) if input == 1 => self.output.with_channels(second.channels),
            _ => MapShape {
                channels: self.first.channels,
                height: self.output.height - self.short[0],
                width: self.output.width - self.short[1],
                ..self.output
            },
        }
    }
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MapShape { n, channels, height, width } = self.output;
        let raw = |input: Input| if input.stats { "" } else { "raw" };
        write!(f, "conv3x3{} {}{}", super::pass(self.backward), self.first.channels, raw(self.first))?;
        if let Some(second) = self.second {
            write!(f, "+{}{}", second.channels, raw(second))?;
        }
        write!(f, "->{channels} n{n} {height}x{width}")?;
        if self.short != [0, 0] {
            write!(f, " short {}x{}", self.short[0], self.short[1])?;
        }
        if self.backward {
            let places: Vec<String> =
                self.inputs().map(|input| format!("{:?}", input.place).to_lowercase()).collect();
            write!(f, " {}", places.join("+"))?;
        }
        Ok(())
    }
}
