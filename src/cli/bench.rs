//! `kerase bench`: how long a training step and an inference take on this machine, whole, operation by operation, or
//! with other tilings of their convolutions, and whether slices are read as quickly as steps take them.

use std::path::{Path, PathBuf};

use super::args::DeviceArgs;
use super::loader_args::LoaderArgs;
use super::output::{check_file, print, print_json};
use super::sample_args::SampleArgs;
use crate::bench::sample::{Sample, Sizes};
use crate::bench::tilings::FromFile;
use crate::bench::tune::Tuning;
use crate::bench::{Mode, operations, rates, step};
use crate::cuda::conv::tilings::Tilings;
use crate::data::set::VolumeSet;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::meter::ceiling::Ceiling;
use crate::precision::Precision;

const EXAMPLE: &str = "\
Example:
  kerase bench --step --cascades 4 --chans 8 --pools 3 --sens-chans 4 --sens-pools 3 \\
      --coils 4 --height 128 --width 128
  kerase bench --step --mode train --json      the paper's network on 16 coils, 640 x 368
  kerase bench --operations --device cuda:0    each operation of a step against its floor
  kerase bench --plan H100                     the floor alone, of a GPU that need not be here
  kerase bench --plan H100 --precision bf16    the same with feature maps that take half the bytes
  kerase bench --plan A100,H100,H200           floors side by side
  kerase bench --plan B200,B300=8/1250/77      of another GPU: its memory in TB/s, TF32 and float32 in TFLOP/s
  kerase bench --tune tilings.toml --device cuda:0     which tilings of convolutions are quicker on this GPU than chosen
  kerase bench --step --tilings tilings.toml --device cuda:0     what they gain
  kerase bench --data brain/train              slices a second from these files, and that a training step takes of them

scripts/bench_pytorch.py --alternate 'kerase bench --step --json' times PyTorch in turn with it.";

