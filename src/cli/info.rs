//! `kerase info`: this build and machine, a file of weights, a set of volumes, or the memory of a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::build_info::Build;
use super::labelled::weights_argument;
use super::output::{print, print_json};
use super::plan::{self, PlanArgs};
use crate::data::inspect;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::median::median;
use crate::model::{Architecture, Weights};
use crate::progress::{Progress, say};
use crate::run::usable;

const EXAMPLE: &str = "\
Example:
  kerase info                                 what this build computes with
  kerase info --model run/model.safetensors   architecture, parameters and metadata of weights
  kerase info --data brain/train --json       volumes, slices and shapes of a set
  kerase info --data brain/train --check      … and whether every slice of it can be used
  kerase info --plan --data brain/train --batch 2
                                              the memory that the largest slices of a set need
  kerase info --plan --coils 15 --matrix 640 372 --batch 2 --precision bf16
                                              … or that such slices need";

/// Says what this build can do, what is in a file of weights or a set, or what memory a network needs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Weights to describe, or the run that left them
    #[arg(long, value_name = "FILE", value_parser = weights_argument)]
    model: Option<PathBuf>,

    /// A directory, file or manifest of volumes to describe
    #[arg(long, value_name = "SET")]
    data: Option<PathBuf>,

    /// Read every slice of the set too, and say what a training would stumble over
    #[arg(long, requires = "data")]
    check: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    plan: PlanArgs,
}

/// What was found; what was not asked for is absent.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<Build>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<plan::Report>,
}

#[derive(Serialize)]
struct Model {
    file: PathBuf,
    architecture: Architecture,
    parameters: usize,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Data {
    source: String,
    volumes: usize,
    slices: usize,
    shapes: Vec<Shape>,
    /// Volumes whose k-space is undersampled already.
    with_mask: usize,
    without_target: usize,
    /// What targets go up to, over the volumes that have some.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_range: Option<Range>,
}

/// The volumes' attribute `max`.
#[derive(Serialize)]
struct Range {
    least: f64,
    median: f64,
    largest: f64,
}

#[derive(Serialize)]
struct Shape {
    coils: usize,
    /// Rows and columns of k-space.
    matrix: [usize; 2],
    /// Height and width of the target.
    target: Option<[usize; 2]>,
    slices: usize,
    #[serde(skip)]
    text: String,
}

impl Args {
    /// # Errors
    /// Where the file or the set cannot be read, or the network to plan for is impossible.
    pub fn run(self) -> Result<()> {
        let model = self.model.as_deref().map(Model::read).transpose()?;
        let set = self.data.as_deref().map(VolumeSet::open).transpose()?;
        let plan = self.plan.report(model.as_ref().map(|model| model.architecture), set.as_ref())?;
        let report = Report {
            build: (model.is_none() && self.data.is_none() && plan.is_none()).then(Build::this),
            model,
            plan,
            data: set.as_ref().map(Data::of),
        };
        if self.json {
            print_json(&report)?
        } else {
            print(report)?
        }
        match set.filter(|_| self.check) {
            Some(set) => check(&set),
            None => Ok(()),
        }
    }
}

fn check(set: &VolumeSet) -> Result<()> {
    let progress = Mutex::new(Progress::new(set.slice_count() as u64, "reading"));
    let step = || progress.lock().unwrap_or_else(PoisonError::into_inner).step("");
    let mut problems = usable::problems(set);
    problems.extend(inspect::problems(set, step));
    drop(progress);
    if problems.is_empty() {
        say("every slice can be read and used");
        return Ok(());
    }
    let lines: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    Err(Error::input(format!("{} has what cannot be used:{lines}", set.named())))
}

impl Model {
    fn read(path: &Path) -> Result<Self> {
        let weights = Weights::read(path)?;
        Ok(Self {
            file: path.to_path_buf(),
            architecture: weights.architecture,
            parameters: weights.parameters.len(),
            metadata: weights.metadata.into_iter().collect(),
        })
    }
}

impl Data {
    fn of(set: &VolumeSet) -> Self {
        let shapes = set.shapes().into_iter().map(|(shape, slices)| Shape {
            coils: shape.coils,
            matrix: shape.matrix,
            target: shape.target,
            slices,
            text: shape.to_string(),
        });
        Self {
            source: set.named(),
            volumes: set.volumes().len(),
            slices: set.slice_count(),
            shapes: shapes.collect(),
            with_mask: set.volumes().iter().filter(|v| v.mask.is_some()).count(),
            without_target: set.volumes().iter().filter(|v| v.target.is_none()).count(),
            target_range: Range::of(&set.target_ranges()),
        }
    }
}

impl Range {
    fn of(maxima: &[f64]) -> Option<Self> {
        Some(Self {
            least: maxima.iter().copied().reduce(f64::min)?,
            median: median(maxima)?,
            largest: maxima.iter().copied().reduce(f64::max)?,
        })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, median, largest } = self;
        write!(f, "max {least:.2e} to {largest:.2e}, median {median:.2e}")
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines: Vec<(&str, String)> = Vec::new();
        if let Some(build) = &self.build {
            lines.extend(build.lines());
        }
        if let Some(model) = &self.model {
            lines.push(("model", model.file.display().to_string()));
            lines.push(("network", format!("VarNet of {}", model.architecture)));
            lines.push(("parameters", model.parameters.to_string()));
            lines.extend(model.metadata.iter().map(|(key, value)| ("metadata", format!("{key} = {value}"))));
        }
        if let Some(data) = &self.data {
            lines.push(("data", data.source.clone()));
            lines.push(("volumes", data.volumes.to_string()));
            lines.push(("slices", data.slices.to_string()));
            lines.extend(data.shapes.iter().map(|s| ("", format!("{} of {}", s.slices, s.text))));
            if data.with_mask > 0 {
                lines.push(("undersampled", format!("{} volumes bring their own mask", data.with_mask)));
            }
            if let Some(range) = &data.target_range {
                lines.push(("targets", range.to_string()));
            }
            if data.without_target > 0 {
                lines.push((
                    "no target",
                    format!("{} volumes can only be reconstructed", data.without_target),
                ));
            }
        }
        let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key:<15}{value}")).collect();
        f.write_str(&lines.join("\n"))?;
        match &self.plan {
            Some(plan) if lines.is_empty() => write!(f, "{plan}"),
            Some(plan) => write!(f, "\n\n{plan}"),
            None => Ok(()),
        }
    }
}
