//! 3×3 convolution over one or two concatenated maps.

use crate::backend::*;
use crate::cuda::conv_mma::{FilterShape, Makes};
use crate::cuda::driver::{Driver, Launch};
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{
    Buffer, Cuda, announced, blocks, blocks_with, conv_mma, conv_mma_weights, conv_transpose_mma, int, norm,
    partial, reals_for, statistics,
};
use crate::precision::Precision;

// What kernels/conv*.cuh are cut into.
const TILE: usize = 16;
const WARP: usize = 32;
/// Warps of a block that correlates, at most.
const CORRELATE_WARPS: usize = 6;
/// Channels of a group, and threads of a block, of the weight gradient, at most.
const GROUP: usize = 18;
const WEIGHTS_THREADS: usize = 256;
/// Strips of a tile, that the threads of the weight gradient share out among them.
const STRIPS: usize = 32;
const FOLD_THREADS: u32 = 256;

/// Blocks, and warps, that keep every multiprocessor of a large GPU busy.
const ENOUGH_BLOCKS: usize = 264;
const ENOUGH_WARPS: usize = 528;
/// Channels that a map has at most in the upper half of the network, where it is large.
const FEW_CHANNELS: usize = 36;
/// Reals that the parts of a weight gradient may take: 64 MiB.
const MOST_PARTIAL: usize = 16 << 20;

crate::parameter_struct! {
    /// See kernels/conv_planes.cuh.
    pub struct ConvShape {
        pub first: i32, pub second: i32, pub out: i32, pub height: i32, pub width: i32,
        pub first_height: i32, pub first_width: i32, pub second_height: i32, pub second_width: i32,
    }
}

crate::parameter_struct! {
    /// See kernels/conv_weights.cuh.
    pub struct ConvCut {
        pub tiles: i32, pub per_part: i32, pub inputs: i32, pub outputs: i32, pub splits: i32,
    }
}

macro_rules! kernels_by_channels {
    ($($forward:ident, $inputs:ident, $weights:ident;)*) => {
        crate::kernels! {
            $(
                fn $forward(
                    first: Const<f32>, first_stats: Const<f32>, second: Const<f32>, second_stats: Const<f32>,
                    weights: Const<f32>, output: Mut<f32>, partial: Mut<f32>, shape: ConvShape,
                );
                fn $inputs(
                    d_output: Const<f32>, output: Const<f32>, stats: Const<f32>, sums: Const<f32>,
                    weights: Const<f32>,
                    first: Const<f32>, first_stats: Const<f32>, d_first: Mut<f32>, first_partial: Mut<f32>,
                    second: Const<f32>, second_stats: Const<f32>, d_second: Mut<f32>, second_partial: Mut<f32>,
                    shape: ConvShape, begin: i32, end: i32,
                );
                fn $weights(
                    first: Const<f32>, first_stats: Const<f32>, second: Const<f32>, second_stats: Const<f32>,
                    d_output: Const<f32>, output: Const<f32>, stats: Const<f32>, sums: Const<f32>,
                    partial: Mut<f32>, shape: ConvShape, cut: ConvCut,
                );
            )*
            fn conv3x3_fold<T>(
                wide: Const<T>, values: Const<T>, stats: Const<f32>, d: Mut<T>, partial: Mut<f32>,
                height: i32, width: i32, wide_height: i32, wide_width: i32,
            );
        }
    };
}
kernels_by_channels! {
    conv3x3_by2, conv3x3_inputs_by2, conv3x3_weights_by2;
    conv3x3_by6, conv3x3_inputs_by6, conv3x3_weights_by6;
    conv3x3_by8, conv3x3_inputs_by8, conv3x3_weights_by8;
}

/// Channels that a thread holds in registers: there are kernels for so many.
#[derive(Clone, Copy)]
enum By {
    Two = 2,
    Six = 6,
    Eight = 8,
}

