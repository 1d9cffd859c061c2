//! `kerase validate`: whether a device computes what it should.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::args::DeviceArgs;
use super::bench::problem::{Network, Problem};
use super::output::{check_file, json, print, print_json};
use crate::atomic;
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::Cuda;
use crate::cuda::driver::Driver;
use crate::cuda::driver::emulated::{Emulated, Schedule};
use crate::device::{Device, Work};
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::progress::Progress;
use crate::validate::step::{Pass, StepOutcome, exact, step};
use crate::validate::{Case, Outcome, Selection, validate};

const EXAMPLE: &str = "\
Example:
  kerase validate                               all operations at the table's shapes
  kerase validate --random 200 --seed 7         and at 200 random ones
  kerase validate --only 'conv3x3 18' --list    which cases these are
  kerase validate --device emulated             the GPU's kernels on the CPU, in three orders of their threads
  kerase validate --device cuda --precision fp32    a GPU's kernels without tensor cores
  kerase validate --paper --device cuda         and the layers of the paper's network
  kerase validate --step --device cuda          loss and gradient of the paper's network at its size

Every operation runs on the device, forward and backward, and is compared with the CPU's float64 reference. Outputs are
full of NaN beforehand and fenced; a second run in dirty memory must give the same bits.";

/// Checks every operation on a device against the float64 reference
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The layers of the paper's network too, at the size of its images: on an emulated device that takes hours
    #[arg(long)]
    paper: bool,

    /// Random shapes beside those of the table
    #[arg(long, default_value_t = 0, value_name = "N")]
    random: usize,

    /// Where random shapes come from
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Only cases with this in their name, such as an operation's
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Print the cases' names and run none
    #[arg(long)]
    list: bool,

    /// Instead of single operations, one training step of a whole network, given below, on a simulated brain; unless
    /// --precision names one, in each that the device has
    #[arg(long, conflicts_with_all = ["paper", "random", "only", "list"])]
    step: bool,

    #[command(flatten)]
    network: Network,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// A file for the results as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace the file
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// # Errors
    /// [`Error::Device`] where a case fails, after the results were printed; what cannot be used or written.
    pub fn run(self) -> Result<()> {
        if self.step {
            return self.validate_step();
        }
        if self.network != Network::PAPER {
            return Err(Error::input("options of network and slice are those of --step"));
        }
        let selection =
            Selection { paper: self.paper, random: self.random, seed: self.seed, only: self.only.clone() };
        let cases = selection.cases();
        if cases.is_empty() {
            let only = self.only.as_deref().unwrap_or_default();
            return Err(Error::input(format!(
                "no case has '{only}' in its name: see kerase validate --list, and for a random one give the \
                 --random and --seed that it was drawn with"
            )));
        }
        if self.list {
            let names: Vec<String> = cases.iter().map(ToString::to_string).collect();
            return print(names.join("\n"));
        }
        if let Some(path) = &self.out {
            check_file(path, self.overwrite)?;
        }
        let device = self.device.start()?;
        let runs = runs(device, self.seed)?;
        let mut progress = Progress::new((runs * cases.len()) as u64, "validating");
        let outcome = check(device, &selection, |case| progress.step(&case.operation()))?;
        progress.finish();

        self.show(&outcome)?;
        if outcome.passed() {
            return Ok(());
        }
        let failed: usize = outcome.runs.iter().map(|run| run.failed).sum();
        let ran: usize = outcome.runs.iter().map(|run| run.cases).sum();
        Err(Error::Device(if ran == 0 {
            format!("{device} supports none of the {} cases: nothing was checked", cases.len())
        } else {
            format!("{failed} of {ran} cases failed on {device}")
        }))
    }
}

impl Args {
    fn show(&self, outcome: &(impl Serialize + Display)) -> Result<()> {
        if let Some(path) = &self.out {
            let text = json(outcome)?;
            atomic::write(path, |file| {
                writeln!(file, "{text}").map_err(|source| Error::io("write", path, source))
            })?;
        }
        if self.json { print_json(outcome) } else { print(outcome) }
    }

