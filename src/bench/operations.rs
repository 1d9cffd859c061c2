//! `kerase bench --operations` and `--plan`: what each operation of a pass has to do, the least time that this takes,
//! and the time that it took.

use std::collections::BTreeMap;
use std::fmt;

use num_traits::Zero;
use serde::Serialize;

use super::sample::{Sample, Sizes};
use super::tilings::FromFile;
use super::{Build, Mode, Subject};
use crate::backend::{Backend, Clear, CopyPart, Purpose};
use crate::cuda::Cuda;
use crate::cuda::driver::dry::Dry;
use crate::cuda::driver::gpus;
use crate::device::{Device, Work};
use crate::error::Result;
use crate::meter::Metered;
use crate::meter::ceiling::Ceiling;
use crate::meter::ledger::{Ledger, Row, by_operation, total};
use crate::precision::Precision;
use crate::table::{Style, render};

/// Reals that are read before each operation on a GPU: more than any cache holds, and long enough for the host to
/// launch the operation meanwhile.
const FLUSH: usize = 64 << 20;
/// Reals of the copy that memory's speed is measured with, and how often.
const COPIED: usize = 64 << 20;
const COPIES: usize = 5;
/// Shapes that are shown, the longest first; JSON has all.
const SHOWN: usize = 16;

/// Everything about one pass: a training step, or an inference.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    build: Build,
    #[serde(flatten)]
    subject: Subject,
    /// "training" or "inference".
    pass: &'static str,
    low_memory: bool,
    /// Passes that were timed; none of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    iters: Option<u32>,
    /// What floors are made of: the data sheet's figures, but memory as it was measured, where it was.
    ceiling: Ceiling,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_sheet_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_bytes_per_second: Option<f64>,
    total: Row,
    operations: Vec<Row>,
    shapes: Vec<Row>,
    /// How often each kernel is launched; of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    launches: Option<BTreeMap<&'static str, usize>>,
}

/// What GPUs that need not be here would have to do.
///
/// # Errors
/// A network or slice that is impossible.
pub fn plan(
    sample: &Sample,
    mode: Mode,
    low_memory: bool,
    gpus: &[Ceiling],
    precision: Precision,
) -> Result<Vec<Report>> {
    let dry = Cuda::new(Dry::default()).with_precision(precision);
    let metered = Metered::counting(&dry, precision);
    sample.trial(&metered, mode, low_memory)?.run()?;
    // What is counted is not carried out; the dry device carries it out and computes nothing.
    sample.trial(&dry, mode, low_memory)?.run()?;
    let ledger = metered.take()?;
    let report = |&sheet: &Ceiling| {
        let subject = Subject {
            device: format!("{}, {precision}", sheet.name),
            driver: None,
            precision,
            sizes: sample.sizes(),
            tilings: None,
        };
        Report {
            data_sheet_bytes_per_second: Some(sheet.bytes_per_second),
            launches: Some(dry.driver().launches()),
            ..Report::new(subject, mode, low_memory, sheet.in_precision(precision), &ledger, 1)
        }
    };
    Ok(gpus.iter().map(report).collect())
}

/// The measurement of each operation on a device.
pub struct Measurement {
    pub device: Device,
    pub mode: Mode,
    pub low_memory: bool,
    pub iters: u32,
    pub tilings: Option<FromFile>,
    pub sample: Sample,
}

impl Work for Measurement {
    type Output = Result<Report>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Self { device, mode, low_memory, iters, tilings, sample } = self;
        let precision = device.precision();
        let copied = copied_bytes_per_second(ops)?;
        let (name, sheet) = data_sheet(device);
        let ceiling = sheet.map_or(UNKNOWN, |sheet| sheet.in_precision(precision));
        let ceiling = Ceiling { bytes_per_second: copied, ..ceiling };
        let flush = if matches!(device, Device::Cuda(..)) { FLUSH } else { 0 };
        let metered = Metered::timing(ops, precision, flush);
        let mut trial = sample.trial(&metered, mode, low_memory)?;
        // The first pass makes what is made once.
        trial.run()?;
        metered.take()?;
        for _ in 0..iters {
            trial.run()?;
        }
        let ledger = metered.take()?;
        let subject = Subject { device: name, ..Subject::new(&sample, device, tilings) };
        Ok(Report {
            iters: Some(iters),
            data_sheet_bytes_per_second: sheet.map(|sheet| sheet.bytes_per_second),
            copied_bytes_per_second: Some(copied),
            ..Report::new(subject, mode, low_memory, ceiling, &ledger, iters as usize)
        })
    }
}

