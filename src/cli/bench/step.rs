//! `kerase bench --step`: how long a whole training step and an inference take.

use std::time::Instant;

use serde::Serialize;

use super::problem::Problem;
use super::tilings::FromFile;
use super::{Args, Build, Mode, driver};
use crate::backend::{Backend, ImageShape};
use crate::device::{Device, Work};
use crate::engine::{Engine, Task};
use crate::error::Result;
use crate::model::{Architecture, VarNet};
use crate::plan::Plan;
use crate::precision::Precision;

/// What was measured. What was not is absent.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    precision: Precision,
    #[serde(flatten)]
    architecture: Architecture,
    coils: usize,
    height: usize,
    width: usize,
    parameters: usize,
    mode: Mode,
    warm_up: u32,
    iters: u32,
    low_memory: bool,
    #[serde(flatten)]
    tilings: Option<FromFile>,
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
    /// What its buffers take of a GPU's memory, counted.
    #[serde(rename = "inference_peak_device_mb", skip_serializing_if = "Option::is_none")]
    device_mb: Option<f64>,
    /// What all programs together take of it, as its driver says, while it runs.
    #[serde(rename = "inference_device_mb_in_use", skip_serializing_if = "Option::is_none")]
    in_use_mb: Option<f64>,
}

#[derive(Clone, Copy, Serialize)]
struct TrainTimes {
    #[serde(rename = "train_seconds")]
    median: f64,
    #[serde(rename = "train_seconds_min")]
    min: f64,
    #[serde(rename = "train_peak_device_mb", skip_serializing_if = "Option::is_none")]
    device_mb: Option<f64>,
    #[serde(rename = "train_device_mb_in_use", skip_serializing_if = "Option::is_none")]
    in_use_mb: Option<f64>,
}

/// What is to be measured, and where.
pub struct Measurement<'a> {
    pub args: &'a Args,
    pub device: Device,
    pub mode: Mode,
    pub tilings: Option<FromFile>,
    pub problem: Problem,
}

impl Work for Measurement<'_> {
    type Output = Result<Report>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Self { args: &Args { iters, warm_up, low_memory, .. }, device, mode, tilings, problem } = self;
        let iterations = [warm_up, iters];
        let parameters = problem.architecture.initial_parameters(0);
        let device_mb = |task: Task| -> Result<Option<f64>> {
            if device == Device::Cpu {
                return Ok(None);
            }
            let net = VarNet::new(problem.architecture)?;
            let plan = Plan::of(&net, problem.batch.shape, task, device.precision())?;
            Ok(Some(plan.total() as f64 / f64::from(1 << 20)))
        };
        // Inference first: the peak of memory only ever rises, and training needs the most.
        let inference = (mode != Mode::Train)
            .then(|| -> Result<_> {
                let mut engine = Engine::new(ops, problem.architecture, &parameters)?;
                engine.put(&problem.batch, None)?;
                let [median, min] = times(iterations, || problem.reconstruct(&mut engine))?;
                let in_use_mb = in_use_mb(&engine);
                Ok(InferenceTimes { median, min, device_mb: device_mb(Task::Reconstruct)?, in_use_mb })
            })
            .transpose()?;
        let train = (mode != Mode::Inference)
            .then(|| -> Result<_> {
                let mut engine = ready_to_train(ops, &problem, low_memory)?;
                let [median, min] = times(iterations, || problem.train(&mut engine))?;
                let task = engine.learning_task(problem.target());
                let in_use_mb = in_use_mb(&engine);
                Ok(TrainTimes { median, min, device_mb: device_mb(task)?, in_use_mb })
            })
            .transpose()?;
        let ImageShape { coils, rows, columns, .. } = problem.batch.shape;
        Ok(Report {
            build: Build::this(),
            device: device.in_words(),
            driver: driver(device),
            precision: device.precision(),
            architecture: problem.architecture,
            coils,
            height: rows,
            width: columns,
            parameters: parameters.len(),
            mode,
            warm_up,
            iters,
            low_memory,
            tilings,
            forward_convolution_gflop: convolution_flop(problem.architecture, problem.batch.shape) / 1e9,
            inference,
            train,
            peak_rss_mb: peak_rss_mb(),
        })
    }
}

/// An engine that [`Problem::train`] can go on with.
///
/// # Errors
/// Where the device has not enough memory.
pub fn ready_to_train<'o, B: Backend<Real = f32>>(
    ops: &'o B,
    problem: &Problem,
    low_memory: bool,
) -> Result<Engine<'o, B>> {
    let parameters = problem.architecture.initial_parameters(0);
    let mut engine = Engine::for_training(ops, problem.architecture, &parameters)?.recomputing(low_memory);
    engine.put(&problem.batch, Some(&problem.reference))?;
    Ok(engine)
}

fn in_use_mb<B: Backend>(engine: &Engine<'_, B>) -> Option<f64> {
    engine.device_memory().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Median and minimum of the seconds that `run` takes, after some times that do not count.
///
/// # Errors
/// Those of `run`.
pub fn times([warm_up, iterations]: [u32; 2], mut run: impl FnMut() -> Result<()>) -> Result<[f64; 2]> {
    for _ in 0..warm_up {
        run()?;
    }
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
        if let Some(InferenceTimes { median, min, .. }) = self.inference {
            time("inference", median, min, self.forward_convolution_gflop)?;
        }
        if let Some(TrainTimes { median, min, .. }) = self.train {
            // Backward is a convolution for the data's gradient and one for the weights'.
            time("training", median, min, 3.0 * self.forward_convolution_gflop)?;
        }
        if let Some(tilings) = &self.tilings {
            write!(f, "\n{tilings}")?;
        }
        let device_mb = self.train.map_or(self.inference.and_then(|i| i.device_mb), |t| t.device_mb);
        if let Some(peak) = device_mb {
            write!(f, "\n{:<11}{peak:>9.0} MiB of the device", "buffers")?;
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
        let [median, min] = times([1, 4], || {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, 5);
        assert!(median >= min);
    }
}
