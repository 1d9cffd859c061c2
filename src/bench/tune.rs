//! `kerase bench --tune`: every tiling of every convolution of a pass, timed, beside the one that is in use.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use half::bf16;
use serde::Serialize;

use super::sample::Sample;
use super::tilings::{FromFile, calls};
use super::{Build, Mode, Subject};
use crate::cuda::Cuda;
use crate::cuda::conv::tune::{Bench, Repeats, Timed, Timings};
use crate::cuda::conv::{
    problem::Problem,
    tilings::{Note, Tilings},
};
use crate::cuda::driver::{Driver, gpus};
use crate::device::{CudaWork, Device};
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::progress::{Progress, say};
use crate::provenance;
use crate::ranks::ALONE;
use crate::table::{Style, render};

/// Launches that a GPU is timed with at a time, and bytes that they take turns with: more than any cache holds.
const LAUNCHES: usize = 40;
const ROTATED: usize = 256 << 20;
/// Seconds of work before anything is timed.
const WARM_UP: f64 = 1.0;
/// Instead of a GPU's name.
const EMULATED: &str = "the emulated device, whose times are the host's and say nothing of a GPU";
/// What another tiling must gain, as a share of the time, to be written down: less is chance.
const GAIN: f64 = 0.03;

/// A problem of the pass, with its tilings; that which is in use is the first.
#[derive(Serialize)]
struct Row {
    problem: Problem,
    /// In one pass.
    calls: usize,
    #[serde(flatten)]
    timings: Timings,
}

impl Row {
    fn used(&self) -> &Timed {
        &self.timings.tilings[0]
    }

    /// The quickest, where it gains enough.
    fn better(&self) -> Option<&Timed> {
        let quickest = self.timings.tilings.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
        (quickest.seconds < (1.0 - GAIN) * self.used().seconds).then_some(quickest)
    }

    fn best(&self) -> &Timed {
        self.better().unwrap_or(self.used())
    }

    fn in_a_pass(&self, of: &Timed) -> f64 {
        self.calls as f64 * of.seconds
    }
}

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    #[serde(flatten)]
    subject: Subject,
    mode: Mode,
    iters: u32,
    /// Seconds of all convolutions of a pass, one after the other: as they are, and at their best.
    used_seconds: f64,
    best_seconds: f64,
    problems: Vec<Row>,
    #[serde(skip)]
    written: String,
}

/// What is to be timed, and where.
pub struct Tuning<'s> {
    pub device: Device,
    pub mode: Mode,
    pub iters: u32,
    pub sample: &'s Sample,
    /// Those that are in use, and the file that they are from.
    pub tilings: Tilings,
    pub from_file: Option<FromFile>,
}

impl Tuning<'_> {
    /// Times the tilings of a pass, and keeps in a file what is quicker than the models' choice: beside what it has of other
    /// problems, and those that are in use. Times of the emulated device are those of a CPU, and its file says so.
    ///
    /// # Errors
    /// [`Error::Input`] for a device or precision that has one tiling alone; for a file that is there and cannot be read, or
    /// cannot be written; where the device fails.
    pub fn write(self, file: &Path) -> Result<Report> {
        let Self { device, mode, iters, sample, tilings, from_file } = self;
        let precision = device.precision();
        if precision == Precision::Fp32 {
            return Err(Error::input(format!(
                "--tune: on {device} in fp32 there is one tiling of each convolution; --precision tf32 and bf16, on \
                 --device cuda:N, have several"
            )));
        }
        let mut kept = tilings.clone();
        if file.exists() {
            let there = Tilings::read(file)?;
            warn_of_others(file, &there, &measured_on(device));
            kept = kept.overlaid(&there);
        }
        let replays = iters as usize;
        let repeats = match device {
            Device::Cuda(..) => Repeats { launches: LAUNCHES, replays, warm_up: WARM_UP, bytes: ROTATED },
            Device::Emulated(_) | Device::Cpu => {
                say("--tune on the emulated device times the host: the tilings say nothing of a GPU");
                Repeats { launches: 1, replays, warm_up: 0.0, bytes: 0 }
            }
        };
        let problems = device.run_cuda(&ALONE, tilings, Timing { sample, mode, repeats })??;
        keep(&mut kept, precision, &problems);
        let build = Build::this();
        let commit = build.commit.as_ref().map_or(String::new(), |commit| format!(" of commit {commit}"));
        let by = format!("by {}{commit} on {}", build.program, provenance::today());
        kept.note(Note { on: measured_on(device), precision, by });
        kept.write(file)?;
        Ok(Report {
            build,
            subject: Subject::new(sample, device, from_file),
            mode,
            iters,
            used_seconds: problems.iter().map(|row| row.in_a_pass(row.used())).sum(),
            best_seconds: problems.iter().map(|row| row.in_a_pass(row.best())).sum(),
            problems,
            written: format!("{} has {} tilings of {precision}", file.display(), kept.len(precision)),
        })
    }
}