/// What this device's memory does, reading and writing.
fn copied_bytes_per_second<B: Backend>(ops: &B) -> Result<f64> {
    let [mut from, mut to] = [0, 1].map(|_| ops.zeros(Purpose::Scratch, COPIED));
    // Memory that was never written may be no memory yet.
    ops.run(Clear { buffer: &mut from });
    let mut read = [B::Real::zero()];
    let mut fastest = f64::INFINITY;
    for _ in 0..COPIES {
        let before = ops.mark();
        ops.run(CopyPart { from: &from, from_offset: 0, to: &mut to, to_offset: 0, len: COPIED });
        let after = ops.mark();
        // What nobody reads need not be copied.
        ops.download(&to, &mut read);
        ops.finish()?;
        fastest = fastest.min(ops.seconds(&before, &after));
    }
    ops.finish()?;
    Ok((2 * size_of::<f32>() * COPIED) as f64 / fastest)
}

/// Of a device without a data sheet.
const UNKNOWN: Ceiling = Ceiling {
    name: "memory as measured, arithmetic unknown",
    bytes_per_second: f64::INFINITY,
    matrix_flop_per_second: f64::INFINITY,
    flop_per_second: f64::INFINITY,
};

/// The device in words, and its data sheet where it is known.
fn data_sheet(device: Device) -> (String, Option<Ceiling>) {
    let Device::Cuda(number, precision) = device else { return (device.described(), None) };
    match gpus::find(number) {
        Ok(info) => (format!("{info}, {precision}"), Ceiling::of_device(&info.name)),
        Err(_) => (device.described(), None),
    }
}

impl Report {
    /// Of so many passes in the ledger.
    fn new(
        subject: Subject,
        mode: Mode,
        low_memory: bool,
        ceiling: Ceiling,
        ledger: &Ledger,
        passes: usize,
    ) -> Self {
        let mut shapes = ledger.rows(passes, ceiling);
        shapes.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
        Self {
            build: Build::this(),
            subject,
            pass: if mode == Mode::Inference { "inference" } else { "training" },
            low_memory,
            iters: None,
            ceiling,
            data_sheet_bytes_per_second: None,
            copied_bytes_per_second: None,
            total: total(&shapes),
            operations: by_operation(&shapes),
            shapes,
            launches: None,
        }
    }

    /// What floors are made of, and where that is from.
    fn floor(&self) -> String {
        let Ceiling { name, bytes_per_second, matrix_flop_per_second, flop_per_second } = self.ceiling;
        let gigabytes = |rate: f64| format!("{:.0} GB/s", rate / 1e9);
        let from = match (self.copied_bytes_per_second, self.data_sheet_bytes_per_second) {
            (None, _) => format!("data sheet of {name}"),
            (Some(_), None) => "measured by copying".into(),
            (Some(_), Some(sheet)) => {
                format!("measured by copying; data sheet of {name}: {}", gigabytes(sheet))
            }
        };
        let arithmetic = if flop_per_second.is_finite() {
            let [products, other] = [matrix_flop_per_second, flop_per_second].map(|rate| rate / 1e12);
            format!("{products:.1} TFLOP/s of products, {other:.1} TFLOP/s of other arithmetic (data sheet)")
        } else {
            "arithmetic unknown".into()
        };
        format!("floor: {} ({from}), {arithmetic}", gigabytes(bytes_per_second))
    }

