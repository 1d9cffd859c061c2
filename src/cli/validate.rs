//! `kerase validate`: whether a device computes what it should.

use std::io::Write;
use std::path::PathBuf;

use super::args::DeviceArgs;
use super::output::{check_file, json, print, print_json};
use crate::atomic;
use crate::cpu::Cpu;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::validate::{Case, Outcome, Selection, validate};

const EXAMPLE: &str = "\
Example:
  kerase validate                               all operations at the table's shapes
  kerase validate --random 200 --seed 7         and at 200 random ones
  kerase validate --only 'conv3x3 18' --list    which cases these are

Every operation runs on the device, forward and backward, and is compared with the CPU's float64 reference. Outputs are
full of NaN beforehand and fenced; a second run in dirty memory must give the same bits.";

/// Checks every operation on a device against the float64 reference
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
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
        let selection = Selection { random: self.random, seed: self.seed, only: self.only.clone() };
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
        let mut progress = Progress::new(cases.len() as u64, "validating");
        let outcome = check(device, &selection, |case| progress.step(&case.operation()));
        progress.finish();

        if let Some(path) = &self.out {
            let text = json(&outcome)?;
            atomic::write(path, |file| {
                writeln!(file, "{text}").map_err(|source| Error::io("write", path, source))
            })?;
        }
        if self.json {
            print_json(&outcome)?
        } else {
            print(&outcome)?
        }
        if outcome.passed() {
            return Ok(());
        }
        let failed: usize = outcome.runs.iter().map(|run| run.failed).sum();
        let run: usize = outcome.runs.iter().map(|run| run.cases).sum();
        Err(Error::Device(if run == 0 {
            format!("{device} supports none of the {} cases: nothing was checked", cases.len())
        } else {
            format!("{failed} of {run} cases failed on {device}")
        }))
    }
}

fn check(device: Device, selection: &Selection, progress: impl FnMut(&Case)) -> Outcome {
    match device {
        Device::Cpu => validate(&Cpu::<f32>::default(), &device.to_string(), selection, progress),
    }
}
