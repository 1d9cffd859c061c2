//! 2×2 transposed convolution with stride 2: every input pixel makes a 2×2 block, so it is a 1×1 convolution to
//! four times as many planes.

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
    let planes = 4 * output.shape.channels;
    let inputs = input.shape.channels;
    Filters { weights, planes, inputs, radius: 0, plane_stride: 1, input_stride: planes, up: 2 }
}

/// See [`crate::backend::ConvTranspose`].
pub fn conv_transpose<T: Real>(
    cpu: &Cpu<T>,
    input: &FeatureMap<Buffer<T>>,
    parameters: &[T],
    weight: Span,
    output: &mut FeatureMap<Buffer<T>>,
) {
    let filters = filters(input, output, &parameters[weight.range()]);
    layer::forward(cpu, &[input], filters, None, output);
}

/// See [`crate::backend::ConvTransposeBackward`].
#[allow(clippy::too_many_arguments)]
pub fn conv_transpose_backward<T: Real>(
    cpu: &Cpu<T>,
    input: &FeatureMap<Buffer<T>>,
    parameters: &[T],
    weight: Span,
    output: &FeatureMap<Buffer<T>>,
    d_output: &MapGradient<Buffer<T>>,
    d_parameters: &mut [T],
    d_input: &mut MapGradient<Buffer<T>>,
) {
    let filters = filters(input, output, &parameters[weight.range()]);
    let d_inputs = &mut [Some(InputGradient { gradient: d_input, partial: false })];
    layer::backward(cpu, &[input], filters, output, d_output, &mut d_parameters[weight.range()], d_inputs);
}
