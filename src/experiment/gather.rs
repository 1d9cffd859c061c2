//! From the directories of a finished study to its results.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::audits;
use crate::experiment::graph::Graph;
use crate::experiment::node::Task;
use crate::experiment::node_files::Done;
use crate::experiment::results::{AuditResult, Part, Picture, Results, RunResult};
use crate::experiment::settings::Settings;
use crate::paths::absolute;
use crate::provenance::Provenance;
use crate::unlearn::Method;

/// The results of a study of which everything is done. `by` says who gathers them, `device` what it computes on, for
/// people.
///
/// # Errors
/// Files that cannot be read.
pub fn gather(
    settings: &Settings,
    graph: &Graph,
    out: &Path,
    name: &str,
    (by, device): (&Provenance, String),
) -> Result<Results> {
    let root = absolute(out);
    let relative =
        |path: &Path| path.strip_prefix(&root).map_or_else(|_| path.to_path_buf(), Path::to_path_buf);
    let mut runs = Vec::new();
    let mut audits: Vec<AuditResult> = Vec::new();
    for node in &graph.nodes {
        match &node.task {
            Task::Simulate(_) | Task::Train(_) | Task::Observe(_) => {}
            Task::Measure { part, seed, training } => {
                let directory = relative(&graph.nodes[*training].directory);
                runs.push(trained(*part, *seed, directory, node.done()?));
            }
            Task::Unlearn { config, rows } => {
                let method: Method = config.method.parse()?;
                let done = node.done()?;
                runs.extend(rows.iter().map(|row| RunResult {
                    part: Part::Unlearned,
                    label: row.label.clone(),
                    title: method.title.into(),
                    method: Some(config.method.clone()),
                    fraction: method.uses_retain_set().then_some(config.retain_fraction),
                    compared: row.compared,
                    ..of_done(config.optimisation.seed, relative(&node.directory), done.clone())
                }));
            }
            Task::Audit(parts) => {
                if let Task::Unlearn { config, rows } = &graph.nodes[parts.unlearning].task {
                    audits.extend(audits::results(parts, (config, rows), &relative)?);
                }
            }
        }
    }
    let settings_text = toml::to_string(settings)
        .map_err(|e| Error::input(format!("these settings cannot be written down: {e}")))?;
    Ok(Results {
        kerase: by.kerase.clone(),
        commit: by.commit.clone(),
        name: name.into(),
        title: settings.title.clone(),
        kinds: settings.sets.kinds(),
        settings: settings_text,
        device,
        machine: by.machine.clone(),
        pictures: Vec::<Picture>::new(),
        runs,
        audits,
    })
}

fn trained(part: Part, seed: u64, directory: PathBuf, done: Done) -> RunResult {
    let (label, title) = match part {
        Part::Oracle => ("oracle", "Trained on the retain set alone"),
        Part::Original | Part::Unlearned => ("G", "Trained on both sets"),
    };
    RunResult { part, label: label.into(), title: title.into(), ..of_done(seed, directory, done) }
}

/// What a run left, and nothing of what it is.
fn of_done(seed: u64, directory: PathBuf, done: Done) -> RunResult {
    let Done { steps, seconds, epochs, kept_epoch, loss, warnings, by, threads, worst: _, record: _ } = done;
    RunResult {
        part: Part::Original,
        label: String::new(),
        title: String::new(),
        method: None,
        fraction: None,
        compared: true,
        seed,
        directory,
        steps,
        seconds,
        epochs,
        kept_epoch,
        loss,
        warnings,
        by,
        threads,
    }
}