impl By {
    /// What makes `channels` with the least work; for each group the pixels are read again, as dear as two channels.
    fn least_work(channels: usize) -> Self {
        let work = |by: By| channels.div_ceil(by as usize) * (by as usize + 2);
        [Self::Eight, Self::Six, Self::Two].into_iter().min_by_key(|&by| work(by)).expect("not empty")
    }
}

fn tiles(map: MapShape) -> usize {
    map.height.div_ceil(TILE) * map.width.div_ceil(TILE)
}

/// The launch that correlates to `channels` channels of maps like `map`.
fn correlation(map: MapShape, channels: usize) -> (By, Launch) {
    let all_tiles = map.n * tiles(map);
    let mut by = By::least_work(channels);
    if channels > FEW_CHANNELS && all_tiles * channels.div_ceil(by as usize) < ENOUGH_WARPS {
        by = By::Two;
    }
    // A block reads its inputs once for all its warps: as many as can be, as long as there are blocks for everybody.
    let groups = channels.div_ceil(by as usize);
    let enough = |warps: usize| all_tiles * groups.div_ceil(warps) >= ENOUGH_BLOCKS;
    let most = (CORRELATE_WARPS / 2..=CORRELATE_WARPS).rev().find(|&warps| enough(warps));
    let rows = groups.div_ceil(most.unwrap_or(CORRELATE_WARPS / 2));
    let warps = groups.div_ceil(rows);
    (by, blocks_with(tiles(map), rows, map.n, (warps * WARP) as u32, 0))
}

/// Both inputs as kernels take them; the second may be none.
struct Inputs<T> {
    shape: ConvShape,
    values: [Const<T>; 2],
    stats: [Const<f32>; 2],
}

impl<T: Stored> Inputs<T> {
    fn of<D: Driver>(inputs: &[&FeatureMap<Buffer<D>>], output: MapShape) -> Self {
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
}

/// See [`crate::backend::Backend::conv3x3`].
pub fn conv3x3<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    inputs: &[&FeatureMap<Buffer<D>>],
    parameters: &Buffer<D>,
    weight: Span,
    output: &mut FeatureMap<Buffer<D>>,
) {
    if cuda.precision() != Precision::Fp32 {
        return forward_mma::<T, D>(cuda, inputs, parameters, weight, output);
    }
    let Inputs { shape, values, stats } = Inputs::of(inputs, output.shape);
    let parts = tiles(output.shape);
    let (by, launch) = correlation(output.shape, output.shape.channels);
    let kernel = match by {
        By::Two => kernel::conv3x3_by2,
        By::Six => kernel::conv3x3_by6,
        By::Eight => kernel::conv3x3_by8,
    };
    let [moments] = cuda.scratch([output.shape.planes() * parts * 3]);
    kernel(
        cuda,
        launch,
        values[0],
        stats[0],
        values[1],
        stats[1],
        parameters.read_from(weight.offset, weight.len),
        output.values.write(output.shape.len()),
        if output.stats.is_some() { moments } else { Mut::null() },
        shape,
    );
    if let Some(stats) = &mut output.stats {
        norm::join_stats(cuda, output.shape, moments.as_const(), parts, stats);
    }
}

/// What a convolution wants made ahead.
pub struct Wants {
    /// On tensor cores, where it multiplies any.
    pub filters: Option<(conv_mma::Cut, FilterShape)>,
    /// Reals of the parts of its weights' gradient.
    pub parts: usize,
}

impl Wants {
    pub fn is_nothing(&self) -> bool {
        self.filters.is_none() && self.parts == 0
    }
}

