//! `kerase bench --tune`: every tiling of every convolution of a pass, timed, beside the one that kerase chooses.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use half::bf16;
use serde::Serialize;

use super::Mode;
use super::operations::pass;
use super::problem::Problem as Slice;
use crate::cuda::Cuda;
use crate::cuda::driver::Driver;
use crate::cuda::driver::dry::Dry;
use crate::cuda::driver::emulated::Emulated;
use crate::cuda::tilings::{Problem, Tilings};
use crate::cuda::tune::{Bench, Repeats, Timed};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::meter::Metered;
use crate::model::Architecture;
use crate::precision::Precision;
use crate::progress::Progress;
use crate::report::table::{Style, render};

/// Launches that a GPU is timed with at a time, and bytes that they take turns with: more than any cache holds.
const LAUNCHES: usize = 40;
const ROTATED: usize = 256 << 20;
/// What another tiling must gain, as a share of the time, to be written down: less is chance.
const GAIN: f64 = 0.03;

/// A problem of the pass, with its tilings; that which kerase chooses is the first.
#[derive(Serialize)]
struct Row {
    problem: Problem,
    /// In one pass.
    calls: usize,
    tilings: Vec<Timed>,
}

impl Row {
    fn chosen(&self) -> &Timed {
        &self.tilings[0]
    }

    /// The quickest, where it gains enough.
    fn better(&self) -> Option<&Timed> {
        let quickest = self.tilings.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
        (quickest.seconds < (1.0 - GAIN) * self.chosen().seconds).then_some(quickest)
    }

    fn best(&self) -> &Timed {
        self.better().unwrap_or(self.chosen())
    }

    fn in_a_pass(&self, of: &Timed) -> f64 {
        self.calls as f64 * of.seconds
    }
}

#[derive(Serialize)]
pub struct Report {
    program: String,
    device: String,
    precision: Precision,
    #[serde(flatten)]
    architecture: Architecture,
    /// Seconds of all convolutions of a pass, one after the other: as chosen, and at their best.
    chosen_seconds: f64,
    best_seconds: f64,
    problems: Vec<Row>,
    #[serde(skip)]
    written: PathBuf,
}

/// Times the tilings of a pass and writes those that are better to a file, beside what it has for the other precision.
///
/// # Errors
/// [`Error::Input`] for a device or precision that has one tiling alone; for a file that is there and cannot be read;
/// where the device fails.
pub fn tune(
    device: Device,
    chosen: Tilings,
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
    let before = if file.exists() { Tilings::read(file)? } else { Tilings::default() };
    let replays = iters as usize;
    let problems = match device {
        Device::Cpu => unreachable!("the CPU has fp32 alone"),
        Device::Cuda(number, _) => {
            let gpu = Cuda::open(number)?.with_precision(precision).with_tilings(chosen);
            rows(&gpu, slice, mode, Repeats { launches: LAUNCHES, replays, bytes: ROTATED })?
        }
        Device::Emulated(_) => {
            let device = Cuda::new(Emulated::from_environment()?);
            let device = device.with_precision(precision).with_tilings(chosen);
            rows(&device, slice, mode, Repeats { launches: 1, replays, bytes: 0 })?
        }
    };
    let better = problems.iter().filter_map(|row| Some((row.problem, row.better()?.tiling.clone())));
    before.with(precision, better.collect()).write(file)?;
    Ok(Report {
        program: format!("kerase {}", env!("CARGO_PKG_VERSION")),
        device: device.in_words(),
        precision,
        architecture: slice.architecture,
        chosen_seconds: problems.iter().map(|row| row.in_a_pass(row.chosen())).sum(),
        best_seconds: problems.iter().map(|row| row.in_a_pass(row.best())).sum(),
        problems,
        written: file.into(),
    })
}

/// The problems of a pass, timed; those that take longest first.
fn rows<D: Driver>(cuda: &Cuda<D>, slice: &Slice, mode: Mode, repeats: Repeats) -> Result<Vec<Row>> {
    let calls = calls(slice, mode, cuda.precision())?;
    let mut bench = Bench::new(cuda, calls.keys(), repeats);
    let mut progress = Progress::new(calls.len() as u64, "timing tilings");
    let mut rows = Vec::new();
    for (problem, calls) in calls {
        let tilings = match cuda.precision() {
            Precision::Fp32 | Precision::Tf32 => bench.time::<f32>(&problem)?,
            Precision::Bf16 => bench.time::<bf16>(&problem)?,
        };
        rows.push(Row { problem, calls, tilings });
        progress.step("");
    }
    progress.finish();
    rows.sort_by(|a, b| b.in_a_pass(b.chosen()).total_cmp(&a.in_a_pass(a.chosen())));
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
        let header = ["convolution", "chosen", "better", "calls", "predicted µs", "µs", "better µs"];
        let micros = |seconds: f64| format!("{:.1}", 1e6 * seconds);
        let cells = |row: &Row| {
            let (chosen, better) = (row.chosen(), row.better());
            vec![
                row.problem.to_string(),
                chosen.tiling.clone(),
                better.map_or_else(String::new, |better| better.tiling.clone()),
                row.calls.to_string(),
                micros(chosen.predicted_seconds),
                micros(chosen.seconds),
                better.map_or_else(String::new, |better| micros(better.seconds)),
            ]
        };
        let header = header.map(str::to_string).to_vec();
        writeln!(f, "{}", render(Style::Terminal, header, problems.iter().map(cells), 3))?;
        let better = problems.iter().filter(|row| row.better().is_some()).count();
        writeln!(
            f,
            "convolutions of a pass: {:.3} ms as chosen, {:.3} ms at their best",
            1e3 * self.chosen_seconds,
            1e3 * self.best_seconds
        )?;
        write!(f, "{better} better tilings in {}", self.written.display())
    }
}
