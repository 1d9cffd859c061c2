//! Looks at the networks of a study, and audits its runs.

use std::path::{Path, PathBuf};

use crate::audit::evidence::Each;
use crate::audit::gather::{Findings, Seen};
use crate::audit::network::Network;
use crate::audit::{Audit, Observed, Request, Subject};
use crate::backend::Backend;
use crate::data::digest::{VolumeDigest, file_sha256};
use crate::error::Result;
use crate::experiment::node::{AuditParts, Look, Node, Row};
use crate::experiment::node_files::{Done, read_json};
use crate::experiment::results::AuditResult;
use crate::experiment::study::Experiment;
use crate::json;
use crate::model::Weights;
use crate::run::Outcome;
use crate::unlearn::UnlearnConfig;
use crate::unlearn::trained_on::TrainedOn;

/// What a network's look leaves in its node's directory.
const OBSERVED: &str = "observed.json";
/// What the original's leaves beside it: digests of all files of the sets.
const FILES: &str = "files.json";

/// Looks at a training's network.
pub(super) fn observe<B: Backend>(
    experiment: &Experiment<'_>,
    ops: &B,
    node: &Node,
    Look { settings, training, original }: &Look,
) -> Result<Outcome> {
    let nodes = &experiment.graph.nodes;
    let weights = Weights::read(nodes[*training].weights())?;
    let goal = match original {
        Some(original) => read_json::<Observed>(&nodes[*original].directory.join(OBSERVED))?.goal(),
        None => None,
    };
    let network = Network { name: &node.name, weights: &weights, goal };
    let sets = settings.open()?;
    let Some(observed) = Observed::of(ops, &network, &sets, settings, experiment.stop)? else {
        return Ok(Outcome::Stopped);
    };
    if original.is_none() {
        json::write(node.directory.join(FILES), &sets.digests()?)?;
    }
    json::write(node.directory.join(OBSERVED), &observed)?;
    node.finish(&experiment.done())?;
    Ok(Outcome::Finished)
}

/// Looks at the network that a run left, and writes the run's audit.json.
pub(super) fn audit<B: Backend>(
    experiment: &Experiment<'_>,
    ops: &B,
    node: &Node,
    AuditParts { unlearning, original, oracle, oracle_training, settings, record }: &AuditParts,
) -> Result<Outcome> {
    let nodes = &experiment.graph.nodes;
    let run = &nodes[*unlearning];
    let subject = Subject::read(&run.directory, run.has_diverged()?)?;
    let sets = settings.open()?;
    let files: Vec<Vec<VolumeDigest>> = read_json(&nodes[*original].directory.join(FILES))?;
    subject.check_forgotten(sets.forget(), &files[0])?;
    let before: Observed = read_json(&nodes[*original].directory.join(OBSERVED))?;
    let after = match &subject.after {
        None => None,
        Some(weights) => {
            let network = Network { name: &node.name, weights, goal: before.goal() };
            match Observed::of(ops, &network, &sets, settings, experiment.stop)? {
                None => return Ok(Outcome::Stopped),
                seen => seen,
            }
        }
    };
    let path = nodes[*oracle_training].weights();
    // Studies compare their sets before anything is run.
    let trained_on = Each {
        before: Some(TrainedOn::of(&subject.config.model)?),
        after: Some(TrainedOn::of(&run.weights())?),
        oracle: Some(TrainedOn::of(&path)?),
    };
    let oracle = Seen {
        weights: Weights::read(&path)?,
        path,
        observed: read_json(&nodes[*oracle].directory.join(OBSERVED))?,
    };
    let findings = Findings {
        subject,
        sets,
        files,
        trained_on,
        settings: settings.as_ref().clone(),
        before,
        after,
        oracle: Some(oracle),
        request: Request::default(),
        provenance: experiment.by.clone(),
    };
    findings.record()?.write(record)?;
    node.finish(&Done { record: Some(file_sha256(record)?), ..experiment.done() })?;
    Ok(Outcome::Finished)
}

/// What the results keep of an audit, for each row that its run is compared in. `relative` makes paths relative to the
/// study's directory.
pub(super) fn results(
    parts: &AuditParts,
    (config, rows): (&UnlearnConfig, &[Row]),
    relative: &dyn Fn(&Path) -> PathBuf,
) -> Result<Vec<AuditResult>> {
    let audit = Audit::read(&parts.record)?;
    let of_row = |row: &Row| AuditResult {
        label: row.label.clone(),
        seed: config.optimisation.seed,
        audit: relative(&parts.record),
        membership: audit.membership.clone(),
        membership_against_oracle: audit.membership_against_oracle,
        relearning: audit.relearning.clone(),
        distances: audit.distances.clone(),
        flags: audit.flags.clone(),
        notes: audit.notes.clone(),
    };
    Ok(rows.iter().filter(|row| row.compared).map(of_row).collect())
}