    fn validate_step(&self) -> Result<()> {
        if let Some(path) = &self.out {
            check_file(path, self.overwrite)?;
        }
        let problem = Problem::brain(self.network)?;
        let device = self.device.start()?;
        let devices: Vec<Device> = match self.device.precision {
            Some(_) => vec![device],
            None => Precision::ALL.into_iter().filter_map(|p| device.with_precision(p).ok()).collect(),
        };
        let Problem { architecture, batch, reference } = &problem;
        let exact = rayon::scope(|_| exact(*architecture, batch, reference))?;
        let steps =
            devices.iter().map(|&device| device.run(Step { problem: &problem, exact: &exact, device })?);
        let outcome = Steps(steps.collect::<Result<_>>()?);
        self.show(&outcome)?;
        let far = outcome.0.iter().filter(|step| !step.passed).map(|step| step.precision.to_string());
        match far.collect::<Vec<_>>() {
            far if far.is_empty() => Ok(()),
            far => Err(Error::Device(format!(
                "a training step on {device} in {} is too far from float64's",
                far.join(" and ")
            ))),
        }
    }
}

struct Step<'a> {
    problem: &'a Problem,
    exact: &'a Pass,
    device: Device,
}

impl Work for Step<'_> {
    type Output = Result<StepOutcome>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Problem { architecture, batch, reference } = self.problem;
        let name = (self.device.to_string(), self.device.precision());
        step(ops, (&name.0, name.1), *architecture, batch, reference, self.exact)
    }
}

/// In one precision after the other.
#[derive(Serialize)]
struct Steps(Vec<StepOutcome>);

impl Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&steps.join("\n"))
    }
}

/// In the orders of threads and blocks that an emulated device can have: what depends on them is a race.
fn check(device: Device, selection: &Selection, progress: impl FnMut(&Case) + Send) -> Result<Outcome> {
    match device {
        Device::Cpu => Ok(rayon::scope(|_| validate(&Cpu::<f32>::default(), "cpu", selection, progress))),
        Device::Cuda(number, precision) => {
            let gpu = Cuda::open(number)?.with_precision(precision);
            Ok(validate(&gpu, &named(&gpu.driver().name(), precision), selection, progress))
        }
        Device::Emulated(precision) => rayon::scope(|_| emulated(precision, selection, progress)),
    }
}

/// The device with what it rounds to, where that is not float32.
fn named(device: &str, precision: Precision) -> String {
    match precision {
        Precision::Fp32 => device.into(),
        _ => format!("{device}, {precision}"),
    }
}

fn emulated(precision: Precision, selection: &Selection, mut progress: impl FnMut(&Case)) -> Result<Outcome> {
    let mut all: Option<Outcome> = None;
    for schedule in schedules(selection.seed)? {
        let device = Cuda::new(Emulated::new(schedule, usize::MAX)).with_precision(precision);
        let name = named(&format!("emulated ({schedule})"), precision);
        let outcome = validate(&device, &name, selection, &mut progress);
        match &mut all {
            Some(all) => all.merge(outcome),
            None => all = Some(outcome),
        }
    }
    all.ok_or_else(|| Error::input("there is no order to emulate"))
}

/// The one that the environment names, or one of each kind.
fn schedules(seed: u64) -> Result<Vec<Schedule>> {
    match std::env::var("KERASE_EMULATED_SCHEDULE") {
        Ok(name) => Ok(vec![name.parse()?]),
        Err(_) => Ok(vec![Schedule::Forward, Schedule::Reverse, Schedule::Random(seed)]),
    }
}

/// How often each case runs.
fn runs(device: Device, seed: u64) -> Result<usize> {
    match device {
        Device::Emulated(_) => schedules(seed).map(|schedules| schedules.len()),
        Device::Cpu | Device::Cuda(..) => Ok(1),
    }
}
