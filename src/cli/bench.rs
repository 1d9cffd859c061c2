//! `kerase bench`: how long a training step and an inference take on this machine.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::args::DeviceArgs;
use super::output::{print, print_json};
use crate::backend::{Backend, ImageShape, LossWeights, Update};
use crate::batch::{Batch, Reference};
use crate::device::{Device, Work};
use crate::engine::{Engine, Objective};
use crate::error::{Error, Result};
use crate::metrics::SSIM_WINDOW;
use crate::model::Architecture;
use crate::precision::Precision;
use num_complex::Complex32;

const EXAMPLE: &str = "\
Example:
  kerase bench --step --cascades 4 --chans 8 --pools 3 --sens-chans 4 --sens-pools 3 \\
      --coils 4 --height 128 --width 128
  kerase bench --step --mode train --json      the paper's network on 16 coils, 640 x 368

scripts/bench_pytorch.py --alternate 'kerase bench --step --json' times PyTorch in turn with it.";

/// Times a training step and inference on random data
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Time whole steps of a network: what is timed without this, too
    #[arg(long)]
    step: bool,

    /// What to time. The memory that is reported is that of the more demanding of the two
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,

    /// Timed repetitions, after one that is not
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iters: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Train with little memory: feature maps are computed again in the backward pass
    #[arg(long)]
    low_memory: bool,

    #[command(flatten)]
    network: Network,

    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Train,
    Inference,
    Both,
}

/// Network and slice; the defaults are the paper's network on a fastMRI brain slice.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Network and slice")]
struct Network {
    #[arg(long, default_value_t = 12)]
    cascades: usize,
    #[arg(long, default_value_t = 18)]
    chans: usize,
    #[arg(long, default_value_t = 4)]
    pools: usize,
    #[arg(long, default_value_t = 8)]
    sens_chans: usize,
    #[arg(long, default_value_t = 4)]
    sens_pools: usize,
    #[arg(long, default_value_t = 16)]
    coils: usize,
    /// Rows of k-space
    #[arg(long, default_value_t = 640)]
    height: usize,
    /// Columns of k-space, which are undersampled
    #[arg(long, default_value_t = 368)]
    width: usize,
}

/// What was measured. What was not is absent.
#[derive(Serialize)]
struct Report {
    program: String,
    device: String,
    precision: Precision,
    #[serde(flatten)]
    architecture: Architecture,
    coils: usize,
    height: usize,
    width: usize,
    parameters: usize,
    iters: u32,
    low_memory: bool,
    /// Of the convolutions of one forward pass, a multiply-add counted as two.
    forward_convolution_gflop: f64,
    #[serde(flatten)]
    inference: Option<InferenceTimes>,
    #[serde(flatten)]
    train: Option<TrainTimes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_mb: Option<f64>,
}

#[derive(Clone, Copy, Serialize)]
struct InferenceTimes {
    #[serde(rename = "inference_seconds")]
    median: f64,
    #[serde(rename = "inference_seconds_min")]
    min: f64,
}

#[derive(Clone, Copy, Serialize)]
struct TrainTimes {
    #[serde(rename = "train_seconds")]
    median: f64,
    #[serde(rename = "train_seconds_min")]
    min: f64,
}

impl Args {
    /// # Errors
    /// A network or slice that is impossible.
    pub fn run(self) -> Result<()> {
        let problem = Problem::new(self.network)?;
        let device = self.device.start()?;
        let report = device.run(Measurement { args: &self, device, problem })??;
        if self.json { print_json(&report) } else { print(report) }
    }
}

/// What is to be measured, and where.
struct Measurement<'a> {
    args: &'a Args,
    device: Device,
    problem: Problem,
}

impl Work for Measurement<'_> {
    type Output = Result<Report>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Self { args: &Args { mode, iters, low_memory, .. }, device, problem } = self;
        let parameters = problem.architecture.initial_parameters(0);
        // Inference first: the peak of memory only ever rises, and training needs the most.
        let inference = (mode != Mode::Train)
            .then(|| -> Result<_> {
                let mut engine = Engine::new(ops, problem.architecture, &parameters)?;
                let [median, min] = times(iters, || engine.reconstruct(&problem.batch).map(drop))?;
                Ok(InferenceTimes { median, min })
            })
            .transpose()?;
        let train = (mode != Mode::Inference)
            .then(|| -> Result<_> {
                let mut engine =
                    Engine::for_training(ops, problem.architecture, &parameters)?.recomputing(low_memory);
                let [median, min] = times(iters, || problem.train(&mut engine))?;
                Ok(TrainTimes { median, min })
            })
            .transpose()?;
        let ImageShape { coils, rows, columns, .. } = problem.batch.shape;
        Ok(Report {
            program: format!("kerase {}", env!("CARGO_PKG_VERSION")),
            device: format!("{device}, {} threads", rayon::current_num_threads()),
            precision: device.precision(),
            architecture: problem.architecture,
            coils,
            height: rows,
            width: columns,
            parameters: parameters.len(),
            iters,
            low_memory,
            forward_convolution_gflop: convolution_flop(problem.architecture, problem.batch.shape) / 1e9,
            inference,
            train,
            peak_rss_mb: peak_rss_mb(),
        })
    }
}

