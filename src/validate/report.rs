//! What a check found: operation by operation, failure by failure, and on which devices at all.

use serde::{Deserialize, Serialize};

use super::rig::Fault;
use super::tolerance::Comparison;
use super::{Case, Selection};
use crate::precision::Precision;
use crate::provenance::Provenance;
use crate::table::{Style, render};

/// All that was run, on one device or in several orders of an emulated one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// What computed, and on which device.
    pub by: Option<Provenance>,
    /// It was stopped before all cases had run.
    pub incomplete: bool,
    pub seed: u64,
    /// Whether the shapes of the paper's network are among the cases.
    pub paper: bool,
    /// How many of the cases were drawn with the seed; the others are written by hand.
    pub random: usize,
    /// What the names of cases had to contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    pub runs: Vec<Run>,
    pub operations: Vec<Row>,
    pub failures: Vec<Failure>,
}

/// What ran on one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub device: String,
    pub cases: usize,
    pub failed: usize,
    /// Cases that the device has no operations for, and why.
    pub unsupported: Vec<Unsupported>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unsupported {
    pub case: String,
    pub reason: String,
}

/// The worst of an operation's cases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub operation: String,
    pub cases: usize,
    pub failed: usize,
    #[serde(with = "crate::json_float")]
    pub absolute: f64,
    /// Relative to a result's scale and the value.
    #[serde(with = "crate::json_float")]
    pub relative: f64,
    /// What `relative` may be in the worst case, of one element.
    pub tolerance: f64,
    /// The largest share of a tolerance: of an element's, or of a whole result's in its norm.
    #[serde(with = "crate::json_float")]
    pub used: f64,
    /// The case that used this share.
    pub worst_case: String,
}

impl Row {
    /// Whether this uses more of its tolerance than anything before.
    pub(super) fn raise(&mut self, used: f64, tolerance: f64) -> bool {
        let more = (used, tolerance) > (self.used, self.tolerance);
        if more {
            (self.used, self.tolerance) = (used, tolerance);
        }
        more
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub device: String,
    pub case: String,
    pub problem: Problem,
    /// The command that runs the case again as it ran.
    pub again: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FAILED on {}: {}\n  {}\n  again: {}", self.device, self.case, self.problem, self.again)
    }
}

/// How to see again what a case did on the device of this name, which begins with what --device takes.
pub fn again(device: &str, precision: Precision, selection: &Selection, case: &Case) -> String {
    let mut command: String = selection.variables.iter().map(|set| format!("{set} ")).collect();
    let device = device.split(' ').next().unwrap_or_default();
    command += &format!("kerase validate --device {device} --precision {precision}");
    if selection.paper {
        command += " --paper";
    }
    if selection.random > 0 {
        command += &format!(" --random {}", selection.random);
    }
    // The emulated device draws an order of threads with it too.
    if selection.seed != 0 {
        command += &format!(" --seed {}", selection.seed);
    }
    command + &format!(" --only '{case}'")
}

/// What is wrong with a result, which `label` names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Problem {
    /// An element is further off than it may be.
    Element {
        label: String,
        index: usize,
        len: usize,
        #[serde(with = "crate::json_float")]
        got: f64,
        #[serde(with = "crate::json_float")]
        reference: f64,
        #[serde(with = "crate::json_float")]
        allowed: f64,
    },
    /// No element is, but all together are.
    Norm {
        label: String,
        #[serde(with = "crate::json_float")]
        error: f64,
        #[serde(with = "crate::json_float")]
        allowed: f64,
    },
    /// The second run, in dirty working memory, gave other bits.
    Repeat {
        label: String,
        index: usize,
        #[serde(with = "crate::json_float")]
        first: f64,
        #[serde(with = "crate::json_float")]
        second: f64,
    },
    /// Something was written that is only read.
    Changed {
        label: String,
        index: usize,
        #[serde(with = "crate::json_float")]
        before: f64,
        #[serde(with = "crate::json_float")]
        after: f64,
    },
    /// Something was written outside of the buffer.
    Fence { label: String },
    /// The device gave up.
    Device { message: String },
}

