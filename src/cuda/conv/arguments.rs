//! What convolutions hand to their kernels.

use crate::backend::{FeatureMap, MapShape, Span};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::{Buffer, int, statistics};

crate::parameter_struct! {
    /// See kernels/conv_planes.cuh.
    pub struct ConvShape {
        pub first: i32, pub second: i32, pub out: i32, pub height: i32, pub width: i32,
        pub first_height: i32, pub first_width: i32, pub second_height: i32, pub second_width: i32,
    }
}

/// Both inputs as kernels take them; the second may be none.
#[derive(Clone, Copy)]
pub struct Inputs<T> {
    pub shape: ConvShape,
    pub values: [Const<T>; 2],
    pub stats: [Const<f32>; 2],
}

impl<T: Stored> Inputs<T> {
    pub fn of<D: Driver>(inputs: &[&FeatureMap<Buffer<D>>], output: MapShape) -> Self {
        assert!(matches!(inputs.len(), 1 | 2), "a convolution of {} maps", inputs.len());
        for input in inputs.iter().map(|input| input.shape) {
            let fits = |short: usize, full: usize| short == full || short + 1 == full && short > 1;
            assert!(
                input.n == output.n && fits(input.height, output.height) && fits(input.width, output.width),
                "a convolution from {input:?} to {output:?}"
            );
        }
        let shape_of = |i: usize| inputs.get(i).map_or(output.with_channels(0), |input| input.shape);
        let [first, second] = [0, 1].map(shape_of);
        let shape = ConvShape {
            first: int(first.channels),
            second: int(second.channels),
            out: int(output.channels),
            height: int(output.height),
            width: int(output.width),
            first_height: int(first.height),
            first_width: int(first.width),
            second_height: int(second.height),
            second_width: int(second.width),
        };
        let values = |i: usize| {
            inputs.get(i).map_or(Const::null(), |input: &&FeatureMap<_>| input.values.read(input.shape.len()))
        };
        let stats = |i: usize| inputs.get(i).map_or(Const::null(), |input| statistics(input));
        Self { shape, values: [0, 1].map(values), stats: [0, 1].map(stats) }
    }

    /// The same where maps are stored as f32.
    pub fn singles(self) -> Inputs<f32> {
        let Self { shape, values, stats } = self;
        Inputs { shape, values: values.map(Const::singles), stats }
    }
}

/// An input, its statistics where the gradient is to be finished, and where that and its sums go.
#[derive(Clone, Copy)]
pub struct InputPlace<T> {
    pub values: Const<T>,
    pub stats: Const<f32>,
    pub d: Mut<T>,
    pub partial: Mut<f32>,
}

impl<T: Stored> InputPlace<T> {
    /// Of an input that there is not, or whose gradient nobody asks for.
    pub fn none() -> Self {
        Self { values: Const::null(), stats: Const::null(), d: Mut::null(), partial: Mut::null() }
    }

    /// The same where maps are stored as f32.
    pub fn singles(self) -> InputPlace<f32> {
        let Self { values, stats, d, partial } = self;
        InputPlace { values: values.singles(), stats, d: d.singles(), partial }
    }
}

crate::parameter_struct! {
    /// Pixels and channels of the input map, channels of the output map, which is twice as high and wide.
    pub struct Transpose {
        pub inputs: i32,
        pub outputs: i32,
        pub height: i32,
        pub width: i32,
    }
}

/// What a transposed convolution reads forward, and again backward.
#[derive(Clone, Copy)]
pub struct TransposeInput<T> {
    pub values: Const<T>,
    pub stats: Const<f32>,
    pub weight: Const<f32>,
    pub shape: Transpose,
}

impl<T: Stored> TransposeInput<T> {
    pub fn of<D: Driver>(
        input: &FeatureMap<Buffer<D>>,
        parameters: &Buffer<D>,
        weight: Span,
        output: MapShape,
    ) -> Self {
        Self {
            values: input.values.read(input.shape.len()),
            stats: statistics(input),
            weight: parameters.read_from(weight.offset, weight.len),
            shape: transpose(input.shape, output),
        }
    }
}

fn transpose(input: MapShape, output: MapShape) -> Transpose {
    assert_eq!(
        [output.height, output.width],
        [2 * input.height, 2 * input.width],
        "a transposed convolution doubles a map"
    );
    Transpose {
        inputs: int(input.channels),
        outputs: int(output.channels),
        height: int(input.height),
        width: int(input.width),
    }
}
