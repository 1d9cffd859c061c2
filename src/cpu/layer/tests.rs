//! The three convolutions and pooling against naive loops and central differences.

use super::testing::*;
use crate::backend::{FeatureMap, InputGradient, MapGradient, MapShape, Span};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::chunk::reflect;
use crate::cpu::{conv, conv_transpose, conv1x1, pool};

type Map = FeatureMap<Buffer<f64>>;

/// Which layer a case runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Conv3x3,
    Conv1x1,
    Transpose,
    Pool,
}
use Kind::*;

/// n, channels of each input, output channels, height, width of the output grid, rows and columns that the first
/// input is short of (read by reflection).
struct Case(Kind, usize, &'static [usize], usize, usize, usize, [usize; 2]);

/// Odd sizes, sizes under a register and not a multiple of one, blocks that do not fill, several chunks of rows,
/// one channel, batches, concatenation, reflection.
const CASES: &[Case] = &[
    Case(Conv3x3, 1, &[1], 1, 1, 1, [0, 0]),
    Case(Conv3x3, 1, &[2], 3, 5, 7, [0, 0]),
    Case(Conv3x3, 2, &[3], 8, 6, 17, [0, 0]),
    Case(Conv3x3, 1, &[5, 4], 6, 9, 33, [0, 0]),
    Case(Conv3x3, 3, &[1, 2], 2, 4, 16, [0, 0]),
    Case(Conv3x3, 1, &[3, 2], 4, 7, 5, [1, 1]),
    Case(Conv3x3, 2, &[2, 2], 3, 6, 9, [0, 1]),
    Case(Conv3x3, 1, &[3], 5, 2, 1, [0, 0]),
    Case(Conv3x3, 2, &[2], 3, 3, 4, [0, 0]),
    Case(Conv3x3, 1, &[36], 18, 41, 40, [0, 0]),
    Case(Conv3x3, 2, &[7], 13, 130, 50, [0, 0]),
    Case(Conv1x1, 1, &[1], 1, 3, 2, [0, 0]),
    Case(Conv1x1, 2, &[18], 2, 10, 13, [0, 0]),
    Case(Conv1x1, 1, &[5], 3, 64, 200, [0, 0]),
    Case(Transpose, 1, &[2], 1, 2, 2, [0, 0]),
    Case(Transpose, 2, &[6], 3, 10, 14, [0, 0]),
    Case(Transpose, 1, &[36], 18, 40, 82, [0, 0]),
    Case(Transpose, 3, &[4], 2, 300, 100, [0, 0]),
    Case(Pool, 2, &[3], 3, 4, 6, [0, 0]),
    Case(Pool, 1, &[2], 2, 7, 9, [0, 0]),
    Case(Pool, 1, &[18], 18, 33, 64, [0, 0]),
];

struct Problem {
    kind: Kind,
    inputs: Vec<Map>,
    parameters: Vec<f64>,
    weight: Span,
    bias: Span,
    out: MapShape,
}

impl Case {
    fn problem(&self, seed: u64) -> Problem {
        let &Case(kind, n, channels, out, height, width, short) = self;
        let mut rng = rng(seed);
        let grid = match kind {
            Transpose => [height / 2, width / 2],
            _ => [height, width],
        };
        let inputs: Vec<Map> = channels
            .iter()
            .enumerate()
            .map(|(i, &c)| {
                let short = if i == 0 { short } else { [0, 0] };
                // The first input of a concatenation has statistics; a lone one in half of the cases.
                random_map(
                    &mut rng,
                    shape(n, c, grid[0] - short[0], grid[1] - short[1]),
                    i == 0 && seed.is_multiple_of(2),
                )
            })
            .collect();
        let taps = match kind {
            Conv3x3 => 9,
            Conv1x1 => 1,
            Transpose => 4,
            Pool => 0,
        };
        let len = channels.iter().sum::<usize>() * out * taps;
        let out = match kind {
            Pool => shape(n, out, height / 2, width / 2),
            _ => shape(n, out, height, width),
        };
        // Something in front and behind that must not be touched.
        let parameters = random(&mut rng, 3 + len + out.channels + 2);
        Problem {
            kind,
            inputs,
            parameters,
            weight: Span { offset: 3, len },
            bias: Span { offset: 3 + len, len: if kind == Conv1x1 { out.channels } else { 0 } },
            out,
        }
    }
}

impl Problem {
    fn has_stats(&self) -> bool {
        matches!(self.kind, Conv3x3 | Transpose)
    }

    fn run(&self, cpu: &Cpu<f64>) -> Map {
        self.run_with(cpu, self.has_stats())
    }

    fn run_with(&self, cpu: &Cpu<f64>, stats: bool) -> Map {
        let inputs: Vec<&Map> = self.inputs.iter().collect();
        let mut output = poisoned_map(self.out, stats);
        match self.kind {
            Conv3x3 => conv::conv3x3(cpu, &inputs, &self.parameters, self.weight, &mut output),
            Conv1x1 => {
                conv1x1::conv1x1(cpu, inputs[0], &self.parameters, self.weight, self.bias, &mut output)
            }
            Transpose => {
                conv_transpose::conv_transpose(cpu, inputs[0], &self.parameters, self.weight, &mut output)
            }
            Pool => pool::avg_pool(cpu, inputs[0], &mut output),
        }
        output
    }

    /// The definition, loop by loop.
    fn naive(&self) -> Vec<f64> {
        let w = &self.parameters[self.weight.range()];
        let read: Vec<Vec<f64>> = self.inputs.iter().map(activated).collect();
        let at = |map: usize, n: usize, c: usize, y: usize, x: usize| {
            let s = self.inputs[map].shape;
            read[map]
                [((n * s.channels + c) * s.height + reflect(y, s.height)) * s.width + reflect(x, s.width)]
        };
        let channels: Vec<(usize, usize)> = (0..self.inputs.len())
            .flat_map(|map| (0..self.inputs[map].shape.channels).map(move |c| (map, c)))
            .collect();
        let MapShape { n: batch, channels: out, height, width } = self.out;
        let mut result = Vec::new();
        for n in 0..batch {
            for o in 0..out {
                for y in 0..height {
                    for x in 0..width {
                        let mut sum = 0.0;
                        for (i, &(map, c)) in channels.iter().enumerate() {
                            sum += match self.kind {
                                Conv3x3 => (0..9)
                                    .map(|k| {
                                        let (yy, xx) = (y + k / 3, x + k % 3);
                                        let inside = (1..=height).contains(&yy) && (1..=width).contains(&xx);
                                        let weight = w[(o * channels.len() + i) * 9 + k];
                                        if inside { weight * at(map, n, c, yy - 1, xx - 1) } else { 0.0 }
                                    })
                                    .sum(),
                                Conv1x1 => w[o * channels.len() + i] * at(map, n, c, y, x),
                                Transpose => {
                                    w[(i * out + o) * 4 + y % 2 * 2 + x % 2] * at(map, n, c, y / 2, x / 2)
                                }
                                Pool if c != o => 0.0,
                                Pool => {
                                    (0..4).map(|k| at(map, n, c, 2 * y + k / 2, 2 * x + k % 2) / 4.0).sum()
                                }
                            };
                        }
                        if self.kind == Conv1x1 {
                            sum += self.parameters[self.bias.range()][o];
                        }
                        result.push(sum);
                    }
                }
            }
        }
        result
    }

    /// Σ c·(normalised output). Not of the activated output: among many values some lie so near to LeakyReLU's
    /// kink that a difference crosses it.
    fn loss(&self, cpu: &Cpu<f64>, c: &[f64]) -> f64 {
        let output = self.run(cpu);
        c.iter().enumerate().map(|(i, c)| c * normalised(&output, i)).sum()
    }

    /// Gradients of that loss: parameters, then each input's.
    fn gradients(&self, cpu: &Cpu<f64>, c: &[f64]) -> (Vec<f64>, Vec<MapGradient<Buffer<f64>>>) {
        self.gradients_of(cpu, &self.run(cpu), c)
    }

    fn gradients_of(
        &self,
        cpu: &Cpu<f64>,
        output: &Map,
        c: &[f64],
    ) -> (Vec<f64>, Vec<MapGradient<Buffer<f64>>>) {
        let d_output = gradient_of_normalised(output, c.to_vec());
        let inputs: Vec<&Map> = self.inputs.iter().collect();
        let mut d_parameters = vec![0.25; self.parameters.len()];
        let mut d_inputs: Vec<MapGradient<Buffer<f64>>> = self.inputs.iter().map(poisoned_gradient).collect();
        match self.kind {
            Conv3x3 => {
                let mut places: Vec<_> = d_inputs
                    .iter_mut()
                    .map(|gradient| Some(InputGradient { gradient, partial: false }))
                    .collect();
                conv::conv3x3_backward(
                    cpu,
                    &inputs,
                    &self.parameters,
                    self.weight,
                    output,
                    &d_output,
                    &mut d_parameters,
                    &mut places,
                );
            }
            Conv1x1 => conv1x1::conv1x1_backward(
                cpu,
                inputs[0],
                &self.parameters,
                self.weight,
                self.bias,
                output,
                &d_output,
                &mut d_parameters,
                &mut d_inputs[0],
            ),
            Transpose => conv_transpose::conv_transpose_backward(
                cpu,
                inputs[0],
                &self.parameters,
                self.weight,
                output,
                &d_output,
                &mut d_parameters,
                &mut d_inputs[0],
            ),
            Pool => {
                d_inputs[0].values.fill(0.0);
                pool::avg_pool_backward(cpu, inputs[0], output, &d_output, &mut d_inputs[0]);
            }
        }
        d_parameters.iter_mut().for_each(|d| *d -= 0.25);
        (d_parameters, d_inputs)
    }
}

#[test]
fn forward_is_the_definition() {
    let cpu = Cpu::default();
    for (seed, case) in CASES.iter().enumerate() {
        for seed in [2 * seed as u64, 2 * seed as u64 + 1] {
            let problem = case.problem(seed);
            let output = problem.run(&cpu);
            let want = problem.naive();
            assert_close(&format!("case {} values", seed / 2), &output.values, &want, 1e-13);
            if let Some(stats) = &output.stats {
                for (plane, values) in want.chunks(problem.out.pixels()).enumerate() {
                    let mean = values.iter().sum::<f64>() / values.len() as f64;
                    let variance =
                        values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
                    let expected = [mean, 1.0 / (variance + 1e-5).sqrt()];
                    assert_close(
                        &format!("case {} stats", seed / 2),
                        &stats[2 * plane..][..2],
                        &expected,
                        1e-12,
                    );
                }
            }
        }
    }
}

#[test]
fn backward_is_the_derivative() {
    let cpu = Cpu::default();
    for (index, case) in CASES.iter().enumerate() {
        for seed in [2 * index as u64, 2 * index as u64 + 1] {
            let mut problem = case.problem(seed);
            let mut rng = rng(1000 + seed);
            let c = random(&mut rng, problem.out.len());
            let (d_parameters, d_inputs) = problem.gradients(&cpu, &c);
            let name = |what: &str| format!("case {index} seed {seed} {what}");

            // Every parameter of small problems, a spread of large ones.
            let step = (problem.parameters.len() / 40).max(1);
            let mut parameters = problem.parameters.clone();
            for i in (0..parameters.len()).step_by(step) {
                let want = difference(&mut parameters, i, |p| {
                    problem.parameters.copy_from_slice(p);
                    problem.loss(&cpu, &c)
                });
                problem.parameters.copy_from_slice(&parameters);
                assert_close(&name(&format!("parameter {i}")), &[d_parameters[i]], &[want], 2e-6);
            }
            for (map, d_input) in d_inputs.iter().enumerate() {
                let step = (d_input.values.len() / 40).max(1);
                for i in (0..d_input.values.len()).step_by(step) {
                    // One unit of the normalised value is 1/rstd of the raw one.
                    let plane = i / problem.inputs[map].shape.pixels();
                    let rstd = problem.inputs[map].stats.as_ref().map_or(1.0, |s| s[2 * plane + 1]);
                    let mut values = problem.inputs[map].values.to_vec();
                    let want = difference(&mut values, i, |x| {
                        problem.inputs[map].values.copy_from_slice(x);
                        problem.loss(&cpu, &c)
                    }) / rstd;
                    problem.inputs[map].values.copy_from_slice(&values);
                    assert_close(
                        &name(&format!("input {map} value {i}")),
                        &[d_input.values[i]],
                        &[want],
                        2e-6,
                    );
                }
                if let Some(sums) = &d_input.sums {
                    let input = &problem.inputs[map];
                    for (plane, sums) in sums.chunks(2).enumerate() {
                        let pixels = input.shape.pixels();
                        let range = plane * pixels..(plane + 1) * pixels;
                        let g = d_input.values[range.clone()].iter().sum::<f64>() / pixels as f64;
                        let gx = range.map(|i| d_input.values[i] * normalised(input, i)).sum::<f64>()
                            / pixels as f64;
                        assert_close(&name("sums"), sums, &[g, gx], 1e-12);
                    }
                }
            }
        }
    }
}

/// ⟨Ax, g⟩ = ⟨x, Aᴴg⟩ for the layers as linear maps of their inputs: no statistics on either side, no bias.
#[test]
fn data_gradients_are_adjoints() {
    let cpu = Cpu::default();
    for (index, case) in CASES.iter().enumerate() {
        let mut problem = case.problem(2 * index as u64 + 1);
        problem.parameters[problem.bias.range()].fill(0.0);
        let mut rng = rng(index as u64);
        let g = random(&mut rng, problem.out.len());
        problem.inputs.iter_mut().for_each(|input| input.stats = None);
        let output = problem.run_with(&cpu, false);
        let (_, d_inputs) = problem.gradients_of(&cpu, &output, &g);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let right: f64 = problem.inputs.iter().zip(&d_inputs).map(|(x, d)| dot(&x.values, &d.values)).sum();
        assert_close(&format!("case {index}"), &[dot(&output.values, &g)], &[right], 1e-12);
    }
}

#[test]
fn a_partial_gradient_is_finished_by_pooling() {
    let cpu = Cpu::default();
    let mut rng = rng(5);
    let map = random_map(&mut rng, shape(2, 3, 7, 10), true);
    let mut pooled = poisoned_map(shape(2, 3, 3, 5), false);
    pool::avg_pool(&cpu, &map, &mut pooled);
    let skip = random(&mut rng, map.values.len());
    let d_pooled = MapGradient { values: random(&mut rng, pooled.values.len()).into(), sums: None };
    let mut gradient = MapGradient { values: skip.clone().into(), sums: Some(vec![f64::NAN; 12].into()) };
    pool::avg_pool_backward(&cpu, &map, &pooled, &d_pooled, &mut gradient);

    let mut d_activated = skip;
    for (i, d) in d_activated.iter_mut().enumerate() {
        let (plane, y, x) = (i / 70, i % 70 / 10, i % 10);
        if y / 2 < 3 {
            *d += d_pooled.values[plane * 15 + y / 2 * 5 + x / 2] / 4.0;
        }
    }
    let want = stored_gradient(&map, &d_activated);
    assert_close("values", &gradient.values, &want.values, 1e-14);
    assert_close("sums", &gradient.sums.unwrap(), &want.sums.unwrap(), 1e-14);
}

#[test]
fn threads_change_no_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for (index, case) in CASES.iter().enumerate() {
        let problem = case.problem(2 * index as u64);
        let c = random(&mut rng(7), problem.out.len());
        let run = |threads| {
            pool(threads).install(|| {
                let cpu = Cpu::default();
                let output = problem.run(&cpu);
                let (d_parameters, d_inputs) = problem.gradients(&cpu, &c);
                (
                    output.values.to_vec(),
                    output.stats.as_deref().map(<[f64]>::to_vec),
                    d_parameters,
                    d_inputs
                        .iter()
                        .map(|d| (d.values.to_vec(), d.sums.as_deref().map(<[f64]>::to_vec)))
                        .collect::<Vec<_>>(),
                )
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "case {index}");
    }
}

#[test]
fn single_precision_is_the_rounded_double() {
    let cpu = Cpu::default();
    for (index, case) in CASES.iter().enumerate() {
        let problem = case.problem(2 * index as u64);
        let single = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let inputs: Vec<FeatureMap<Buffer<f32>>> = problem
            .inputs
            .iter()
            .map(|i| FeatureMap {
                shape: i.shape,
                values: single(&i.values).into(),
                stats: i.stats.as_deref().map(|stats| single(stats).into()),
            })
            .collect();
        let inputs: Vec<&FeatureMap<Buffer<f32>>> = inputs.iter().collect();
        let parameters = single(&problem.parameters);
        let mut output = FeatureMap {
            shape: problem.out,
            values: vec![f32::NAN; problem.out.len()].into(),
            stats: problem.has_stats().then(|| vec![f32::NAN; 2 * problem.out.planes()].into()),
        };
        match problem.kind {
            Conv3x3 => conv::conv3x3(&Cpu::default(), &inputs, &parameters, problem.weight, &mut output),
            Conv1x1 => conv1x1::conv1x1(
                &Cpu::default(),
                inputs[0],
                &parameters,
                problem.weight,
                problem.bias,
                &mut output,
            ),
            Transpose => conv_transpose::conv_transpose(
                &Cpu::default(),
                inputs[0],
                &parameters,
                problem.weight,
                &mut output,
            ),
            Pool => pool::avg_pool(&Cpu::default(), inputs[0], &mut output),
        }
        let want = problem.run(&cpu);
        let double: Vec<f64> = output.values.iter().map(|&x| f64::from(x)).collect();
        // Sums of up to 324 products of order 1: a few units of 6e-8 relative to the largest value.
        assert_close(&format!("case {index}"), &double, &want.values, 2e-6);
    }
}
