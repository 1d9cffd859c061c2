//! `kerase validate`: whether a device computes what it should.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::args::DeviceArgs;
use super::output::{check_file, print, print_json};
use super::sample_args::SampleArgs;
use super::stop::{self, Stop};
use crate::backend::Backend;
use crate::bench::sample::{Sample, Sizes};
use crate::cpu::Cpu;
use crate::cuda::Cuda;
use crate::cuda::driver::Driver;
use crate::cuda::driver::emulated::{Emulated, Schedule};
use crate::device::{Device, Work};
use crate::error::{Error, Result};
use crate::json;
use crate::precision::Precision;
use crate::progress::{Progress, say};
use crate::provenance::Provenance;
use crate::validate::step::{PASSES, Pass, StepOutcome, exact, step};
use crate::validate::{Case, Failure, Outcome, Selection, Watcher, validate};

const EXAMPLE: &str = "\
Example:
  kerase validate                               all operations at the table's shapes
  kerase validate --random 200 --seed 7         and at 200 random ones
  kerase validate --only 'conv3x3 18' --list    which cases these are
  kerase validate --device emulated             the GPU's kernels on the CPU, in three orders of their threads
  kerase validate --device cuda --precision fp32    a GPU's kernels without tensor cores
  kerase validate --paper --device cuda         and the layers of the paper's network
  kerase validate --step --device cuda          loss and gradient of the paper's network at its size

Every operation runs on the device, forward and backward, and is compared with the CPU's float64 reference. Outputs are \
full of NaN beforehand and fenced; a second run in dirty memory must give the same bits.

What is allowed: a tolerance is a number of roundings of float32, each 2^-24 of a number. An operation has a few, a sum of \
K terms about the root of K more, as errors of either sign do. An element may be off by four times that, a whole result in \
its norm by twice. tf32 and bf16 round the operands of convolutions, for which an element may be off by 0.3 % and 2.3 % \
more; bf16 also rounds feature maps, for which their values may be off by 0.8 %.

Columns: \"error\" is the largest difference from the reference; \"relative\" the largest as a share of the reference's value \
and the size of the result (mostly its root mean square) together; \"of tolerance\" the largest share of what is allowed, of \
an element or a norm, and more than 100 % fails; \"largest in\" the case with that share.

Ctrl-C ends after the case under way, with the results so far and exit code 130; a second one at once.";

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
    #[arg(long, conflicts_with_all = ["json", "out"])]
    list: bool,

    /// Instead of single operations, one training step of a whole network, given below, on a simulated brain; unless
    /// --precision names one, in each that the device has. At the size of the paper's network an emulated device takes
    /// hours
    #[arg(long, conflicts_with_all = ["paper", "random", "seed", "only", "list"])]
    step: bool,

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
    sample: SampleArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

const SCHEDULE: &str = "KERASE_EMULATED_SCHEDULE";

/// Variables that decide in which order devices compute.
const ORDERS: [&str; 4] = [SCHEDULE, "KERASE_OVERLAP", "KERASE_SYNC", "KERASE_CARVEOUT"];

impl Args {
    /// # Errors
    /// [`Error::Device`] where a case fails, after the results were printed; what cannot be used or written.
    pub fn run(self) -> Result<()> {
        if self.step {
            return self.validate_step();
        }
        if self.sample.sizes()? != Sizes::default() {
            return Err(Error::input("options of network and slice are those of --step"));
        }
        let set = ORDERS.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        let selection = Selection {
            paper: self.paper,
            random: self.random,
            seed: self.seed,
            only: self.only.clone(),
            variables: set.collect(),
        };
        let cases = selection.cases();
        if cases.is_empty() {
            let only = self.only.as_deref().unwrap_or_default();
            let with_paper = Selection { paper: true, ..selection };
            return Err(Error::input(if with_paper.cases().is_empty() {
                format!(
                    "no case has '{only}' in its name: see kerase validate --list, and for a random one give the \
                     --random and --seed that it was drawn with"
                )
            } else {
                format!("only cases of the paper's network have '{only}' in their name: give --paper")
            }));
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
        let all = runs * cases.len();
        let stop = stop::on_signals()?;
        let mut watch = Watch { progress: Progress::new(all as u64, "validating"), stop: &stop };
        let mut outcome = check(device, &selection, &mut watch)?;
        watch.progress.finish();
        outcome.by = Some(Provenance::of(device));

        self.show(&outcome)?;
        if outcome.passed() {
            return Ok(());
        }
        let failed: usize = outcome.runs.iter().map(|run| run.failed).sum();
        let ran: usize = outcome.runs.iter().map(|run| run.cases).sum();
        if outcome.incomplete && stop.interrupted() {
            say(&format!("stopped after {ran} of {all} cases"));
            stop.exit();
        }
        Err(Error::Device(if outcome.incomplete {
            format!("a signal stopped it after {ran} of {all} cases: nothing is known of the others")
        } else if ran == 0 {
            format!("{device} supports none of the {} cases: nothing was checked", cases.len())
        } else {
            format!("{failed} of {ran} cases failed on {device}")
        }))
    }
}

impl Args {
    fn show(&self, outcome: &(impl Serialize + Display)) -> Result<()> {
        if let Some(path) = &self.out {
            json::write(path, outcome)?;
        }
        if self.json { print_json(outcome) } else { print(outcome) }
    }

