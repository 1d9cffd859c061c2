//! `kerase bench`: how long a training step and an inference take on this machine, whole, operation by operation, or
//! with other tilings of their convolutions, and whether slices are read as quickly as steps take them.

mod loader;
mod operations;
pub mod problem;
mod rates;
mod step;
mod tilings;

use std::path::PathBuf;

use super::args::DeviceArgs;
use super::loader_args::LoaderArgs;
use super::output::{print, print_json};
use crate::cuda::tilings::Tilings;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::meter::ceiling::Ceiling;
use crate::precision::Precision;
use problem::{Network, Problem};

const EXAMPLE: &str = "\
Example:
  kerase bench --step --cascades 4 --chans 8 --pools 3 --sens-chans 4 --sens-pools 3 \\
      --coils 4 --height 128 --width 128
  kerase bench --step --mode train --json      the paper's network on 16 coils, 640 x 368
  kerase bench --operations --device cuda:0    each operation of a step against its floor
  kerase bench --plan H100                     the floor alone, of a GPU that need not be here
  kerase bench --plan H100 --precision bf16    the same with feature maps that take half the bytes
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
    #[arg(long, conflicts_with = "step")]
    operations: bool,

    /// Count what the operations of a pass have to do, the least time that this takes, and the launches of each kernel,
    /// on a GPU which need not be here: A100, A40, H100, H100-PCIe, H200, L40S or RTX-4090
    #[arg(long, value_name = "GPU", conflicts_with_all = ["step", "operations", "iters"])]
    plan: Option<String>,

    /// Time how quickly the slices of a set are read, against the training step that they are for: the network's on a
    /// slice as most of the set's are
    #[arg(long, value_name = "SET",
        conflicts_with_all = ["step", "operations", "plan", "mode", "coils", "height", "width"])]
    data: Option<PathBuf>,

    /// Time every tiling of every convolution of a pass on a GPU, in tf32 or bf16, and keep in a file those that are quicker
    /// than what kerase's models choose, beside what it has for other convolutions
    #[arg(long, value_name = "FILE", conflicts_with_all = ["step", "operations", "plan", "data", "low_memory", "warm_up"])]
    tune: Option<PathBuf>,

    /// Use the tilings of a file that --tune wrote, beside those of src/cuda/tilings.toml, which all runs use. They change
    /// the order of sums, so that no run can have its own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plan", "data"])]
    tilings: Option<PathBuf>,

    /// Leave the step out
    #[arg(long, requires = "data")]
    loader_only: bool,

    /// What to time. The memory that is reported is that of the more demanding of the two
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,

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
    network: Network,

    #[command(flatten)]
    loader: LoaderArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Train,
    Inference,
    Both,
}

impl Args {
    /// # Errors
    /// A network or slice that is impossible, or a GPU that nothing is known of; where the device fails.
    pub fn run(self) -> Result<()> {
        if let Some(data) = &self.data {
            return self.print(rates::measure(&self, data)?);
        }
        let problem = Problem::new(self.network)?;
        let &Self { mode, low_memory, iters, .. } = &self;
        if let Some(gpu) = &self.plan {
            let precision = self.device.precision.unwrap_or_default();
            return self.print(operations::plan(
                &problem,
                mode,
                low_memory,
                Ceiling::named(gpu)?,
                precision,
            )?);
        }
        let device = self.device.start()?;
        let tilings = self.tilings(device)?;
        if let Some(file) = &self.tune {
            return self.print(tilings::tune(device, tilings, &problem, mode, iters, file)?);
        }
        if self.operations {
            let measurement = operations::Measurement { device, mode, low_memory, iters, problem };
            return self.print(device.run_tiled(tilings, measurement)??);
        }
        self.print(device.run_tiled(tilings, step::Measurement { args: &self, device, problem })??)
    }

    /// Those that were asked for, or built in.
    fn tilings(&self, device: Device) -> Result<Tilings> {
        match &self.tilings {
            Some(_) if device.precision() == Precision::Fp32 => Err(Error::input(format!(
                "--tilings: on {device} in fp32 there is one tiling of each convolution"
            ))),
            Some(file) => {
                let tilings = Tilings::read(file)?;
                let precision = device.precision();
                if tilings.len(precision) == 0 {
                    return Err(Error::input(format!("{} has no tilings of {precision}", file.display())));
                }
                Ok(Tilings::built_in().overlaid(&tilings))
            }
            None => Ok(Tilings::built_in()),
        }
    }

    fn print(&self, report: impl serde::Serialize + std::fmt::Display) -> Result<()> {
        if self.json { print_json(&report) } else { print(report) }
    }
}
