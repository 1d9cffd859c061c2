//! `kerase bench --tune`: every tiling of every convolution of a pass, timed, beside the one that is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use half::bf16;
use serde::Serialize;

use super::operations::pass;
use super::problem::Problem as Slice;
use super::{Build, Mode, driver};
use crate::backend::ImageShape;
use crate::cli::output::check_file;
use crate::cuda::Cuda;
use crate::cuda::driver::Driver;
use crate::cuda::driver::dry::Dry;
use crate::cuda::driver::emulated::Emulated;
use crate::cuda::driver::gpus;
use crate::cuda::tilings::{Note, Problem, Tilings};
use crate::cuda::tune::{Bench, Repeats, Timed, Timings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::meter::Metered;
use crate::model::Architecture;
use crate::precision::Precision;
use crate::progress::{Progress, is_silent};
use crate::provenance;
use crate::report::table::{Style, render};

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

/// A file of tilings that is used.
#[derive(Clone, Debug, Serialize)]
pub struct FromFile {
    #[serde(rename = "tilings")]
    file: PathBuf,
    /// How many it has in this precision, and of convolutions of this pass.
    #[serde(rename = "tilings_in_file")]
    all: usize,
    #[serde(rename = "tilings_of_this_pass")]
    of_this_pass: usize,
}

impl FromFile {
    /// # Errors
    /// A file with nothing for this precision, network and slice.
    pub fn new(
        file: &Path,
        tilings: &Tilings,
        slice: &Slice,
        mode: Mode,
        precision: Precision,
    ) -> Result<Self> {
        let all = tilings.len(precision);
        if all == 0 {
            return Err(Error::input(format!("{} has no tilings of {precision}", file.display())));
        }
        let calls = calls(slice, mode, precision)?;
        let of_this_pass = tilings.of(precision).filter(|problem| calls.contains_key(problem)).count();
        if of_this_pass == 0 {
            return Err(Error::input(format!(
                "{} has {all} tilings of {precision}, none of them of a convolution of this pass: give the network, slice and \
                 mode that --tune had, or leave --tilings out",
                file.display()
            )));
        }
        Ok(Self { file: file.to_path_buf(), all, of_this_pass })
    }
}

impl fmt::Display for FromFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, all, of_this_pass } = self;
        write!(f, "{of_this_pass} of {all} tilings of {} are of this pass's convolutions", file.display())
    }
}

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    precision: Precision,
    mode: Mode,
    iters: u32,
    #[serde(flatten)]
    tilings: Option<FromFile>,
    #[serde(flatten)]
    architecture: Architecture,
    coils: usize,
    height: usize,
    width: usize,
    /// Seconds of all convolutions of a pass, one after the other: as they are, and at their best.
    used_seconds: f64,
    best_seconds: f64,
    problems: Vec<Row>,
    #[serde(skip)]
    written: String,
}

