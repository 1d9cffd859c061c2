//! `kerase bench --step`: how long a whole training step and an inference take.

use std::fmt;
use std::time::Instant;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::sample::{Sample, Sizes, Trial};
use super::tilings::FromFile;
use super::{Build, Mode, Subject};
use crate::backend::{Backend, ImageShape, Launches};
use crate::device::{Device, Work};
use crate::error::Result;
use crate::median::median as median_of;
use crate::model::{Architecture, VarNet};
use crate::plan::Plan;

/// What was measured. What was not is absent.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    #[serde(flatten)]
    subject: Subject,
    parameters: usize,
    mode: Mode,
    warm_up: u32,
    iters: u32,
    low_memory: bool,
    /// Of the convolutions of one forward pass, a multiply-add counted as two.
    forward_convolution_gflop: f64,
    #[serde(flatten)]
    inference: Option<Times>,
    #[serde(flatten)]
    train: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_mb: Option<f64>,
}

/// Of one kind of pass.
#[derive(Clone, Copy)]
struct Times {
    /// What the names of its values begin with: "train" of "train_seconds".
    pass: &'static str,
    median: f64,
    min: f64,
    /// What the host takes to hand over the next slice meanwhile, the median: the device waits where that is longer.
    handed_over: f64,
    /// Of kernels, in all of its passes; those of a recording count once.
    launches: Option<Launches>,
    /// What its buffers take of a GPU's memory, counted.
    device_mb: Option<f64>,
    /// What all programs together take of it, as its driver says, while it runs.
    in_use_mb: Option<f64>,
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let values = [
            ("seconds", Some(json!(self.median))),
            ("seconds_min", Some(json!(self.min))),
            ("handing_over_seconds", self.launches.map(|_| json!(self.handed_over))),
            ("launches", self.launches.map(|launches| json!(launches))),
            ("peak_device_mb", self.device_mb.map(|mb| json!(mb))),
            ("device_mb_in_use", self.in_use_mb.map(|mb| json!(mb))),
        ];
        let named = |(name, value): (_, Option<Value>)| Some((format!("{}_{name}", self.pass), value?));
        serializer.collect_map(values.into_iter().filter_map(named))
    }
}

/// What is to be measured, and where.
pub struct Measurement {
    pub device: Device,
    pub mode: Mode,
    pub low_memory: bool,
    pub warm_up: u32,
    pub iters: u32,
    pub tilings: Option<FromFile>,
    pub sample: Sample,
}

impl Work for Measurement {
    type Output = Result<Report>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Self { device, mode, low_memory, warm_up, iters, tilings, sample } = self;
        let (architecture, shape) = (sample.architecture, sample.batch.shape);
        let net = VarNet::new(architecture)?;
        let measure = |pass, mut trial: Trial<'_, B>| -> Result<Times> {
            let mut handed_over = Vec::new();
            let before = trial.launches();
            let [median, min] = times([warm_up, iters], || {
                trial.run()?;
                handed_over.push(trial.handed_over());
                Ok(())
            })?;
            let handed_over = median_of(&handed_over).unwrap_or_default();
            let launches = trial.launches().zip(before).map(|(after, before)| after.since(before));
            let device_mb = match device {
                Device::Cpu => None,
                _ => Some(mib(Plan::of(&net, shape, trial.task(), device.precision())?.total() as f64)),
            };
            let in_use_mb = trial.device_memory().map(|bytes| mib(bytes as f64));
            Ok(Times { pass, median, min, handed_over, launches, device_mb, in_use_mb })
        };
        // Inference first: the peak of memory only ever rises, and training needs the most.
        let inference = (mode != Mode::Train).then(|| measure("inference", sample.reconstructor(ops)?));
        let inference = inference.transpose()?;
        let train = (mode != Mode::Inference).then(|| measure("train", sample.trainer(ops, low_memory)?));
        let train = train.transpose()?;
        Ok(Report {
            build: Build::this(),
            subject: Subject::new(&sample, device, tilings),
            parameters: net.layout.len(),
            mode,
            warm_up,
            iters,
            low_memory,
            forward_convolution_gflop: convolution_flop(architecture, shape) / 1e9,
            inference,
            train,
            peak_rss_mb: peak_rss_mb(),
        })
    }
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
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
    let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    Ok([median_of(&seconds).unwrap_or(fastest), fastest])
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { device, precision, sizes, tilings, .. } = &self.subject;
        let Sizes { architecture, coils, height, width } = sizes;
        writeln!(f, "VarNet of {architecture} ({} parameters)", self.parameters)?;
        write!(f, "one slice of {coils} coils, {height} x {width}, on {device}, {precision}")?;
        let mut time = |name: &str, times: Option<Times>, gflop: f64| {
            let Some(Times { median, min, .. }) = times else { return Ok(()) };
            let rate = gflop / median;
            write!(f, "\n{name:<11}{median:>9.4} s (fastest {min:.4} s), convolutions {rate:.0} GFLOP/s")
        };
        time("inference", self.inference, self.forward_convolution_gflop)?;
        // Backward is a convolution for the data's gradient and one for the weights'.
        time("training", self.train, 3.0 * self.forward_convolution_gflop)?;
        if let Some(tilings) = tilings {
            write!(f, "\n{tilings}")?;
        }
        if let Some(peak) = self.train.or(self.inference).and_then(|times| times.device_mb) {
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
}