    /// The network, the pass and the slice.
    fn task(&self) -> String {
        let Self { subject: Subject { sizes, .. }, pass, .. } = self;
        let Sizes { architecture, coils, height, width } = sizes;
        let low_memory = if self.low_memory { " with little memory" } else { "" };
        format!(
            "VarNet of {architecture}\n{pass}{low_memory}, one slice of {coils} coils, {height} x {width}"
        )
    }
}

/// Plans of one pass on several GPUs.
#[derive(Serialize)]
#[serde(transparent)]
pub struct SideBySide(pub Vec<Report>);

impl fmt::Display for SideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first @ Report { total, subject, .. }) = self.0.first() else { return Ok(()) };
        writeln!(f, "{}, {}", first.task(), subject.precision)?;
        let [gigabytes, gigaflop] = [total.cost.bytes, total.cost.matrix_flop].map(|amount| amount / 1e9);
        writeln!(f, "at least {gigabytes:.3} GB, {gigaflop:.1} GFLOP of products")?;
        let header = ["GPU", "GB/s", "TFLOP/s of products", "of other", "floor ms"].map(str::to_string);
        let cells = |Report { ceiling, total, .. }: &Report| {
            vec![
                ceiling.name.to_string(),
                format!("{:.0}", ceiling.bytes_per_second / 1e9),
                format!("{:.1}", ceiling.matrix_flop_per_second / 1e12),
                format!("{:.1}", ceiling.flop_per_second / 1e12),
                format!("{:.3}", 1e3 * total.floor_seconds),
            ]
        };
        write!(f, "{}", render(Style::Terminal, header.to_vec(), self.0.iter().map(cells), 1))
    }
}

fn table(rows: &[&Row], shapes: bool) -> String {
    let timed = rows.iter().any(|row| row.seconds.is_some());
    let mut header = vec!["operation"];
    header.extend(shapes.then_some("shape"));
    header.extend(["calls", "GB", "GFLOP", "floor ms"]);
    header.extend(timed.then_some(["ms", "x floor", "GB/s", "GFLOP/s"]).into_iter().flatten());
    let cells = |row: &&Row| {
        let (gigabytes, gigaflop) = (row.cost.bytes / 1e9, (row.cost.matrix_flop + row.cost.flop) / 1e9);
        let mut cells = vec![row.operation.clone()];
        cells.extend(shapes.then(|| row.shape.clone()));
        cells.push(row.calls.to_string());
        cells.push(format!("{gigabytes:.3}"));
        cells.push(format!("{gigaflop:.2}"));
        cells.push(format!("{:.3}", 1e3 * row.floor_seconds));
        if let Some(seconds) = row.seconds {
            cells.push(format!("{:.3}", 1e3 * seconds));
            let over = seconds / row.floor_seconds;
            cells.push(if over.is_finite() { format!("{over:.1}") } else { "-".into() });
            cells.push(format!("{:.0}", gigabytes / seconds));
            cells.push(format!("{:.0}", gigaflop / seconds));
        }
        cells
    };
    let header = header.into_iter().map(str::to_string).collect();
    render(Style::Terminal, header, rows.iter().map(cells), 1 + usize::from(shapes))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, on {}", self.task(), self.subject.device)?;
        write!(f, "{}", self.floor())?;
        if let Some(tilings) = &self.subject.tilings {
            write!(f, "\n{tilings}")?;
        }
        let operations: Vec<&Row> = self.operations.iter().chain([&self.total]).collect();
        writeln!(f, "\n{}", table(&operations, false))?;
        let shown: Vec<&Row> = self.shapes.iter().take(SHOWN).collect();
        writeln!(f, "\nthe longest of {} shapes", self.shapes.len())?;
        write!(f, "{}", table(&shown, true))?;
        if let Some(launches) = &self.launches {
            let mut most: Vec<_> = launches.iter().collect();
            most.sort_by_key(|&(kernel, times)| (std::cmp::Reverse(times), kernel));
            let most: Vec<String> =
                most.iter().take(SHOWN).map(|(kernel, times)| format!("{times} of {kernel}")).collect();
            write!(f, "\n{} launches: {}, …", launches.values().sum::<usize>(), most.join(", "))?;
        }
        Ok(())
    }
}