    fn validate_step(&self) -> Result<()> {
        if let Some(path) = &self.out {
            check_file(path, self.overwrite)?;
        }
        let sizes = self.sample.sizes()?;
        let sample = Sample::brain(sizes)?;
        let device = self.device.start()?;
        let devices: Vec<Device> = match self.device.precision {
            Some(_) => vec![device],
            None => Precision::ALL.into_iter().filter_map(|p| device.with_precision(p).ok()).collect(),
        };
        let Sample { architecture, batch, reference } = &sample;
        let mut progress = Progress::new((1 + PASSES * devices.len()) as u64, "validating a step");
        let exact = rayon::scope(|_| exact(*architecture, batch, reference))?;
        progress.step("float64");
        let mut steps = Vec::new();
        for device in devices {
            let work = Step { sample: &sample, exact: &exact, device, progress: &mut progress };
            steps.push(StepReport { by: Provenance::of(device), sizes, outcome: device.run(work)?? });
        }
        progress.finish();
        let outcome = Steps(steps);
        self.show(&outcome)?;
        let outcomes = outcome.0.iter().map(|step| &step.outcome);
        let far = outcomes.filter(|step| !step.passed).map(|step| step.precision.to_string());
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
    sample: &'a Sample,
    exact: &'a Pass,
    device: Device,
    progress: &'a mut Progress,
}

impl Work for Step<'_> {
    type Output = Result<StepOutcome>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Sample { architecture, batch, reference } = self.sample;
        let name = (self.device.to_string(), self.device.precision());
        let passed = || self.progress.step(&name.1.to_string());
        step(ops, (&name.0, name.1), *architecture, batch, reference, self.exact, passed)
    }
}

#[derive(Serialize)]
struct StepReport {
    by: Provenance,
    #[serde(flatten)]
    sizes: Sizes,
    #[serde(flatten)]
    outcome: StepOutcome,
}

/// In one precision after the other.
#[derive(Serialize)]
struct Steps(Vec<StepReport>);

impl Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(first) = self.0.first() {
            write!(f, "{}", first.sizes)?;
        }
        self.0.iter().try_for_each(|step| write!(f, "\n{}", step.outcome))
    }
}

/// Shows how far it has come and what fails, and ends it where a signal asks for that.
struct Watch<'s> {
    progress: Progress,
    stop: &'s Stop,
}

impl Watcher for Watch<'_> {
    fn next(&mut self, case: &Case) -> bool {
        let goes_on = !self.stop.load(Ordering::Relaxed);
        if goes_on {
            self.progress.step(&case.operation());
        }
        goes_on
    }

    fn failed(&mut self, Failure { device, case, problem, .. }: &Failure) {
        self.progress.line(&format!("FAILED on {device}: {case}: {problem}"));
    }
}

/// In the orders of threads and blocks that an emulated device can have: what depends on them is a race.
fn check(device: Device, selection: &Selection, watch: &mut Watch<'_>) -> Result<Outcome> {
    match device {
        Device::Cpu => Ok(rayon::scope(|_| validate(&Cpu::<f32>::default(), "cpu", selection, watch))),
        Device::Cuda(number, precision) => {
            let gpu = Cuda::open(number)?.with_precision(precision);
            Ok(validate(&gpu, &named(&gpu.driver().name(), precision), selection, watch))
        }
        Device::Emulated(precision) => rayon::scope(|_| emulated(precision, selection, watch)),
    }
}

/// The device with what it rounds to, where that is not float32.
fn named(device: &str, precision: Precision) -> String {
    match precision {
        Precision::Fp32 => device.into(),
        _ => format!("{device}, {precision}"),
    }
}

fn emulated(precision: Precision, selection: &Selection, watch: &mut Watch<'_>) -> Result<Outcome> {
    let mut all: Option<Outcome> = None;
    for schedule in schedules(selection.seed)? {
        let device = Cuda::new(Emulated::new(schedule, usize::MAX)).with_precision(precision);
        let name = named(&format!("emulated ({schedule})"), precision);
        let outcome = validate(&device, &name, selection, watch);
        match &mut all {
            Some(all) => all.merge(outcome),
            None => all = Some(outcome),
        }
    }
    all.ok_or_else(|| Error::input("there is no order to emulate"))
}

/// The one that the environment names, or one of each kind.
fn schedules(seed: u64) -> Result<Vec<Schedule>> {
    match std::env::var(SCHEDULE) {
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
