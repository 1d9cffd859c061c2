//! The audits of a study: for every seed the original and the oracle are looked at once, then each compared run.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic;
use crate::audit::evidence::{Findings, Seen};
use crate::audit::observe::Network;
use crate::audit::relearn::{MEASURED_SLICES, checks};
use crate::audit::{Audit, Observed, Request, Settings as AuditSettings, Subject};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::experiment::execute::Experiment;
use crate::experiment::graph::{Graph, Node, SetPaths, Task};
use crate::experiment::node_files::Done;
use crate::experiment::results::{AuditResult, Part};
use crate::experiment::settings::Settings;
use crate::model::Weights;
use crate::precision::Precision;
use crate::run::Outcome;
use crate::unlearn::request::NamedSet;

/// What a network's look leaves in its node's directory.
const OBSERVED: &str = "observed.json";

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
        let work = [original.map_or(0, |_| most), slices[1] as u64 + original.map_or(0, |_| relearning)];
        let what = json!({
            "training": nodes[training].key(), "sets": identities, "relearn_steps": most,
            "relearn_lr": looks.relearn_lr, "goal": original.map(|original| nodes[original].key()),
        });
        let needs = [nodes[training].needs.clone(), vec![training], original.into_iter().collect()].concat();
        nodes.push(Node::new(
            &folder,
            format!("{name}, seed {seed}, looked at"),
            &format!("{name}-seed{seed}"),
            ("observe", what),
            Task::Observe { settings: Box::new(looks.clone()), training, original },
            needs,
            work,
        ));
        nodes.len() - 1
    };
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
            Task::Audit { unlearning: run, original, oracle, record },
            needs,
            [most, slices[1] as u64 + relearning],
        );
        nodes.push(node);
    }
}

/// Looks at a training's network.
pub(super) fn observe<B: Backend>(experiment: &Experiment<'_>, ops: &B, node: &Node) -> Result<Outcome> {
    let Task::Observe { settings, training, original } = &node.task else {
        unreachable!("the caller's match")
    };
    let graph = experiment.graph;
    let weights = Weights::read(graph.training(*training).directory.join("model.safetensors"))?;
    let goal = match original {
        Some(original) => read(&graph.nodes[*original])?.goal(),
        None => None,
    };
    let network = Network { name: &node.name, weights: &weights, goal };
    let Some(observed) = Observed::of(ops, &network, &settings.open()?, settings, experiment.stop)? else {
        return Ok(Outcome::Stopped);
    };
    let path = node.directory.join(OBSERVED);
    let text =
        serde_json::to_string(&observed).map_err(|e| Error::input(format!("{}: {e}", path.display())))?;
    atomic::write_bytes(&path, (text + "\n").as_bytes())?;
    node.finish(&Done::default())?;
    Ok(Outcome::Finished)
}

/// What was found of a network that was looked at.
fn read(node: &Node) -> Result<Observed> {
    let path = node.directory.join(OBSERVED);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    serde_json::from_str(&text).map_err(|e| {
        let path = path.display();
        Error::input(format!(
            "{path} is none of this version's: {e}; remove its directory to have it made again"
        ))
    })
}

/// Looks at the network that a run left, and writes the run's audit.json.
pub(super) fn audit<B: Backend>(experiment: &Experiment<'_>, ops: &B, node: &Node) -> Result<Outcome> {
    let Task::Audit { unlearning, original, oracle, ref record } = node.task else {
        unreachable!("the caller's match")
    };
    let nodes = &experiment.graph.nodes;
    let (Task::Observe { settings, .. }, Task::Observe { training, .. }) =
        (&nodes[original].task, &nodes[oracle].task)
    else {
        unreachable!("as planned")
    };
    let run = &nodes[unlearning];
    let diverged = run.done()?.epochs.last().is_some_and(|epoch| epoch.measured.is_none());
    let subject = Subject::read(&run.directory, diverged)?;
    let sets = settings.open()?;
    let forgotten = subject.forgotten(sets.forget())?;
    let before = read(&nodes[original])?;
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
    let path = nodes[*training].directory.join("model.safetensors");
    let oracle = Seen { weights: Weights::read(&path)?, path, observed: read(&nodes[oracle])? };
    let findings = Findings {
        subject,
        sets,
        forgotten,
        settings: settings.as_ref().clone(),
        before,
        after,
        oracle: Some(oracle),
        request: Request::default(),
        provenance: experiment.provenance.clone(),
    };
    findings.record()?.write(record)?;
    node.finish(&Done::default())?;
    Ok(Outcome::Finished)
}

/// What the results keep of an audit; none for other nodes. `relative` makes paths relative to the study's directory.
pub(super) fn result(
    graph: &Graph,
    node: &Node,
    relative: &dyn Fn(&Path) -> PathBuf,
) -> Result<Option<AuditResult>> {
    let Task::Audit { unlearning, record, .. } = &node.task else { return Ok(None) };
    let run = &graph.nodes[*unlearning];
    let Task::Unlearn { config, label, .. } = &run.task else { unreachable!("as planned") };
    let Audit { membership, relearning, distances, flags, notes, .. } = Audit::read(record)?;
    Ok(Some(AuditResult {
        label: label.clone(),
        seed: config.optimisation.seed,
        audit: relative(record),
        membership,
        relearning,
        distances,
        flags,
        notes,
    }))
}
