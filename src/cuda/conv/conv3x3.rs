//! 3×3 convolution over one or two concatenated maps.

use crate::backend::*;
use crate::cuda::conv::arguments::{InputPlace, Inputs};
use crate::cuda::conv::mma::FilterShape;
use crate::cuda::conv::wants::{FiltersCut, wants};
use crate::cuda::conv::{announced, mma, plain};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Buffer, Cuda, blocks, int, norm, partial, reals_for, statistics};
use crate::precision::Precision;

/// As in kernels/conv.cu.
const FOLD_THREADS: u32 = 256;

crate::kernels! {
    fn conv3x3_fold<T>(
        wide: Const<T>, values: Const<T>, stats: Const<f32>, d: Mut<T>, partial: Mut<f32>,
        height: i32, width: i32, wide_height: i32, wide_width: i32,
    );
}

/// See [`crate::backend::Conv3x3`].
pub fn conv3x3<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    Conv3x3 { inputs, parameters, weight, output }: Conv3x3<'_, Buffer<D>>,
) {
    if cuda.precision() != Precision::Fp32 {
        return forward_mma::<T, D>(cuda, inputs, parameters, weight, output);
    }
    let map = output.shape;
    let parts = plain::tiles(map);
    let [moments] = cuda.scratch([map.planes() * parts * 3]);
    plain::forward(
        cuda,
        map,
        Inputs::of(inputs, map),
        parameters.read_from(weight.offset, weight.len),
        output.values.write(map.len()),
        if output.stats.is_some() { moments } else { Mut::null() },
    );
    if let Some(stats) = &mut output.stats {
        norm::join_stats(cuda, map, moments.as_const(), parts, stats);
    }
}

/// The filters of a convolution that was not announced.
fn lay_out_one<D: Driver>(
    cuda: &Cuda<D>,
    weights: Const<f32>,
    filters: Mut<f32>,
    cut: &mma::Cut,
    shape: FilterShape,
) -> Const<u32> {
    let to = filters.words();
    mma::lay_out(cuda, &[mma::Layer { weights, to, shape, words: cut.filters() }]);
    to.as_const()
}

/// [`conv3x3`] on tensor cores.
fn forward_mma<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    inputs: &[&FeatureMap<Buffer<D>>],
    parameters: &Buffer<D>,
    weight: Span,
    output: &mut FeatureMap<Buffer<D>>,
) {
    let map = output.shape;
    let Inputs { shape, values, stats } = Inputs::<T>::of(inputs, map);
    let convolution = Convolution {
        transposed: false,
        weight,
        inputs: (shape.first + shape.second) as usize,
        output: map,
        pass: Pass::Forward,
    };
    let weights = parameters.read_from(weight.offset, weight.len);
    let (cut, filters_shape) = wants(cuda, &convolution).filters.expect("tensor cores take filters");
    let ahead = announced::take(cuda, weights, &convolution);
    let own = if ahead.is_some() { 0 } else { cut.filters() };
    let [moments, filters] = cuda.scratch([map.planes() * cut.tiles * 3, own]);
    let filters =
        ahead.map_or_else(|| lay_out_one(cuda, weights, filters, &cut, filters_shape), |ahead| ahead.filters);
    mma::forward(
        cuda,
        &cut,
        map.n,
        [0, 1].map(|i| (values[i], stats[i])),
        filters,
        output.values.write(map.len()),
        if output.stats.is_some() { moments } else { Mut::null() },
        shape,
    );
    if let Some(stats) = &mut output.stats {
        norm::join_stats(cuda, map, moments.as_const(), cut.tiles, stats);
    }
}

/// Where the gradient of one input goes.
struct Place<'g, T, D: Driver> {
    input: MapShape,
    values: Const<T>,
    /// Null where the gradient is not to be finished.
    stats: Const<f32>,
    d: Mut<T>,
    sums: Option<&'g mut Buffer<D>>,
    /// The input lacks a row or column.
    short: bool,
    /// Parts that the sums are made in: of tiles, or of what folds.
    parts: usize,
}

impl<'g, T: Stored, D: Driver> Place<'g, T, D> {
    fn of(
        input: &FeatureMap<Buffer<D>>,
        output: MapShape,
        tiles: usize,
        place: &'g mut Option<InputGradient<'_, Buffer<D>>>,
    ) -> Option<Self> {
        let InputGradient { gradient, partial } = place.as_mut()?;
        let shape = input.shape;
        let finish = !*partial && input.stats.is_some();
        let short = shape.pixels() != output.pixels();
        Some(Self {
            input: shape,
            values: input.values.read(shape.len()),
            stats: if finish { statistics(input) } else { Const::null() },
            d: gradient.values.write(shape.len()),
            sums: gradient.sums.as_mut().filter(|_| finish),
            short,
            parts: if short { shape.pixels().div_ceil(4 * FOLD_THREADS as usize) } else { tiles },
        })
    }

