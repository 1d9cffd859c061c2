//! How long each tiling of a convolution takes on this device: alone, with maps that are in no cache unless they are small.
//! What a step makes of that is another question: there gradients of filters run beside others, maps that were just written
//! may still be in a cache, and parts that a tiling has more of are joined afterwards. Every problem is timed with one input
//! that has statistics.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::backend::{Backend, Memory, Purpose};
use crate::cuda::conv::arguments::{ConvShape, InputPlace};
use crate::cuda::conv::arguments::{Transpose, TransposeInput};
use crate::cuda::conv::mma::{BANDWIDTH, CLOCK};
use crate::cuda::conv::problem::{Kind, Makes, Problem};
use crate::cuda::conv::tilings::{Tiled, Tilings};
use crate::cuda::conv::{mma, transpose_mma};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Buffer, Cuda, Tape, int};
use crate::error::Result;
use crate::median::median;

/// Maps begin where every kernel's widest load may.
const ALIGNED: usize = 128;

/// A tiling, and what it takes.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    pub tiling: String,
    /// Of an H100, by its model.
    pub predicted_seconds: f64,
    /// The median.
    pub seconds: f64,
}

/// The tilings of a problem that are launches of their own.
#[derive(Clone, Debug, Serialize)]
pub struct Timings {
    /// What the model chooses.
    pub by_model: String,
    /// What the device uses now comes first.
    pub tilings: Vec<Timed>,
}

/// How often problems are timed.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    /// Launches that are recorded together.
    pub launches: usize,
    /// How often they are replayed: once at the least.
    pub replays: usize,
    /// Seconds of work before the first is timed: an idle GPU takes a while to reach its clock.
    pub warm_up: f64,
    /// Bytes that launches take turns with, at least.
    pub bytes: usize,
}

/// Memory that launches take turns with, so that none finds what the one before it left in a cache.
struct Pool<D: Driver> {
    buffer: Buffer<D>,
    taken: usize,
}

impl<D: Driver> Pool<D> {
    fn new(buffer: Buffer<D>) -> Self {
        Self { buffer, taken: 0 }
    }

    /// Where the next so many begin.
    fn next(&mut self, len: usize) -> usize {
        let at = if self.taken + len > self.buffer.len() { 0 } else { self.taken };
        self.taken = (at + len).next_multiple_of(ALIGNED);
        at
    }

    fn read<T: Stored>(&mut self, len: usize) -> Const<T> {
        let at = self.next(len);
        self.buffer.read_from(at, len)
    }

    fn write<T: Stored>(&mut self, len: usize) -> Mut<T> {
        let at = self.next(len);
        self.buffer.write_from(at, len)
    }
}

/// What problems are timed with. Values are uniform in −1 to 1: what is computed from them means nothing.
pub struct Bench<'c, D: Driver> {
    cuda: &'c Cuda<D>,
    repeats: Repeats,
    /// Seconds that the device is still to work before anything is timed.
    cold: f64,
    /// Of maps, and of statistics, sums and weights.
    maps: Pool<D>,
    reals: Pool<D>,
    made_maps: Pool<D>,
    made_reals: Pool<D>,
}

/// Values of the largest of a problem's maps, statistics, filters and parts, where those of its filters' gradient are left
/// out.
fn needs(problem: &Problem) -> usize {
    let &Problem { from, to, n, height, width, .. } = problem;
    let map = 4 * n * height * width * from.max(to);
    // In groups of up to 40 channels and steps of 8.
    map.max(9 * (from + 8) * (to + 40))
}

