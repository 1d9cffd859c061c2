//! The audits of a study: for every seed the original and the oracle are looked at once, then each compared run.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::atomic;
use crate::audit::evidence::{Each, FORMAT};
use crate::audit::gather::{Findings, Seen};
use crate::audit::observe::Network;
use crate::audit::relearn::{MEASURED_SLICES, checks};
use crate::audit::{Audit, AuditSettings, Observed, Request, Subject};
use crate::backend::Backend;
use crate::data::digest::{VolumeDigest, file_sha256};
use crate::error::{Error, Result};
use crate::experiment::execute::Experiment;
use crate::experiment::graph::{Amount, Node, Row, Task};
use crate::experiment::node_files::Done;
use crate::experiment::results::{AuditResult, Part};
use crate::experiment::settings::Settings;
use crate::experiment::study_sets::SetPaths;
use crate::model::Weights;
use crate::precision::Precision;
use crate::run::Outcome;
use crate::unlearn::UnlearnConfig;
use crate::unlearn::config::NamedSet;
use crate::unlearn::trained_on::TrainedOn;

/// What a network's look leaves in its node's directory.
const OBSERVED: &str = "observed.json";
/// What the original's leaves beside it: digests of all files of the sets.
const FILES: &str = "files.json";

/// What a look at a training's network is made with.
#[derive(Clone, Debug)]
pub struct Look {
    pub settings: Box<AuditSettings>,
    /// The node that left the network.
    pub training: usize,
    /// The node of the original's look, which the oracle's goes back to.
    pub original: Option<usize>,
}

/// What an audit is put together from, as indices into the nodes.
#[derive(Clone, Debug)]
pub struct AuditParts {
    pub unlearning: usize,
    /// The looks at the original and at the oracle.
    pub original: usize,
    pub oracle: usize,
    /// The oracle's training.
    pub oracle_training: usize,
    pub settings: Box<AuditSettings>,
    /// The file that it becomes, in the run's directory.
    pub record: PathBuf,
}

/// One seed's networks, as indices into the nodes: the trainings and the runs to be audited.
pub struct Audited {
    pub seed: u64,
    pub original: usize,
    pub oracle: usize,
    pub runs: Vec<usize>,
}

/// Plans the audits of a seed. `identities` tells the sets from others; `slices` are those of the forget set, and of all
/// sets that are looked at.
pub fn plan(
    nodes: &mut Vec<Node>,
    settings: &Settings,
    out: &Path,
    sets: &SetPaths,
    identities: &Value,
    slices: [usize; 2],
    audited: &Audited,
) {
    let Audited { seed, original, oracle, ref runs } = *audited;
    // The device's precision is part of what the trainings' keys say.
    let o = settings.training_optimisation(seed, Precision::default());
    let looks = AuditSettings {
        forget: sets.forget.clone(),
        unseen: sets.forget_test.clone(),
        tests: vec![NamedSet { name: "retain_test".into(), path: sets.retain_test.clone() }],
        sampling: settings.sampling.clone(),
        loss: o.loss,
        clip: o.clip,
        low_memory: o.low_memory,
        relearn_steps: settings.audit.relearn_steps,
        relearn_lr: crate::audit::settings::RELEARN_LR,
        seed,
    };
    let folder = out.join("audits");
    let most = settings.audit.relearn_steps;
    let checks = if most == 0 { 0 } else { checks(most).len() };
    let relearning = (checks * slices[0].min(MEASURED_SLICES)) as u64;
    let mut observe = |part: Part, training: usize, original: Option<usize>| {
        let name = if part == Part::Oracle { "oracle" } else { "original" };
        let steps = original.map_or(0, |_| most);
        let images = slices[1] as u64 + original.map_or(0, |_| relearning);
        let what = json!({
            "training": nodes[training].key(), "sets": identities, "format": FORMAT, "relearn_steps": most,
            "relearn_lr": looks.relearn_lr, "goal": original.map(|original| nodes[original].key()),
        });
        let needs = [nodes[training].needs.clone(), vec![training], original.into_iter().collect()].concat();
        nodes.push(Node::new(
            &folder,
            format!("{name}, seed {seed}, looked at"),
            &format!("{name}-seed{seed}"),
            ("observe", what),
            Task::Observe(Look { settings: Box::new(looks.clone()), training, original }),
            needs,
            Amount { steps, gradients: steps, images },
        ));
        nodes.len() - 1
    };
    let oracle_training = oracle;
    let original = observe(Part::Original, original, None);
    let oracle = observe(Part::Oracle, oracle, Some(original));
    for &run in runs {
        let keys = [run, original, oracle].map(|index| nodes[index].key());
        let name = format!("{}, audited", nodes[run].name);
        let slug = nodes[run].directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let needs = [nodes[run].needs.clone(), vec![run, original, oracle]].concat();
        let record = nodes[run].directory.join("audit.json");
        let node = Node::new(
            &folder,
            name,
            &slug,
            ("audit", json!(keys)),
            Task::Audit(AuditParts {
                unlearning: run,
                original,
                oracle,
                oracle_training,
                settings: Box::new(looks.clone()),
                record,
            }),
            needs,
            Amount { steps: most, gradients: most, images: slices[1] as u64 + relearning },
        );
        nodes.push(node);
    }
}

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
        Some(original) => read::<Observed>(&nodes[*original], OBSERVED)?.goal(),
        None => None,
    };
    let network = Network { name: &node.name, weights: &weights, goal };
    let sets = settings.open()?;
    let Some(observed) = Observed::of(ops, &network, &sets, settings, experiment.stop)? else {
        return Ok(Outcome::Stopped);
    };
    if original.is_none() {
        write(node, FILES, &sets.digests()?)?;
    }
    write(node, OBSERVED, &observed)?;
    node.finish(&experiment.done())?;
    Ok(Outcome::Finished)
}

/// What a look at a network left in a file.
fn read<T: DeserializeOwned>(node: &Node, file: &str) -> Result<T> {
    let path = node.directory.join(file);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    serde_json::from_str(&text).map_err(|e| {
        let path = path.display();
        Error::input(format!(
            "{path} is none of this version's: {e}; remove its directory to have it made again"
        ))
    })
}

fn write<T: Serialize>(node: &Node, file: &str, value: &T) -> Result<()> {
    let path = node.directory.join(file);
    let text = serde_json::to_string(value).map_err(|e| Error::input(format!("{}: {e}", path.display())))?;
    atomic::write_bytes(&path, (text + "\n").as_bytes())
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
    let files: Vec<Vec<VolumeDigest>> = read(&nodes[*original], FILES)?;
    subject.check_forgotten(sets.forget(), &files[0])?;
    let before: Observed = read(&nodes[*original], OBSERVED)?;
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
    let oracle = Seen { weights: Weights::read(&path)?, path, observed: read(&nodes[*oracle], OBSERVED)? };
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
