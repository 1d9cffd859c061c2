//! `kerase bench --operations` and `--plan`: what each operation of a pass has to do, the least time that this takes,
//! and the time that it took.

use std::collections::BTreeMap;
use std::fmt;

use num_traits::Zero;
use serde::Serialize;

use super::Mode;
use super::problem::Problem;
use crate::backend::{Backend, ImageShape, Purpose};
use crate::cuda::Cuda;
use crate::cuda::driver::dry::Dry;
use crate::cuda::driver::gpus;
use crate::device::{Device, Work};
use crate::engine::Engine;
use crate::error::Result;
use crate::meter::Metered;
use crate::meter::ceiling::Ceiling;
use crate::meter::ledger::{Ledger, Row, by_operation, total};
use crate::model::Architecture;
use crate::precision::Precision;
use crate::report::table::{Style, render};

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
    program: String,
    device: String,
    /// "training" or "inference".
    pass: &'static str,
    #[serde(flatten)]
    architecture: Architecture,
    coils: usize,
    height: usize,
    width: usize,
    ceiling: Ceiling,
    total: Row,
    operations: Vec<Row>,
    shapes: Vec<Row>,
    /// How often each kernel is launched; of a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    launches: Option<BTreeMap<&'static str, usize>>,
}

/// Runs a pass, on whatever is metered.
pub fn pass<B: Backend<Real = f32>>(
    ops: &B,
    problem: &Problem,
    mode: Mode,
    low_memory: bool,
    mut each: impl FnMut() -> Result<()>,
    times: usize,
) -> Result<()> {
    let parameters = problem.architecture.initial_parameters(0);
    if mode == Mode::Inference {
        let mut engine = Engine::new(ops, problem.architecture, &parameters)?;
        engine.put(&problem.batch, None)?;
        for _ in 0..times {
            problem.reconstruct(&mut engine)?;
            each()?;
        }
    } else {
        let mut engine =
            Engine::for_training(ops, problem.architecture, &parameters)?.recomputing(low_memory);
        engine.put(&problem.batch, Some(&problem.reference))?;
        for _ in 0..times {
            problem.train(&mut engine)?;
            each()?;
        }
    }
    Ok(())
}

/// What a GPU that need not be here would have to do.
///
/// # Errors
/// A network or slice that is impossible.
pub fn plan(
    problem: &Problem,
    mode: Mode,
    low_memory: bool,
    ceiling: Ceiling,
    precision: Precision,
) -> Result<Report> {
    let dry = Cuda::new(Dry::default()).with_precision(precision);
    let metered = Metered::counting(&dry, precision);
    pass(&metered, problem, mode, low_memory, || Ok(()), 1)?;
    // What is counted is not carried out; the dry device carries it out and computes nothing.
    pass(&dry, problem, mode, low_memory, || Ok(()), 1)?;
    let name = format!("{}, {precision}", ceiling.name);
    let report = Report::new(problem, mode, name, ceiling.in_precision(precision), &metered.take()?, 1);
    Ok(Report { launches: Some(dry.driver().launches()), ..report })
}

/// The measurement of each operation on a device.
pub struct Measurement {
    pub device: Device,
    pub mode: Mode,
    pub low_memory: bool,
    pub iters: u32,
    pub problem: Problem,
}

impl Work for Measurement {
    type Output = Result<Report>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let Self { device, mode, low_memory, iters, problem } = self;
        let copied = copied_bytes_per_second(ops)?;
        let (name, ceiling) = ceiling(device, copied);
        let flush = if matches!(device, Device::Cuda(..)) { FLUSH } else { 0 };
        let metered = Metered::timing(ops, device.precision(), flush);
        let mut passes = 0;
        let mut warm = || {
            passes += 1;
            // The first pass makes what is made once.
            if passes == 1 { metered.take().map(drop) } else { Ok(()) }
        };
        pass(&metered, &problem, mode, low_memory, &mut warm, 1 + iters as usize)?;
        Ok(Report::new(&problem, mode, name, ceiling, &metered.take()?, iters as usize))
    }
}

/// What this device's memory does, reading and writing.
fn copied_bytes_per_second<B: Backend>(ops: &B) -> Result<f64> {
    let [mut from, mut to] = [0, 1].map(|_| ops.zeros(Purpose::Scratch, COPIED));
    // Memory that was never written may be no memory yet.
    ops.clear(&mut from);
    let mut read = [B::Real::zero()];
    let mut fastest = f64::INFINITY;
    for _ in 0..COPIES {
        let before = ops.mark();
        ops.copy_part(&from, 0, &mut to, 0, COPIED);
        let after = ops.mark();
        // What nobody reads need not be copied.
        ops.download(&to, &mut read);
        ops.finish()?;
        fastest = fastest.min(ops.seconds(&before, &after));
    }
    ops.finish()?;
    Ok((2 * size_of::<f32>() * COPIED) as f64 / fastest)
}

/// Memory as measured; arithmetic as the data sheet has it, where there is one.
fn ceiling(device: Device, bytes_per_second: f64) -> (String, Ceiling) {
    let unknown = Ceiling {
        name: "memory as measured, arithmetic unknown",
        bytes_per_second,
        matrix_flop_per_second: f64::INFINITY,
        flop_per_second: f64::INFINITY,
    };
    let Device::Cuda(number, _) = device else { return (device.described(), unknown) };
    let Ok(info) = gpus::find(number) else { return (device.described(), unknown) };
    let known = Ceiling::of_device(&info.name);
    let name = format!("{info}, {}", device.precision());
    (
        name,
        known.map_or(unknown, |sheet| Ceiling { bytes_per_second, ..sheet.in_precision(device.precision()) }),
    )
}

impl Report {
    fn new(
        problem: &Problem,
        mode: Mode,
        device: String,
        ceiling: Ceiling,
        ledger: &Ledger,
        passes: usize,
    ) -> Self {
        let mut shapes = ledger.rows(passes, ceiling);
        shapes.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
        let ImageShape { coils, rows, columns, .. } = problem.batch.shape;
        Self {
            program: format!("kerase {}", env!("CARGO_PKG_VERSION")),
            device,
            pass: if mode == Mode::Inference { "inference" } else { "training" },
            architecture: problem.architecture,
            coils,
            height: rows,
            width: columns,
            ceiling,
            total: total(&shapes),
            operations: by_operation(&shapes),
            shapes,
            launches: None,
        }
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
        let Self { architecture, pass, coils, height, width, device, ceiling, .. } = self;
        writeln!(f, "VarNet of {architecture}")?;
        writeln!(f, "{pass}, one slice of {coils} coils, {height} x {width}, on {device}")?;
        write!(f, "floor: {:.0} GB/s", ceiling.bytes_per_second / 1e9)?;
        for (rate, of) in
            [(ceiling.matrix_flop_per_second, "products"), (ceiling.flop_per_second, "other arithmetic")]
        {
            if rate.is_finite() {
                write!(f, ", {:.1} TFLOP/s of {of}", rate / 1e12)?;
            }
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