    /// Reals of working memory: partial sums, and the gradient on the output's grid.
    fn scratch(&self, output: MapShape) -> [usize; 2] {
        let planes = self.input.planes();
        [planes * self.parts * 2, if self.short { reals_for::<T>(planes * output.pixels()) } else { 0 }]
    }
}

/// See [`crate::backend::Conv3x3Backward`].
pub fn conv3x3_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    Conv3x3Backward { inputs, parameters, weight, output, d_output, d_parameters, d_inputs }: Conv3x3Backward<
        '_,
        Buffer<D>,
    >,
) {
    let map = output.shape;
    let from = Inputs::<T>::of(inputs, map);
    let Inputs { shape, values, stats } = from;
    let channels = (shape.first + shape.second) as usize;
    // The channels that somebody asks for are consecutive.
    let asked = |i: usize| d_inputs.get(i).is_some_and(Option::is_some);
    let begin = if asked(0) { 0 } else { shape.first };
    let end = if asked(1) { shape.first + shape.second } else { shape.first };
    let convolution = Convolution {
        transposed: false,
        weight,
        inputs: channels,
        output: map,
        pass: Pass::Backward(if begin < end { begin as usize..end as usize } else { 0..0 }),
    };
    let mma = wants(cuda, &convolution).filters;
    let tiles = mma.as_ref().map_or(plain::tiles(map), |(cut, _)| cut.tiles);
    let mut places = inputs.iter().zip(d_inputs).map(|(input, place)| Place::of(input, map, tiles, place));
    let mut places = [places.next().flatten(), places.next().flatten()];
    let [first, second] = [0, 1].map(|i| places[i].as_ref().map_or([0; 2], |place| place.scratch(map)));

    let weights = parameters.read_from(weight.offset, weight.len);
    let ahead = announced::take(cuda, weights, &convolution);
    let own = |len: usize| if ahead.is_some() { 0 } else { len };
    let sum_cut = FiltersCut::of(cuda, map, channels);
    let parts = sum_cut.parts();
    let of_filters = mma.as_ref().map_or(0, |(cut, _)| cut.filters());
    let [d_weights, first_sums, first_wide, second_sums, second_wide, filters] =
        cuda.scratch([own(parts * weight.len), first[0], first[1], second[0], second[1], own(of_filters)]);
    let d_weights = ahead.map_or(d_weights, |ahead| ahead.parts);
    let partial_sums = [first_sums, second_sums];
    let wide = [first_wide, second_wide].map(Mut::stored::<T>);

    let gradient = OutputGradient::<T>::of(output, d_output);
    match sum_cut {
        FiltersCut::Mma(cut) => {
            let pairs = [0, 1].map(|i| (values[i], stats[i]));
            let sum = || mma::weights::weight_gradient(cuda, &cut, pairs, gradient, d_weights, shape);
            // Nobody waits for an announced one until all are there.
            if ahead.is_some() { cuda.beside(sum) } else { sum() }
        }
        FiltersCut::Plain(cut) => {
            plain::weight_gradient(cuda, cut, from.singles(), gradient.singles(), d_weights);
        }
    }

    if begin < end {
        // What is folded is finished then.
        let finish_stats = |i: usize| {
            places[i].as_ref().filter(|place| !place.short).map_or(Const::null(), |place| place.stats)
        };
        let to = |i: usize| {
            places[i].as_ref().map_or(Mut::null(), |place| if place.short { wide[i] } else { place.d })
        };
        let to = [0, 1].map(|i| InputPlace {
            values: if finish_stats(i).is_null() { Const::null() } else { values[i] },
            stats: finish_stats(i),
            d: to(i),
            partial: partial_sums[i],
        });
        if let Some((cut, filters_shape)) = &mma {
            let filters = ahead.map_or_else(
                || lay_out_one(cuda, weights, filters, cut, *filters_shape),
                |ahead| ahead.filters,
            );
            mma::input_gradients(cuda, cut, map.n, gradient, filters, to, shape, [begin, end]);
        } else {
            let to = to.map(InputPlace::singles);
            plain::input_gradients(cuda, map, gradient.singles(), weights, to, shape, [begin, end]);
        }
        for (i, place) in places.iter_mut().enumerate() {
            let Some(place) = place else { continue };
            if place.short {
                kernel::conv3x3_fold::<T, D>(
                    cuda,
                    blocks(place.input.planes(), place.parts, FOLD_THREADS),
                    wide[i].as_const(),
                    place.values,
                    place.stats,
                    place.d,
                    partial_sums[i],
                    int(place.input.height),
                    int(place.input.width),
                    shape.height,
                    shape.width,
                );
            }
            if let Some(sums) = &mut place.sums {
                norm::join_sums(cuda, place.input, partial_sums[i].as_const(), place.parts, sums);
            }
        }
    }
    if ahead.is_some() {
        announced::owe(cuda, weight, d_weights.as_const(), parts, d_parameters);
    } else {
        let d_weight = d_parameters.write_from(weight.offset, weight.len);
        partial::add(cuda, d_weights.as_const(), d_weight, parts, weight.len);
    }
}