impl<'c, D: Driver> Bench<'c, D> {
    /// Memory for these problems.
    pub fn new<'p>(
        cuda: &'c Cuda<D>,
        problems: impl IntoIterator<Item = &'p Problem>,
        repeats: Repeats,
    ) -> Self {
        let most = problems.into_iter().map(needs).max().unwrap_or(0);
        let len = most.max(repeats.bytes / size_of::<f32>());
        let len = len.next_multiple_of(ALIGNED);
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let values: Vec<f32> = (0..len).map(|_| random.random_range(-1.0..1.0)).collect();
        let filled = |mut buffer: Buffer<D>| {
            cuda.upload(&values, &mut buffer);
            Pool::new(buffer)
        };
        // Parts of a gradient of filters take no more than this either.
        let parts = len.max(mma::weights::MOST_PARTIAL);
        Self {
            cuda,
            repeats,
            cold: repeats.warm_up,
            maps: filled(cuda.map(Purpose::Scratch, len)),
            reals: filled(cuda.zeros(Purpose::Scratch, len)),
            made_maps: Pool::new(cuda.map(Purpose::Scratch, len)),
            made_reals: Pool::new(cuda.zeros(Purpose::Scratch, parts)),
        }
    }

    /// Every tiling of a problem.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn time<T: Stored>(&mut self, problem: &Problem) -> Result<Timings> {
        match problem.kind {
            Kind::Conv3x3(makes) => self.conv3x3::<T>(problem, makes),
            Kind::Filters => self.filters::<T>(problem),
            Kind::Transposed(makes) => self.transposed::<T>(problem, makes),
        }
    }

    /// What is in use, and what the models alone choose.
    fn chosen<C>(&self, of: impl Fn(&Tilings) -> C) -> [C; 2] {
        [of(self.cuda.tilings()), of(&Tilings::default())]
    }

    fn conv3x3<T: Stored>(&mut self, problem: &Problem, makes: Makes) -> Result<Timings> {
        let &Problem { from, to, n, .. } = problem;
        let (map, precision) = (problem.map(to), self.cuda.precision());
        let chosen = self.chosen(|tilings| mma::Cut::of(tilings, precision, makes, map, from, to));
        let all = mma::Cut::all(precision, makes, map, from, to);
        let forward = |bench: &mut Self, cut: &mma::Cut| {
            let inputs = [bench.input::<T>(problem, from), (Const::null(), Const::null())];
            let filters = bench.words(cut.filters());
            let (made, moments) = bench.made(map.len(), 3 * n * to * cut.tiles);
            let shape = one_input(problem, from, to);
            mma::forward(bench.cuda, cut, n, inputs, filters, made, moments, shape);
        };
        let inputs = |bench: &mut Self, cut: &mma::Cut| {
            let gradient = bench.gradient::<T>(problem, from);
            let filters = bench.words(cut.filters());
            let (values, stats) = bench.input(problem, to);
            let (d, partial) = bench.made(map.len(), 2 * n * to * cut.tiles);
            let places = [InputPlace { values, stats, d, partial }, InputPlace::none()];
            let (shape, channels) = (one_input(problem, to, from), [0, int(to)]);
            mma::input_gradients(bench.cuda, cut, n, gradient, filters, places, shape, channels);
        };
        match makes {
            Makes::Output => self.each(problem, chosen, all, |cut| cut.clocks, forward),
            Makes::InputGradients => self.each(problem, chosen, all, |cut| cut.clocks, inputs),
        }
    }

    fn filters<T: Stored>(&mut self, problem: &Problem) -> Result<Timings> {
        let &Problem { from, to, .. } = problem;
        let (map, precision) = (problem.map(to), self.cuda.precision());
        let chosen = self.chosen(|tilings| mma::weights::Cut::of(tilings, precision, map, from));
        let all = mma::weights::Cut::all(precision, map, from);
        let launch = |bench: &mut Self, cut: &mma::weights::Cut| {
            let inputs = [bench.input::<T>(problem, from), (Const::null(), Const::null())];
            let gradient = bench.gradient(problem, to);
            let partial = bench.made_reals.write(cut.parts * from * to * 9);
            let shape = one_input(problem, from, to);
            mma::weights::weight_gradient(bench.cuda, cut, inputs, gradient, partial, shape);
        };
        self.each(problem, chosen, all, |cut| cut.clocks(precision), launch)
    }

    fn transposed<T: Stored>(&mut self, problem: &Problem, makes: Makes) -> Result<Timings> {
        let &Problem { from, to, n, height, width, .. } = problem;
        let [inputs, outputs] = if makes == Makes::Output { [from, to] } else { [to, from] };
        let twice = Problem { height: 2 * height, width: 2 * width, ..*problem };
        let (map, precision) = (problem.map(inputs), self.cuda.precision());
        let chosen = self.chosen(|tilings| transpose_mma::Cut::of(tilings, precision, makes, map, outputs));
        let all = transpose_mma::Cut::all(precision, makes, map, outputs);
        let [of_inputs, of_outputs, height, width] = [inputs, outputs, height, width].map(int);
        let shape = Transpose { inputs: of_inputs, outputs: of_outputs, height, width };
        let input = |bench: &mut Self| {
            let (values, stats) = bench.input::<T>(problem, inputs);
            TransposeInput { values, stats, weight: bench.reals.read(inputs * outputs * 4), shape }
        };
        let forward = |bench: &mut Self, cut: &transpose_mma::Cut| {
            let input = input(bench);
            let (made, partial) = bench.made(twice.map(outputs).len(), 3 * n * outputs * cut.parts);
            transpose_mma::forward(bench.cuda, cut, n, input, made, partial);
        };
        let gradient = |bench: &mut Self, cut: &transpose_mma::Cut| {
            let (input, gradient) = (input(bench), bench.gradient(&twice, outputs));
            let (made, partial) = bench.made(map.len(), 2 * n * inputs * cut.parts);
            transpose_mma::input_gradient(bench.cuda, cut, n, input, gradient, made, partial);
        };
        match makes {
            Makes::Output => self.each(problem, chosen, all, |cut| cut.clocks, forward),
            Makes::InputGradients => self.each(problem, chosen, all, |cut| cut.clocks, gradient),
        }
    }

    /// Times each of `all`: first what is in use, of the two that are chosen.
    fn each<C: Tiled>(
        &mut self,
        problem: &Problem,
        [used, by_model]: [C; 2],
        all: impl Iterator<Item = C>,
        clocks: impl Fn(&C) -> f64,
        launch: impl Fn(&mut Self, &C),
    ) -> Result<Timings> {
        let mut tilings = vec![used];
        for tiling in all {
            if !tilings.iter().any(|other| other.launches_as(&tiling)) {
                tilings.push(tiling);
            }
        }
        let mut seconds = self.medians(&tilings, &launch)?;
        // The least of many is the least by chance, too: that one again, against what is in use.
        let quickest =
            (0..tilings.len()).min_by(|&a, &b| seconds[a].total_cmp(&seconds[b])).expect("not empty");
        if quickest > 0 {
            let again = self.medians(&[tilings[0].clone(), tilings[quickest].clone()], &launch)?;
            [seconds[0], seconds[quickest]] = [again[0], again[1]];
        }
        let bytes = (self.cuda.precision().map_bytes() * problem.values()) as f64;
        let timed = |(tiling, seconds): (&C, f64)| Timed {
            tiling: tiling.name(),
            predicted_seconds: (clocks(tiling) / CLOCK).max(bytes / BANDWIDTH),
            seconds,
        };
        Ok(Timings { by_model: by_model.name(), tilings: tilings.iter().zip(seconds).map(timed).collect() })
    }

    /// Median seconds of a launch of each, by turns.
    fn medians<C>(&mut self, tilings: &[C], launch: impl Fn(&mut Self, &C)) -> Result<Vec<f64>> {
        let cuda = self.cuda;
        let Repeats { launches, replays, .. } = self.repeats;
        let mut tapes: Vec<Tape<D>> = tilings.iter().map(|_| Tape::default()).collect();
        let mut seconds = vec![Vec::new(); tilings.len()];
        let mut cold = std::mem::take(&mut self.cold);
        let mut replay = |at: usize, tape: &mut Tape<D>| {
            cuda.repeat(tape, || (0..launches).for_each(|_| launch(self, &tilings[at])));
        };
        // Carried out once, then recorded.
        for (at, tape) in tapes.iter_mut().enumerate() {
            replay(at, tape);
            replay(at, tape);
        }
        while cold > 0.0 {
            let before = cuda.mark();
            tapes.iter_mut().enumerate().for_each(|(at, tape)| replay(at, tape));
            let after = cuda.mark();
            cuda.finish()?;
            cold -= cuda.seconds(&before, &after);
        }
        for round in 0..replays {
            for turn in 0..tilings.len() {
                // Nobody comes first each time, and the launch of what is timed is waited for by nobody.
                let at = (round + turn) % tilings.len();
                replay(at, &mut tapes[at]);
                let before = cuda.mark();
                replay(at, &mut tapes[at]);
                let after = cuda.mark();
                cuda.finish()?;
                seconds[at].push(cuda.seconds(&before, &after) / launches as f64);
            }
        }
        Ok(seconds.iter().map(|seconds| median(seconds).expect("replayed once at the least")).collect())
    }

    fn input<T: Stored>(&mut self, problem: &Problem, channels: usize) -> (Const<T>, Const<f32>) {
        let map = problem.map(channels);
        (self.maps.read(map.len()), self.reals.read(2 * map.planes()))
    }

    fn gradient<T: Stored>(&mut self, problem: &Problem, channels: usize) -> OutputGradient<T> {
        let (output, stats) = self.input(problem, channels);
        let (d, sums) = self.input(problem, channels);
        OutputGradient { d, output, stats, sums }
    }

    /// As filters are laid out: a real, or two values of a map.
    fn words(&mut self, words: usize) -> Const<u32> {
        let values = words * mma::pack(self.cuda.precision());
        let at = self.maps.next(values);
        Const::at(self.maps.buffer.address_of(at, values))
    }

    fn made<T: Stored>(&mut self, map: usize, parts: usize) -> (Mut<T>, Mut<f32>) {
        (self.made_maps.write(map), self.made_reals.write(parts))
    }
}

fn one_input(problem: &Problem, inputs: usize, outputs: usize) -> ConvShape {
    let [height, width] = [problem.height, problem.width].map(int);
    ConvShape {
        first: int(inputs),
        second: 0,
        out: int(outputs),
        height,
        width,
        first_height: height,
        first_width: width,
        second_height: height,
        second_width: width,
    }
}
