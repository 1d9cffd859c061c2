//! 3×3 convolution over one or two concatenated maps.

use crate::backend::{FeatureMap, InputGradient, MapGradient, Span};
use crate::cpu::Cpu;
use crate::cpu::buffer::Buffer;
use crate::cpu::layer::{self, Filters};
use crate::real::Real;

fn filters<'a, T>(
    inputs: &[&FeatureMap<Buffer<T>>],
    output: &FeatureMap<Buffer<T>>,
    weights: &'a [T],
) -> Filters<'a, T> {
    let inputs = inputs.iter().map(|i| i.shape.channels).sum();
    let planes = output.shape.channels;
    Filters { weights, planes, inputs, radius: 1, plane_stride: inputs * 9, input_stride: 9, up: 1 }
}

/// See [`crate::backend::Conv3x3`].
pub fn conv3x3<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Buffer<T>>],
    parameters: &[T],
    weight: Span,
    output: &mut FeatureMap<Buffer<T>>,
) {
    let filters = filters(inputs, output, &parameters[weight.range()]);
    layer::forward(cpu, inputs, filters, None, output);
}

/// See [`crate::backend::Conv3x3Backward`].
#[allow(clippy::too_many_arguments)]
pub fn conv3x3_backward<T: Real>(
    cpu: &Cpu<T>,
    inputs: &[&FeatureMap<Buffer<T>>],
    parameters: &[T],
    weight: Span,
    output: &FeatureMap<Buffer<T>>,
    d_output: &MapGradient<Buffer<T>>,
    d_parameters: &mut [T],
    d_inputs: &mut [Option<InputGradient<'_, Buffer<T>>>],
) {
    let filters = filters(inputs, output, &parameters[weight.range()]);
    layer::backward(cpu, inputs, filters, output, d_output, &mut d_parameters[weight.range()], d_inputs);
}