/// Times a training step and inference on random data, or each of their operations
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Time whole steps of a network: what is timed without this, too
    #[arg(long)]
    step: bool,

    /// Time each operation of a training step (with --mode inference: of an inference) against the least time that
    /// its bytes and its arithmetic take
    #[arg(long, conflicts_with_all = ["step", "warm_up"])]
    operations: bool,

    /// Count what the operations of a pass have to do, the least time that this takes, and the launches of each kernel,
    /// on a GPU which need not be here, such as H100; in tf32, unless --precision says otherwise. Another name shows which
    /// there are; any other is given with its figures, as NAME=TB/s/TFLOP/s/TFLOP/s: memory, TF32 products, float32.
    /// Of several only their totals are shown, side by side; JSON has all
    #[arg(long, value_name = "GPU[,GPU…]", value_delimiter = ',',
        conflicts_with_all = ["step", "operations", "iters", "warm_up", "device", "threads"])]
    plan: Vec<String>,

    /// Time how quickly the slices of a set are read, against the training step that they are for: the network's on a
    /// slice as most of the set's are
    #[arg(long, value_name = "SET",
        conflicts_with_all = ["step", "operations", "plan", "mode", "coils", "height", "width"])]
    data: Option<PathBuf>,

    /// Time every tiling of every convolution of a pass on a GPU, in tf32 or bf16, and keep in a file those that are quicker
    /// than what kerase's models choose, beside what it has for other convolutions
    #[arg(long, value_name = "FILE", conflicts_with_all = ["step", "operations", "plan", "data", "low_memory", "warm_up"])]
    tune: Option<PathBuf>,

    /// Use the tilings of a file that --tune wrote, beside those of src/cuda/conv/tilings.toml, which all runs use. They change
    /// the order of sums, so that no run can have its own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plan", "data"])]
    tilings: Option<PathBuf>,

    /// Leave the step out
    #[arg(long, requires = "data", conflicts_with_all = ["warm_up", "low_memory", "device", "precision", "threads",
        "cascades", "chans", "pools", "sens_chans", "sens_pools"])]
    loader_only: bool,

    /// What to time: of whole steps both, of which the more demanding decides on the memory that is reported; otherwise one
    /// [default: both, or train with --operations, --plan and --tune]
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Timed repetitions
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iters: u32,

    /// Repetitions of whole steps that are not timed, before those that are: an idle GPU takes a second to reach its clock
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    warm_up: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Train with little memory: feature maps are computed again in the backward pass
    #[arg(long)]
    low_memory: bool,

    #[command(flatten)]
    sample: SampleArgs,

    #[command(flatten)]
    loader: LoaderArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// # Errors
    /// A network or slice that is impossible, or a GPU that nothing is known of; where the device fails.
    pub fn run(self) -> Result<()> {
        if let Some(data) = &self.data {
            return self.print(self.rates(data)?);
        }
        if self.loader.cache_gib > 0.0 {
            return Err(Error::input("--cache-gib is of slices that are read: it goes with --data"));
        }
        if self.low_memory && self.mode == Some(Mode::Inference) {
            return Err(Error::input("--low-memory is of training, which --mode inference leaves out"));
        }
        let sample = Sample::new(self.sample.sizes()?)?;
        if !self.plan.is_empty() {
            return self.plan(&sample);
        }
        let one_pass = if self.operations || self.tune.is_some() { Some(self.one_pass()?) } else { None };
        let device = self.device.start()?;
        let mode = one_pass.or(self.mode).unwrap_or(Mode::Both);
        let (tilings, from_file) = self.tilings(device, &sample, mode)?;
        let &Self { low_memory, warm_up, iters, .. } = &self;
        if let Some(file) = &self.tune {
            check_file(file, true)?;
            let tuning = Tuning { device, mode, iters, sample: &sample, tilings, from_file };
            return self.print(tuning.write(file)?);
        }
        if self.operations {
            let work =
                operations::Measurement { device, mode, low_memory, iters, tilings: from_file, sample };
            return self.print(device.run_tiled(tilings, work)??);
        }
        let work = step::Measurement { device, mode, low_memory, warm_up, iters, tilings: from_file, sample };
        self.print(device.run_tiled(tilings, work)??)
    }

    fn rates(&self, data: &Path) -> Result<rates::Report> {
        let architecture = self.sample.network.architecture(Sizes::default().architecture)?;
        let &Self { low_memory, warm_up, iters, .. } = self;
        let device = if self.loader_only { None } else { Some(self.device.start()?) };
        let steps = device.map(|device| rates::Steps { device, architecture, low_memory, warm_up });
        rates::measure(VolumeSet::open(data)?, self.loader.options(), iters, steps)
    }

    fn plan(&self, sample: &Sample) -> Result<()> {
        let gpus = self.plan.iter().map(|gpu| Ceiling::named(gpu)).collect::<Result<Vec<_>>>()?;
        let precision = self.device.precision.unwrap_or(Precision::Tf32);
        let mut plans = operations::plan(sample, self.one_pass()?, self.low_memory, &gpus, precision)?;
        if plans.len() > 1 { self.print(operations::SideBySide(plans)) } else { self.print(plans.remove(0)) }
    }

    /// The pass whose operations are looked at.
    fn one_pass(&self) -> Result<Mode> {
        match self.mode {
            Some(Mode::Both) => Err(Error::input(
                "--mode both is of whole steps; --operations, --plan and --tune look at one pass: name train or inference",
            )),
            mode => Ok(mode.unwrap_or(Mode::Train)),
        }
    }

    /// Those that were asked for, or built in.
    fn tilings(&self, device: Device, sample: &Sample, mode: Mode) -> Result<(Tilings, Option<FromFile>)> {
        let Some(file) = &self.tilings else { return Ok((Tilings::built_in(), None)) };
        if device.precision() == Precision::Fp32 {
            return Err(Error::input(format!(
                "--tilings: on {device} in fp32 there is one tiling of each convolution"
            )));
        }
        let tilings = Tilings::read(file)?;
        let used = FromFile::new(file, &tilings, sample, mode, device.precision())?;
        Ok((Tilings::built_in().overlaid(&tilings), Some(used)))
    }

    fn print(&self, report: impl serde::Serialize + std::fmt::Display) -> Result<()> {
        if self.json { print_json(&report) } else { print(report) }
    }
}