/// Nothing in float32: without tensor cores filters are taken as they are, and the parts of its gradients are many.
pub fn wants<D: Driver>(cuda: &Cuda<D>, convolution: &Convolution) -> Wants {
    let Convolution { transposed, weight, inputs, output, ref pass } = *convolution;
    let (precision, outs) = (cuda.precision(), output.channels);
    if precision == Precision::Fp32 {
        return Wants { filters: None, parts: 0 };
    }
    if transposed {
        return Wants { filters: None, parts: conv_transpose_mma::parts_len(precision, convolution) };
    }
    match pass {
        Pass::Forward => {
            let cut = conv_mma::Cut::of(precision, Makes::Output, output, inputs, outs);
            let shape = conv_mma::of_output(&cut, inputs, outs);
            Wants { filters: Some((cut, shape)), parts: 0 }
        }
        Pass::Backward(of) => {
            let filters = (!of.is_empty()).then(|| {
                let cut = conv_mma::Cut::of(precision, Makes::InputGradients, output, outs, of.len());
                let shape = conv_mma::of_inputs(&cut, inputs, outs, of);
                (cut, shape)
            });
            Wants { filters, parts: sum_cut(precision, output, inputs).parts() * weight.len }
        }
    }
}

/// The filters of a convolution that was not announced.
fn lay_out_one<D: Driver>(
    cuda: &Cuda<D>,
    weights: Const<f32>,
    filters: Mut<f32>,
    cut: &conv_mma::Cut,
    shape: FilterShape,
) -> Const<u32> {
    let to = filters.words();
    conv_mma::lay_out(cuda, &[conv_mma::Layer { weights, to, shape, words: cut.filters() }]);
    to.as_const()
}