/// Median and minimum of the seconds that `run` takes, the first time left out.
fn times(iterations: u32, mut run: impl FnMut() -> Result<()>) -> Result<[f64; 2]> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..iterations {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    let median =
        if seconds.len() % 2 == 1 { seconds[middle] } else { (seconds[middle - 1] + seconds[middle]) / 2.0 };
    Ok([median, seconds[0]])
}

/// A network and one slice for it.
struct Problem {
    architecture: Architecture,
    batch: Batch,
    reference: Reference,
}

impl Problem {
    /// Noise, a mask of every 8th column and the centre, and a target: values do not change the time, but denormals and
    /// NaN would. The same slice as in scripts/bench_pytorch.py.
    fn new(network: Network) -> Result<Self> {
        let Network { cascades, chans, pools, sens_chans, sens_pools, coils, height, width } = network;
        let architecture = Architecture { cascades, chans, pools, sens_chans, sens_pools };
        architecture.check()?;
        if coils == 0 || height < SSIM_WINDOW || width < SSIM_WINDOW {
            return Err(Error::input(format!(
                "--coils {coils} --height {height} --width {width}: expected at least 1 coil and \
                 {SSIM_WINDOW} x {SSIM_WINDOW} samples"
            )));
        }
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut noise = || 1e-4 * random.random_range(-1.0f32..1.0);
        let low = (0.04 * width as f64).round().max(1.0) as usize;
        let centre: Vec<bool> = {
            let start = (width - low).div_ceil(2);
            (0..width).map(|x| (start..start + low).contains(&x)).collect()
        };
        let kspace = (0..coils * height * width).map(|_| Complex32::new(noise(), noise())).collect();
        let side = height.min(width).min(320);
        let images: Vec<f32> = (0..side * side).map(|_| noise().abs()).collect();
        let max = images.iter().copied().fold(0.0, f32::max);
        Ok(Self {
            architecture,
            batch: Batch {
                shape: ImageShape { n: 1, coils, rows: height, columns: width },
                kspace,
                mask: centre.iter().enumerate().map(|(x, &low)| low || x % 8 == 0).collect(),
                centre,
            },
            reference: Reference { size: [side, side], images, max_value: vec![f64::from(max)] },
        })
    }

    /// A whole step as in training.
    fn train<B: Backend>(&self, engine: &mut Engine<'_, B>) -> Result<()> {
        let weights = LossWeights { ssim: 1.0, l1: 1e-5 };
        engine.accumulate(&self.batch, &self.reference, weights, Objective::DESCENT)?;
        let update =
            Update { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1, clip: Some(0.5), l1: 0.0 };
        let norm = engine.update(update)?;
        if norm.is_finite() {
            Ok(())
        } else {
            Err(Error::NotFinite("the gradient of the benchmark's step is not finite".into()))
        }
    }
}

/// Floating-point operations of all convolutions of one forward pass.
fn convolution_flop(architecture: Architecture, shape: ImageShape) -> f64 {
    let Architecture { cascades, chans, pools, sens_chans, sens_pools } = architecture;
    let unet = |chans: usize, pools: usize| {
        let [mut h, mut w] = [shape.rows, shape.columns].map(|size| size.next_multiple_of(16));
        let mut flop = 4 * chans * h * w; // 1x1 to two channels
        let mut inputs = 2;
        for level in 0..pools {
            let c = chans << level;
            flop += 18 * (inputs * c + c * c) * h * w; // down
            flop += 18 * (2 * c * c + c * c) * h * w; // up, after the concatenation
            (h, w, inputs) = (h / 2, w / 2, c);
            flop += 8 * 2 * c * c * h * w; // transposed
        }
        let c = chans << pools;
        flop += 18 * (inputs * c + c * c) * h * w;
        flop as f64
    };
    let sens_net = unet(sens_chans, sens_pools) * shape.coils as f64;
    (sens_net + unet(chans, pools) * cascades as f64) * shape.n as f64
}

/// The most memory that this process has held, in MiB, where the system says.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { architecture, coils, height, width, .. } = self;
        writeln!(f, "VarNet of {architecture} ({} parameters)", self.parameters)?;
        write!(f, "one slice of {coils} coils, {height} x {width}, on {}, {}", self.device, self.precision)?;
        let mut time = |name: &str, median: f64, min: f64, gflop: f64| {
            let rate = gflop / median;
            write!(f, "\n{name:<11}{median:>9.4} s (fastest {min:.4} s), convolutions {rate:.0} GFLOP/s")
        };
        if let Some(InferenceTimes { median, min }) = self.inference {
            time("inference", median, min, self.forward_convolution_gflop)?;
        }
        if let Some(TrainTimes { median, min }) = self.train {
            // Backward is a convolution for the data's gradient and one for the weights'.
            time("training", median, min, 3.0 * self.forward_convolution_gflop)?;
        }
        if let Some(peak) = self.peak_rss_mb {
            write!(f, "\n{:<11}{peak:>9.0} MiB", "peak memory")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted() {
        let shape = ImageShape { n: 1, coils: 16, rows: 640, columns: 368 };
        let paper = convolution_flop(Architecture::default(), shape);
        assert!((paper / 0.417e12 - 1.0).abs() < 0.01, "{paper:e}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        let mut calls = 0;
        let [median, min] = times(4, || {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, 5);
        assert!(median >= min);
    }
}