impl Problem {
    /// What of a comparison is a failure.
    pub fn of(label: &str, len: usize, comparison: &Comparison) -> Option<Self> {
        let label = label.to_string();
        match comparison.worst {
            Some(worst) if worst.used > 1.0 => Some(Self::Element {
                label,
                index: worst.index,
                len,
                got: worst.got,
                reference: worst.reference,
                allowed: worst.allowed,
            }),
            _ if comparison.norm_used() > 1.0 => {
                Some(Self::Norm { label, error: comparison.norm, allowed: comparison.norm_allowed })
            }
            _ => None,
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fence { label } => Self::Fence { label },
            Fault::Changed { label, index, before, after } => Self::Changed { label, index, before, after },
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Element { label, index, len, got, reference, allowed } => write!(
                f,
                "{label}[{index}] of {len}: {got:e} instead of {reference:e}, off by {:.2e} where {allowed:.2e} is \
                 allowed",
                (got - reference).abs()
            ),
            Self::Norm { label, error, allowed } => {
                write!(f, "{label}: an error of norm {error:.2e} where {allowed:.2e} is allowed")
            }
            Self::Repeat { label, index, first, second } => {
                write!(
                    f,
                    "{label}[{index}]: {first:e}, but {second:e} when run again in dirty working memory"
                )
            }
            Self::Changed { label, index, before, after } => {
                write!(f, "{label}[{index}]: must stay {before:e}, became {after:e}")
            }
            Self::Fence { label } => write!(f, "{label}: written outside of its buffer"),
            Self::Device { message } => f.write_str(message),
        }
    }
}

impl Outcome {
    /// Something ran everywhere to the end, and nothing failed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
            && !self.incomplete
            && !self.runs.is_empty()
            && self.runs.iter().all(|run| run.cases > 0)
    }

    /// Adds what ran elsewhere: on another device, or in another order.
    pub fn merge(&mut self, other: Self) {
        self.incomplete |= other.incomplete;
        self.runs.extend(other.runs);
        self.failures.extend(other.failures);
        for row in other.operations {
            self.row(row);
        }
    }

    /// Adds to an operation's row.
    pub fn row(&mut self, row: Row) {
        let Some(all) = self.operations.iter_mut().find(|all| all.operation == row.operation) else {
            return self.operations.push(row);
        };
        all.cases += row.cases;
        all.failed += row.failed;
        all.absolute = all.absolute.max(row.absolute);
        all.relative = all.relative.max(row.relative);
        if all.raise(row.used, row.tolerance) {
            all.worst_case = row.worst_case;
        }
    }

    /// One row an operation.
    pub fn table(&self, style: Style) -> String {
        let header = ["operation", "cases", "failed", "error", "relative", "of tolerance", "largest in"];
        let rows = self.operations.iter().map(|row| {
            vec![
                row.operation.clone(),
                row.cases.to_string(),
                row.failed.to_string(),
                format!("{:.1e}", row.absolute),
                format!("{:.1e}", row.relative),
                if row.used.is_finite() { format!("{:.0} %", 100.0 * row.used) } else { "∞".into() },
                // The operation need not be said again.
                row.worst_case.split_once(' ').map_or("", |(_, shape)| shape).to_string(),
            ]
        });
        render(style, header.map(String::from).to_vec(), rows, 1)
    }
}

/// Failures in full, after which they are only counted.
const SHOWN: usize = 20;

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(Provenance { kerase, commit, device, precision, .. }) = &self.by {
            let commit = commit.as_ref().map_or(String::new(), |commit| format!(" ({commit})"));
            writeln!(
                f,
                "kerase {kerase}{commit}: {device} in {precision} against float64 on the CPU, seed {}; what is allowed and \
                 what the columns are: kerase validate --help",
                self.seed
            )?;
        }
        writeln!(f, "{}", self.table(Style::Terminal))?;
        for failure in self.failures.iter().take(SHOWN) {
            writeln!(f, "{failure}")?;
        }
        if self.failures.len() > SHOWN {
            writeln!(f, "and {} more failures", self.failures.len() - SHOWN)?;
        }
        if self.incomplete {
            writeln!(f, "INCOMPLETE: stopped before all cases had run")?;
        }
        for (i, run) in self.runs.iter().enumerate() {
            let failed = match run.failed {
                0 => "all agree with the float64 reference".to_string(),
                failed => format!("{failed} failed"),
            };
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {} cases run, {failed}", run.device, run.cases)?;
            if let Some(first) = run.unsupported.first() {
                write!(
                    f,
                    "; {} not run, which this device does not support ({}: {})",
                    run.unsupported.len(),
                    first.case,
                    first.reason
                )?;
            }
        }
        Ok(())
    }
}
