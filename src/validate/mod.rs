//! Every operation of the contract on a device against the float64 reference: over a table of shapes on which something
//! is likely to go wrong, and over shapes at random.
//!
//! A case runs twice on the device, in working memory that is full of NaN the first time and of large numbers the
//! second: both runs must give the same bits.

pub mod case;
pub mod cases;
pub mod checked;
pub mod family;
pub mod maps;
pub mod random;
pub mod report;
pub mod rig;
pub mod step;
pub mod tolerance;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use case::Case;
pub use checked::Checked;
pub use report::{Failure, Outcome, Problem, again};
pub use rig::Rig;

use crate::cpu::Cpu;
use crate::error::{Error, Result};
use crate::real::Real;
use report::{Row, Run, Unsupported};
use rig::Record;
use tolerance::Comparison;

/// Which cases to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Whether the shapes of the paper's network come after the table's.
    pub paper: bool,
    /// How many random cases come last.
    pub random: usize,
    pub seed: u64,
    /// What a case's name contains.
    pub only: Option<String>,
    /// What of the environment decides in which order a device computes, as "NAME=VALUE".
    pub variables: Vec<String>,
}

impl Selection {
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Case::table();
        if self.paper {
            cases.extend(Case::paper());
        }
        cases.extend(Case::random_cases(self.random, self.seed));
        if let Some(only) = &self.only {
            cases.retain(|case| case.to_string().contains(only));
        }
        cases
    }
}

/// Who is told how it goes, and may end it.
pub trait Watcher {
    /// A case comes next: whether it shall run, and those after it.
    fn next(&mut self, case: &Case) -> bool;

    fn failed(&mut self, failure: &Failure);
}

/// Nobody.
impl Watcher for () {
    fn next(&mut self, _: &Case) -> bool {
        true
    }

    fn failed(&mut self, _: &Failure) {}
}

/// Runs the selected cases on a device that people call `name`.
pub fn validate<B: Checked>(
    device: &B,
    name: &str,
    selection: &Selection,
    watcher: &mut impl Watcher,
) -> Outcome {
    let reference = Cpu::default();
    let mut run = Run { device: name.into(), cases: 0, failed: 0, unsupported: Vec::new() };
    let mut outcome = Outcome {
        seed: selection.seed,
        paper: selection.paper,
        random: selection.random,
        only: selection.only.clone(),
        ..Outcome::default()
    };
    for case in selection.cases() {
        if !watcher.next(&case) {
            outcome.incomplete = true;
            break;
        }
        if let Some(Err(error)) = case.images().map(|shape| device.check(shape)) {
            run.unsupported.push(Unsupported { case: case.to_string(), reason: error.to_string() });
            continue;
        }
        let (row, problems) = check(device, &reference, &case);
        run.cases += 1;
        run.failed += row.failed;
        outcome.row(row);
        for problem in problems {
            let again = again(name, device.precision(), selection, &case);
            let failure = Failure { device: name.into(), case: case.to_string(), problem, again };
            watcher.failed(&failure);
            outcome.failures.push(failure);
        }
    }
    if run.cases > 0 || !outcome.incomplete {
        outcome.runs.push(run);
    }
    outcome
}

/// A case on the device and on the reference, and what is wrong.
fn check<B: Checked>(device: &B, reference: &Cpu<f64>, case: &Case) -> (Row, Vec<Problem>) {
    let mut row = Row {
        operation: case.operation(),
        cases: 1,
        failed: 0,
        absolute: 0.0,
        relative: 0.0,
        tolerance: 0.0,
        used: 0.0,
        worst_case: case.to_string(),
    };
    let runs = run(device, case, f64::NAN).and_then(|first| Ok([first, run(device, case, 3e5)?]));
    let problems = match runs {
        Err(error) => {
            // Nothing is known of how far off it is.
            row.used = f64::INFINITY;
            vec![Problem::Device { message: error.to_string() }]
        }
        Ok([first, second]) => {
            let mut problems: Vec<Problem> = first.faults.iter().cloned().map(Problem::from).collect();
            let mut rig = Rig::new(reference, &case.to_string()).reference_for(device.precision());
            case.run(&mut rig);
            for (got, reference) in first.measured.iter().zip(&rig.finish().measured) {
                assert_eq!(got.label, reference.label, "a case names its results in one order");
                // The device's own tolerance: it may round more than float32 does.
                let comparison = Comparison::of(&got.values, &reference.values, got.tolerance);
                row.absolute = row.absolute.max(comparison.absolute);
                row.relative = row.relative.max(comparison.relative);
                row.raise(comparison.used(), comparison.tolerance);
                problems.extend(Problem::of(&got.label, got.values.len(), &comparison));
            }
            problems.extend(repeats(&first, &second));
            problems
        }
    };
    row.failed = usize::from(!problems.is_empty());
    (row, problems)
}

/// One run on the device, whose working memory holds `dirt`. A panic is the device's failure, not this program's.
fn run<B: Checked>(device: &B, case: &Case, dirt: f64) -> Result<Record> {
    let record = catch_unwind(AssertUnwindSafe(|| {
        device.dirty_scratch(B::Real::real(dirt));
        let mut rig = Rig::new(device, &case.to_string());
        case.run(&mut rig);
        rig.finish()
    }));
    device.finish()?;
    record.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Error::Device(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// Where two runs differ.
fn repeats(first: &Record, second: &Record) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (first, second) in first.measured.iter().zip(&second.measured) {
        let pairs = || first.values.iter().zip(&second.values);
        if let Some(index) = pairs().position(|(first, second)| first.to_bits() != second.to_bits()) {
            problems.push(Problem::Repeat {
                label: first.label.clone(),
                index,
                first: first.values[index],
                second: second.values[index],
            });
        }
    }
    problems
}
