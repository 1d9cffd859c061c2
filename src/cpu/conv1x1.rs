//! 1×1 convolution with bias: the U-Net's last layer.

use crate::backend::{FeatureMap, InputGradient, MapGradient, Span};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::layer::{self, Filters};
use crate::real::Real;

fn filters<'a, T>(
    input: &FeatureMap<Buffer<T>>,
    output: &FeatureMap<Buffer<T>>,
    weights: &'a [T],
) -> Filters<'a, T> {
    let inputs = input.shape.channels;
    let planes = output.shape.channels;
    Filters { weights, planes, inputs, radius: 0, plane_stride: inputs, input_stride: 1, up: 1 }
}

/// See [`crate::backend::Conv1x1`].
pub fn conv1x1<T: Real>(
    cpu: &Cpu<T>,
    input: &FeatureMap<Buffer<T>>,
    parameters: &[T],
    weight: Span,
    bias: Span,
    output: &mut FeatureMap<Buffer<T>>,
) {
    let filters = filters(input, output, &parameters[weight.range()]);
    layer::forward(cpu, &[input], filters, Some(&parameters[bias.range()]), output);
}

/// See [`crate::backend::Conv1x1Backward`].
#[allow(clippy::too_many_arguments)]
pub fn conv1x1_backward<T: Real>(
    cpu: &Cpu<T>,
    input: &FeatureMap<Buffer<T>>,
    parameters: &[T],
    weight: Span,
    bias: Span,
    output: &FeatureMap<Buffer<T>>,
    d_output: &MapGradient<Buffer<T>>,
    d_parameters: &mut [T],
    d_input: &mut MapGradient<Buffer<T>>,
) {
    for (plane, g) in d_output.values.chunks(output.shape.pixels()).enumerate() {
        let rows = g.chunks(output.shape.width).map(|row| row.iter().copied().sum::<T>());
        d_parameters[bias.range()][plane % output.shape.channels] += rows.sum();
    }
    let filters = filters(input, output, &parameters[weight.range()]);
    let d_inputs = &mut [Some(InputGradient { gradient: d_input, partial: false })];
    layer::backward(cpu, &[input], filters, output, d_output, &mut d_parameters[weight.range()], d_inputs);
}
