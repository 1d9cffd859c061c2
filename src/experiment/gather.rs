//! From the directories of a finished study to its results.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::audits;
use crate::experiment::graph::{Graph, Node, Task};
use crate::experiment::node_files::Done;
use crate::experiment::results::{AuditResult, Part, Picture, Results, RunResult};
use crate::experiment::settings::Settings;
use crate::unlearn::Method;

/// What a study ran on, for people.
pub struct Machine {
    pub device: String,
    pub machine: String,
    pub commit: Option<String>,
}

/// The results of a study of which everything is done.
///
/// # Errors
/// Files that cannot be read.
pub fn gather(
    settings: &Settings,
    graph: &Graph,
    out: &Path,
    name: &str,
    machine: Machine,
) -> Result<Results> {
    let runs = graph.nodes.iter().map(|node| run_result(graph, node, out));
    let runs: Vec<RunResult> = runs.filter_map(Result::transpose).collect::<Result<_>>()?;
    let root = crate::config::absolute(out);
    let relative =
        |path: &Path| path.strip_prefix(&root).map_or_else(|_| path.to_path_buf(), Path::to_path_buf);
    let audited = graph.nodes.iter().map(|node| audits::result(graph, node, &relative));
    let audits: Vec<AuditResult> = audited.filter_map(Result::transpose).collect::<Result<_>>()?;
    let settings_text = toml::to_string(settings)
        .map_err(|e| Error::input(format!("these settings cannot be written down: {e}")))?;
    Ok(Results {
        kerase: env!("CARGO_PKG_VERSION").into(),
        commit: machine.commit,
        name: name.into(),
        title: settings.title.clone(),
        settings: settings_text,
        device: machine.device,
        machine: machine.machine,
        pictures: Vec::<Picture>::new(),
        runs,
        audits,
    })
}

fn looks_at_retain_set(method: &str) -> bool {
    method.parse().is_ok_and(|method: Method| method.retain)
}

/// None for what is no run of its own.
fn run_result(graph: &Graph, node: &Node, out: &Path) -> Result<Option<RunResult>> {
    let relative = |path: &Path| -> PathBuf {
        let out = crate::config::absolute(out);
        path.strip_prefix(&out).map_or_else(|_| path.to_path_buf(), Path::to_path_buf)
    };
    let Done { steps, seconds, epochs, loss, warnings, .. } = match node.task {
        Task::Simulate(_) | Task::Train(_) | Task::Observe { .. } | Task::Audit { .. } => return Ok(None),
        Task::Measure { .. } | Task::Unlearn { .. } => node.done()?,
    };
    let result = match &node.task {
        Task::Measure { part, seed, training } => {
            let (label, title) = match part {
                Part::Oracle => ("oracle", "Trained on the retain set alone"),
                _ => ("G", "Trained on both sets"),
            };
            RunResult {
                part: *part,
                label: label.into(),
                title: title.into(),
                method: None,
                fraction: None,
                compared: true,
                seed: *seed,
                directory: relative(&graph.training(*training).directory),
                steps,
                seconds,
                epochs,
                loss,
                warnings,
            }
        }
        Task::Unlearn { config, label, title, compared } => RunResult {
            part: Part::Unlearned,
            label: label.clone(),
            title: (*title).into(),
            method: Some(config.method.clone()),
            fraction: looks_at_retain_set(&config.method).then_some(config.retain_fraction),
            compared: *compared,
            seed: config.optimisation.seed,
            directory: relative(&node.directory),
            steps,
            seconds,
            epochs,
            loss,
            warnings,
        },
        Task::Simulate(_) | Task::Train(_) | Task::Observe { .. } | Task::Audit { .. } => {
            unreachable!("returned above")
        }
    };
    Ok(Some(result))
}