/// Times the tilings of a pass, and keeps in a file what is quicker than the models' choice: beside what it has of other
/// problems, and those that are `used`. Times of the emulated device are those of a CPU, and its file says so.
///
/// # Errors
/// [`Error::Input`] for a device or precision that has one tiling alone; for a file that is there and cannot be read, or
/// cannot be written; where the device fails.
pub fn tune(
    device: Device,
    (used, from_file): (Tilings, Option<FromFile>),
    slice: &Slice,
    mode: Mode,
    iters: u32,
    file: &Path,
) -> Result<Report> {
    let precision = device.precision();
    if precision == Precision::Fp32 {
        return Err(Error::input(format!(
            "--tune: on {device} in fp32 there is one tiling of each convolution; --precision tf32 and bf16, on \
             --device cuda:N, have several"
        )));
    }
    let mut kept = used.clone();
    if file.exists() {
        let there = Tilings::read(file)?;
        warn_of_others(file, &there, &measured_on(device));
        kept = kept.overlaid(&there);
    }
    check_file(file, true)?;
    let replays = iters as usize;
    let problems = match device {
        Device::Cpu => unreachable!("the CPU has fp32 alone"),
        Device::Cuda(number, _) => {
            let gpu = Cuda::open(number)?.with_precision(precision).with_tilings(used);
            let repeats = Repeats { launches: LAUNCHES, replays, warm_up: WARM_UP, bytes: ROTATED };
            rows(&gpu, slice, mode, repeats)?
        }
        Device::Emulated(_) => {
            if !is_silent() {
                eprintln!("--tune on the emulated device times the host: the tilings say nothing of a GPU");
            }
            let device = Cuda::new(Emulated::from_environment()?);
            let device = device.with_precision(precision).with_tilings(used);
            rows(&device, slice, mode, Repeats { launches: 1, replays, warm_up: 0.0, bytes: 0 })?
        }
    };
    keep(&mut kept, precision, &problems);
    let build = Build::this();
    let commit = build.commit.as_ref().map_or(String::new(), |commit| format!(" of commit {commit}"));
    let by = format!("by {}{commit} on {}", build.program, provenance::today());
    kept.note(Note { on: measured_on(device), precision, by });
    kept.write(file)?;
    let ImageShape { coils, rows: height, columns: width, .. } = slice.batch.shape;
    Ok(Report {
        build,
        device: device.in_words(),
        driver: driver(device),
        precision,
        mode,
        iters,
        tilings: from_file,
        architecture: slice.architecture,
        coils,
        height,
        width,
        used_seconds: problems.iter().map(|row| row.in_a_pass(row.used())).sum(),
        best_seconds: problems.iter().map(|row| row.in_a_pass(row.best())).sum(),
        problems,
        written: format!("{} has {} tilings of {precision}", file.display(), kept.len(precision)),
    })
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
    if !others.is_empty() && !is_silent() {
        eprintln!(
            "{} has tilings that were measured on {}: those of convolutions that are not timed now stay in it",
            file.display(),
            others.join(" and on ")
        );
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
fn rows<D: Driver>(cuda: &Cuda<D>, slice: &Slice, mode: Mode, repeats: Repeats) -> Result<Vec<Row>> {
    let calls = calls(slice, mode, cuda.precision())?;
    let mut bench = Bench::new(cuda, calls.keys(), repeats);
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

/// How often a pass has each problem.
fn calls(slice: &Slice, mode: Mode, precision: Precision) -> Result<BTreeMap<Problem, usize>> {
    let dry = Cuda::new(Dry::default()).with_precision(precision);
    let metered = Metered::counting(&dry, precision);
    pass(&metered, slice, mode, false, || Ok(()), 1)?;
    let mut calls = BTreeMap::new();
    for problem in metered.take()?.announced().iter().flat_map(Problem::of) {
        *calls.entry(problem).or_default() += 1;
    }
    Ok(calls)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { architecture, device, precision, problems, .. } = self;
        writeln!(f, "VarNet of {architecture}, on {device}, {precision}")?;
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
        if let Some(tilings) = &self.tilings {
            writeln!(f, "{tilings}")?;
        }
        write!(f, "{better} are better than what is in use; {}", self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::problem::Network;
    use crate::cuda::tilings::{Kind, Makes};

    #[test]
    fn a_step_has_every_convolution_of_the_network() {
        let slice = Slice::new(Network::PAPER).unwrap();
        let calls = calls(&slice, Mode::Train, Precision::Tf32).unwrap();
        let of = |kind: Kind| -> usize {
            calls.iter().filter(|(problem, _)| problem.kind == kind).map(|(_, calls)| calls).sum()
        };
        // 12 cascades and four groups of coils, with 18 convolutions and 4 transposed ones each. Nobody asks for the
        // gradient of coil images.
        assert_eq!(of(Kind::Conv3x3(Makes::Output)), 288);
        assert_eq!(of(Kind::Conv3x3(Makes::InputGradients)), 284);
        assert_eq!(of(Kind::Filters), 288);
        assert_eq!(of(Kind::Transposed(Makes::Output)), 64);
        assert_eq!(of(Kind::Transposed(Makes::InputGradients)), 64);
    }

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
