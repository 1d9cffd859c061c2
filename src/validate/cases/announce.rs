//! 3×3 convolutions that are announced together and come in the opposite order. Every second one has no gradient of its
//! input. What is right is what `conv.rs` here says of one that nobody announces.

use std::fmt;

use crate::backend::{Convolution, InputGradient, MapShape, Pass, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::maps::{gain, sum_over_pixels};
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Announce {
    backward: bool,
    layers: usize,
    inputs: usize,
    output: MapShape,
}

/// Layers, n, channels in, channels out, height, width. A launch takes 32 layers.
const SHAPES: [[usize; 6]; 6] = [
    [1, 1, 1, 1, 1, 1],
    [2, 1, 2, 18, 9, 33],
    [3, 2, 18, 36, 16, 16],
    [4, 1, 144, 40, 5, 6],
    [32, 1, 3, 2, 4, 5],
    [33, 1, 9, 10, 3, 7],
];

impl Family for Announce {
    fn table() -> Vec<Self> {
        let case = |backward| {
            move |[layers, n, inputs, channels, height, width]: [usize; 6]| {
                let output = MapShape { n, channels, height, width };
                Self { backward, layers, inputs, output }
            }
        };
        [false, true].into_iter().flat_map(|backward| SHAPES.map(case(backward))).collect()
    }

    fn random(random: &mut Random) -> Self {
        Self {
            backward: random.coin(),
            layers: random.size(1, 5),
            inputs: random.size(1, 24),
            output: MapShape {
                n: random.size(1, 2),
                channels: random.size(1, 24),
                height: random.size(3, 20),
                width: random.size(3, 20),
            },
        }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let Self { backward, layers, inputs, output: map } = *self;
        let (terms_in, terms_out) = (9 * inputs, 9 * map.channels);
        let precision = rig.ops().precision();
        let filtering = rig.ops().filtering();
        let label = |of: &str, layer: usize| format!("{of} {layer}");
        let input = rig.map("input", map.with_channels(inputs), true);
        let gain = gain(if backward { terms_out } else { terms_in });
        let (parameters, spans) = rig.parameters(&vec![terms_in * map.channels; layers], gain);
        let asked = |layer: usize| layer.is_multiple_of(2);
        let announced: Vec<_> = (0..layers)
            .map(|layer| {
                let pass = match backward {
                    false => Pass::Forward,
                    true => Pass::Backward(0..if asked(layer) { inputs } else { 0 }),
                };
                Convolution { transposed: false, weight: spans[layer], inputs, output: map, pass }
            })
            .collect();
        rig.ops().run(operation::Announce { parameters: &parameters, convolutions: &announced });
        if !backward {
            for layer in (0..layers).rev() {
                let name = label("output", layer);
                let mut output = rig.empty_map(&name, map, true);
                rig.ops().run(operation::Conv3x3 {
                    inputs: &[&input],
                    parameters: &parameters,
                    weight: spans[layer],
                    output: &mut output,
                });
                rig.map_result(&name, &output, Tolerance::sum(terms_in).times(filtering).products(precision));
            }
        } else {
            let output = rig.written_map("output", map, true);
            let d_output = rig.gradient("d_output", map, true);
            let mut d_parameters = rig.parameter_gradient(&spans);
            for layer in (0..layers).rev() {
                let name = label("d_input", layer);
                let mut gradient =
                    asked(layer).then(|| rig.empty_gradient(&name, map.with_channels(inputs), true));
                let place = gradient.as_mut().map(|gradient| InputGradient { gradient, partial: false });
                rig.ops().run(operation::Conv3x3Backward {
                    inputs: &[&input],
                    parameters: &parameters,
                    weight: spans[layer],
                    output: &output,
                    d_output: &d_output,
                    d_parameters: &mut d_parameters,
                    d_inputs: &mut [place],
                });
                if let Some(gradient) = &gradient {
                    rig.gradient_result(
                        &name,
                        gradient,
                        Tolerance::sum(terms_out).times(filtering).products(precision),
                    );
                }
            }
            let tolerance = sum_over_pixels(map.n * map.pixels()).products(precision);
            let names: Vec<_> = (0..layers).map(|layer| label("weight", layer)).collect();
            let parts: Vec<_> =
                names.iter().zip(&spans).map(|(name, &span)| (name.as_str(), span, tolerance)).collect();
            rig.result_in_parts("d_parameters", &d_parameters, &parts);
            rig.map_unchanged("output", &output);
            rig.gradient_unchanged("d_output", &d_output);
        }
        rig.unchanged("parameters", &parameters);
        rig.map_unchanged("input", &input);
    }
}

impl fmt::Display for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backward, layers, inputs, output } = self;
        let MapShape { n, channels, height, width } = output;
        let pass = super::pass(*backward);
        write!(f, "announce{pass} {layers} of {inputs}->{channels} n{n} {height}x{width}")
    }
}