/// Whose times a file's are.
fn measured_on(device: Device) -> String {
    match device {
        Device::Cuda(number, _) => gpus::find(number).map_or_else(|_| "a GPU".into(), |info| info.name),
        Device::Cpu | Device::Emulated(_) => EMULATED.into(),
    }
}

/// Of other GPUs, whose tilings stay in the file beside those that are measured now.
fn warn_of_others(file: &Path, there: &Tilings, on: &str) {
    let others: BTreeSet<&str> = there.notes().iter().map(|note| note.on.as_str()).collect();
    let others: Vec<&str> = others.into_iter().filter(|other| *other != on).collect();
    if !others.is_empty() {
        say(&format!(
            "{} has tilings that were measured on {}: those of convolutions that are not timed now stay in it",
            file.display(),
            others.join(" and on ")
        ));
    }
}

/// Has each problem made by its best tiling, which is written down where the model would choose another.
fn keep(tilings: &mut Tilings, precision: Precision, rows: &[Row]) {
    for row in rows {
        let best = &row.best().tiling;
        tilings.set(precision, row.problem, (*best != row.timings.by_model).then(|| best.clone()));
    }
}

/// The problems of a pass, timed; those that take longest first.
struct Timing<'s> {
    sample: &'s Sample,
    mode: Mode,
    repeats: Repeats,
}

impl CudaWork for Timing<'_> {
    type Output = Result<Vec<Row>>;

    fn run<D: Driver>(self, cuda: &Cuda<D>) -> Self::Output {
        let calls = calls(self.sample, self.mode, cuda.precision())?;
        let mut bench = Bench::new(cuda, calls.keys(), self.repeats);
        let mut progress = Progress::new(calls.len() as u64, "timing tilings");
        let mut rows = Vec::new();
        for (problem, calls) in calls {
            let timings = match cuda.precision() {
                Precision::Fp32 | Precision::Tf32 => bench.time::<f32>(&problem)?,
                Precision::Bf16 => bench.time::<bf16>(&problem)?,
            };
            rows.push(Row { problem, calls, timings });
            progress.step("");
        }
        progress.finish();
        rows.sort_by(|a, b| b.in_a_pass(b.used()).total_cmp(&a.in_a_pass(a.used())));
        Ok(rows)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject: Subject { device, precision, sizes, tilings, .. }, problems, .. } = self;
        writeln!(f, "VarNet of {}, on {device}, {precision}", sizes.architecture)?;
        let header = ["convolution", "in use", "better", "calls", "predicted µs", "µs", "better µs"];
        let micros = |seconds: f64| format!("{:.1}", 1e6 * seconds);
        let cells = |row: &Row| {
            let (used, better) = (row.used(), row.better());
            vec![
                row.problem.to_string(),
                used.tiling.clone(),
                better.map_or_else(String::new, |better| better.tiling.clone()),
                row.calls.to_string(),
                micros(used.predicted_seconds),
                micros(used.seconds),
                better.map_or_else(String::new, |better| micros(better.seconds)),
            ]
        };
        let header = header.map(str::to_string).to_vec();
        writeln!(f, "{}", render(Style::Terminal, header, problems.iter().map(cells), 3))?;
        let better = problems.iter().filter(|row| row.better().is_some()).count();
        writeln!(
            f,
            "convolutions of a pass, one by one: {:.3} ms as they are, {:.3} ms at their best",
            1e3 * self.used_seconds,
            1e3 * self.best_seconds
        )?;
        if let Some(tilings) = tilings {
            writeln!(f, "{tilings}")?;
        }
        write!(f, "{better} are better than what is in use; {}", self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gains_enough_is_kept() {
        let problem: Problem = "conv3x3 18 -> 36, 1 x 320 x 184".parse().unwrap();
        let other: Problem = "conv3x3 36 -> 36, 1 x 320 x 184".parse().unwrap();
        let timed = |&(tiling, seconds): &(&str, f64)| Timed {
            tiling: tiling.into(),
            predicted_seconds: 1.0,
            seconds,
        };
        // What is in use comes first, and the model chooses "wide by 3".
        let kept = |tilings: &[(&str, f64)]| {
            let timings =
                Timings { by_model: "wide by 3".into(), tilings: tilings.iter().map(timed).collect() };
            let mut kept = Tilings::default();
            kept.set(Precision::Tf32, problem, Some("wide by 1".into()));
            kept.set(Precision::Tf32, other, Some("wide by 1".into()));
            keep(&mut kept, Precision::Tf32, &[Row { problem, calls: 2, timings }]);
            assert_eq!(kept.get(Precision::Tf32, other), Some("wide by 1"));
            kept.get(Precision::Tf32, problem).map(str::to_string)
        };
        let deep = Some("deep by 2".to_string());
        assert_eq!(kept(&[("wide by 3", 1.0), ("deep by 2", 0.96)]), deep);
        assert_eq!(kept(&[("wide by 3", 1.0), ("deep by 2", 0.98)]), None);
        assert_eq!(kept(&[("deep by 2", 1.0), ("wide by 3", 0.98)]), deep);
        assert_eq!(kept(&[("deep by 2", 1.0), ("wide by 3", 0.96)]), None);
    }
}