/// The same on tensor cores.
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
    conv_mma::forward(
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

/// How the weight gradient's work is cut, in how many parts, and the launch.
fn weight_cut(output: MapShape, inputs: usize) -> (By, ConvCut, usize, Launch) {
    let by = By::least_work(output.channels);
    let channels_out = by as usize;
    let outputs = output.channels.div_ceil(channels_out).min(GROUP / channels_out) * channels_out;
    let in_groups = inputs.div_ceil(GROUP);
    let in_group = inputs.div_ceil(in_groups);
    let out_groups = output.channels.div_ceil(outputs);

    let pairs = in_group * (outputs / channels_out);
    let splits = (WEIGHTS_THREADS / pairs).min(STRIPS);
    let splits = 1 << splits.ilog2(); // so that each has as many strips

    let all_tiles = output.n * tiles(output);
    let wanted = (2 * ENOUGH_BLOCKS).div_ceil(in_groups * out_groups);
    let room = (MOST_PARTIAL / (output.channels * inputs * 9)).max(1);
    let per_part = (all_tiles / wanted).max(all_tiles.div_ceil(room)).max(1);
    let parts = all_tiles.div_ceil(per_part);
    let cut = ConvCut {
        tiles: int(all_tiles),
        per_part: int(per_part),
        inputs: int(in_group),
        outputs: int(outputs),
        splits: int(splits),
    };
    let threads = (pairs * splits).next_multiple_of(WARP) as u32;
    (by, cut, parts, blocks_with(parts, in_groups, out_groups, threads, 0))
}

/// How the weight gradient is made: on tensor cores, or else as `ConvCut` says.
enum SumCut {
    Mma(conv_mma_weights::Cut),
    Plain(By, ConvCut, usize, Launch),
}

impl SumCut {
    fn parts(&self) -> usize {
        match self {
            Self::Mma(cut) => cut.parts,
            Self::Plain(_, _, parts, _) => *parts,
        }
    }
}

fn sum_cut(precision: Precision, output: MapShape, inputs: usize) -> SumCut {
    if precision == Precision::Fp32 {
        let (by, cut, parts, launch) = weight_cut(output, inputs);
        SumCut::Plain(by, cut, parts, launch)
    } else {
        SumCut::Mma(conv_mma_weights::Cut::of(precision, output, inputs))
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

/// See [`crate::backend::Backend::conv3x3_backward`].
#[allow(clippy::too_many_arguments)]
pub fn conv3x3_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    inputs: &[&FeatureMap<Buffer<D>>],
    parameters: &Buffer<D>,
    weight: Span,
    output: &FeatureMap<Buffer<D>>,
    d_output: &MapGradient<Buffer<D>>,
    d_parameters: &mut Buffer<D>,
    d_inputs: &mut [Option<InputGradient<'_, Buffer<D>>>],
) {
    let map = output.shape;
    let Inputs { shape, values, stats } = Inputs::<T>::of(inputs, map);
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
    let tiles = mma.as_ref().map_or(tiles(map), |(cut, _)| cut.tiles);
    let mut places = inputs.iter().zip(d_inputs).map(|(input, place)| Place::of(input, map, tiles, place));
    let mut places = [places.next().flatten(), places.next().flatten()];
    let [first, second] = [0, 1].map(|i| places[i].as_ref().map_or([0; 2], |place| place.scratch(map)));

    let weights = parameters.read_from(weight.offset, weight.len);
    let ahead = announced::take(cuda, weights, &convolution);
    let own = |len: usize| if ahead.is_some() { 0 } else { len };
    let sum_cut = sum_cut(cuda.precision(), map, channels);
    let parts = sum_cut.parts();
    let of_filters = mma.as_ref().map_or(0, |(cut, _)| cut.filters());
    let [d_weights, first_sums, first_wide, second_sums, second_wide, filters] =
        cuda.scratch([own(parts * weight.len), first[0], first[1], second[0], second[1], own(of_filters)]);
    let d_weights = ahead.map_or(d_weights, |ahead| ahead.parts);
    let partial_sums = [first_sums, second_sums];
    let wide = [first_wide, second_wide].map(Mut::stored::<T>);

    let gradient = OutputGradient::<T>::of(output, d_output);
    match sum_cut {
        SumCut::Mma(cut) => {
            let from = [0, 1].map(|i| (values[i], stats[i]));
            let sum = || conv_mma_weights::weight_gradient(cuda, &cut, from, gradient, d_weights, shape);
            // Nobody waits for an announced one until all are there.
            if ahead.is_some() { cuda.beside(sum) } else { sum() }
        }
        SumCut::Plain(by, cut, _, launch) => {
            let kernel = match by {
                By::Two => kernel::conv3x3_weights_by2,
                By::Six => kernel::conv3x3_weights_by6,
                By::Eight => kernel::conv3x3_weights_by8,
            };
            kernel(
                cuda,
                launch,
                values[0].singles(),
                stats[0],
                values[1].singles(),
                stats[1],
                gradient.d.singles(),
                gradient.output.singles(),
                gradient.stats,
                gradient.sums,
                d_weights,
                shape,
                cut,
            );
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
        if let Some((cut, filters_shape)) = &mma {
            let filters = ahead.map_or_else(
                || lay_out_one(cuda, weights, filters, cut, *filters_shape),
                |ahead| ahead.filters,
            );
            let to = [0, 1].map(|i| conv_mma::InputPlace {
                values: if finish_stats(i).is_null() { Const::null() } else { values[i] },
                stats: finish_stats(i),
                d: to(i),
                partial: partial_sums[i],
            });
            conv_mma::input_gradients(cuda, cut, map.n, gradient, filters, to, shape, [begin, end]);
        } else {
            let (by, launch) = correlation(map, (end - begin) as usize);
            let kernel = match by {
                By::Two => kernel::conv3x3_inputs_by2,
                By::Six => kernel::conv3x3_inputs_by6,
                By::Eight => kernel::conv3x3_inputs_by8,
            };
            kernel(
                cuda,
                launch,
                gradient.d.singles(),
                gradient.output.singles(),
                gradient.stats,
                gradient.sums,
                weights,
                values[0].singles(),
                finish_stats(0),
                to(0).singles(),
                partial_sums[0],
                values[1].singles(),
                finish_stats(1),
                to(1).singles(),
                partial_sums[1],
                shape,
                begin,
                end,
            );
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
