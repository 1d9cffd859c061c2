//! What a study consists of: sets to simulate, networks to train, measure and unlearn, and what each needs first.
//!
//! Each has a directory of its own, named by a hash of everything that its result depends on: what is there is not made
//! again, and another setting leads elsewhere.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::{TrainConfig, absolute};
use crate::data::overlap::check_disjoint;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::evaluate::check_targets;
use crate::experiment::audits::{self, Audited};
use crate::experiment::results::Part;
use crate::experiment::settings::{MethodRow, SetSource, Settings, Subjects};
use crate::precision::Precision;
use crate::run::check::fingerprint;
use crate::unlearn::{Method, OptimizerState, Recipe, UnlearnConfig};

/// Grows when a result would no longer be the same for the same settings.
const FORMAT: u32 = 1;

/// Digits of a key in a directory's name.
const DIGITS: usize = 12;

/// Something to be done.
#[derive(Clone, Debug)]
pub struct Node {
    /// "NL-FT, 10 % of the retain set, seed 1".
    pub name: String,
    /// Where it is done.
    pub directory: PathBuf,
    pub task: Task,
    /// What must be done before, as indices into the graph.
    pub needs: Vec<usize>,
    /// Everything that its result depends on.
    pub settings: Value,
    /// Optimiser steps, and slices that are reconstructed to be measured.
    pub steps: u64,
    pub measured: u64,
}

#[derive(Clone, Debug)]
pub enum Task {
    /// Leaves a set in the directory.
    Simulate(Subjects),
    Train(Box<TrainConfig>),
    /// Measures what a training left.
    Measure {
        part: Part,
        seed: u64,
        training: usize,
    },
    Unlearn {
        config: Box<UnlearnConfig>,
        label: String,
        title: &'static str,
        compared: bool,
    },
    /// Looks at what a training left; `original` is the node of the original's look, which the oracle's goes back to.
    Observe {
        settings: Box<crate::audit::Settings>,
        training: usize,
        original: Option<usize>,
    },
    /// Writes the audit of an unlearning run, with what was found of the original and of the oracle.
    Audit {
        unlearning: usize,
        original: usize,
        oracle: usize,
        /// In the run's directory.
        record: PathBuf,
    },
}

/// The four sets, wherever they come from.
#[derive(Clone, Debug)]
pub struct SetPaths {
    pub retain: PathBuf,
    pub forget: PathBuf,
    pub retain_test: PathBuf,
    pub forget_test: PathBuf,
}

/// All that is to be done, each after what it needs.
#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub sets: SetPaths,
}

/// A set as the graph needs it.
struct KnownSet {
    path: PathBuf,
    /// What tells it from others.
    identity: Value,
    slices: usize,
    volumes: usize,
    /// Who makes it.
    node: Option<usize>,
}

impl Graph {
    /// Plans a study in a directory. Sets that are there already are opened and checked; nothing is written.
    ///
    /// # Errors
    /// Sets that cannot be used, that have volumes in common or that a fraction leaves nothing of; directories that
    /// another version has left.
    pub fn plan(settings: &Settings, out: &Path, precision: Precision) -> Result<Self> {
        let out = absolute(out);
        let mut nodes = Vec::new();
        let sets =
            settings.sets.all().map(|(name, source)| known_set(settings, &out, name, source, &mut nodes));
        let [retain, forget, retain_test, forget_test] = sets;
        let sets = [retain?, forget?, retain_test?, forget_test?];
        let there = settings.sets.all().into_iter().zip(&sets).filter(|(_, set)| set.node.is_none());
        check_apart(&there.map(|((name, _), set)| (name, set.path.as_path())).collect::<Vec<_>>())?;
        let [retain, forget, ..] = &sets;
        let made: Vec<usize> = sets.iter().filter_map(|set| set.node).collect();
        let measured_slices = sets[1..].iter().map(|set| set.slices as u64).sum();
        let identities = json!([forget.identity, sets[2].identity, sets[3].identity]);
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| sets[i].path.clone());
        let paths = SetPaths { retain: a, forget: b, retain_test: c, forget_test: d };
        for &seed in &settings.seeds {
            let mut original = None;
            let mut oracle = None;
            let mut runs = Vec::new();
            for (part, label, data) in
                [(Part::Original, "original", vec![retain, forget]), (Part::Oracle, "oracle", vec![retain])]
            {
                let optimisation = settings.training_optimisation(seed, precision);
                let slices: usize = data.iter().map(|set| set.slices).sum();
                let steps = optimisation.epochs.unwrap_or(0) * slices.div_ceil(optimisation.batch) as u64;
                let config = TrainConfig {
                    data: data.iter().map(|set| set.path.clone()).collect(),
                    validation: None,
                    init: None,
                    network: settings.network,
                    sampling: settings.sampling.clone(),
                    optimisation,
                };
                let what = json!({
                    "network": config.network, "sampling": config.sampling, "optimisation": config.optimisation,
                    "sets": data.iter().map(|set| &set.identity).collect::<Vec<_>>(),
                });
                let training = nodes.len();
                nodes.push(Node::new(
                    &out.join("runs"),
                    format!("{label}, seed {seed}"),
                    &format!("{label}-seed{seed}"),
                    ("train", what),
                    Task::Train(Box::new(config)),
                    made.clone(),
                    [steps, 0],
                ));
                let key = nodes[training].key();
                nodes.push(Node::new(
                    &out.join("runs"),
                    format!("{label}, seed {seed}, measured"),
                    &format!("{label}-seed{seed}-measured"),
                    ("measure", json!({ "training": key, "sets": identities })),
                    Task::Measure { part, seed, training },
                    [made.clone(), vec![training]].concat(),
                    [0, measured_slices],
                ));
                let trained = if part == Part::Oracle { &mut oracle } else { &mut original };
                *trained = Some(training);
            }
            let [original, oracle] = [original, oracle].map(|training| training.expect("trained first"));
            for (row, fraction, compared) in settings.method_runs() {
                let model = nodes[original].directory.join("model.safetensors");
                let method: Method = row.method.parse()?;
                let both = [retain.path.as_path(), forget.path.as_path()];
                let config = unlearn_config(settings, (row, &method), fraction, seed, precision, both, model);
                config.check().map_err(|error| match error {
                    Error::Input(message) => Error::input(format!("method {}: {message}", row.label())),
                    other => other,
                })?;
                let used = used_slices(retain, &config, &method, row.label())?;
                let steps = unlearning_steps(&config, &method, used, forget.slices);
                let epochs = config.optimisation.epochs.unwrap_or(0);
                let mut what = to_json(&config)?;
                // Where things lie is not what they are.
                for path in ["model", "retain", "forget"] {
                    what[path] = Value::Null;
                }
                let original_key = nodes[original].key();
                let what = json!({ "unlearning": what, "original": original_key, "sets": identities });
                let percent = fraction * 100.0;
                let (of, slug) = match method.retain {
                    true => {
                        (format!(", {percent} % of the retain set"), format!("{}-{percent}pct", row.label()))
                    }
                    false => (String::new(), row.label().to_string()),
                };
                nodes.push(Node::new(
                    &out.join("runs"),
                    format!("{}{of}, seed {seed}", row.label()),
                    &format!("{slug}-seed{seed}"),
                    ("unlearn", what),
                    Task::Unlearn {
                        config: Box::new(config),
                        label: row.label().to_string(),
                        title: method.title,
                        compared,
                    },
                    [made.clone(), vec![original]].concat(),
                    [steps, epochs * measured_slices],
                ));
                if compared {
                    runs.push(nodes.len() - 1);
                }
            }
            if settings.audit.enabled {
                let slices = [forget.slices, measured_slices as usize];
                let audited = Audited { seed, original, oracle, runs };
                audits::plan(&mut nodes, settings, &out, &paths, &identities, slices, &audited);
            }
        }
        Ok(Self { nodes, sets: paths })
    }

    /// Where the run lies that a measurement is of.
    pub fn training(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl Node {
    pub(super) fn new(
        folder: &Path,
        name: String,
        slug: &str,
        (kind, what): (&str, Value),
        task: Task,
        needs: Vec<usize>,
        [steps, measured]: [u64; 2],
    ) -> Self {
        let settings = json!({ "format": FORMAT, "kind": kind, "what": what });
        let slug: String = slug
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' })
            .collect();
        let directory = folder.join(format!("{}-{}", slug.to_lowercase(), key(&settings)));
        Self { name, directory, task, needs, settings, steps, measured }
    }

    /// A hash of all that the result depends on.
    pub fn key(&self) -> String {
        key(&self.settings)
    }
}

fn key(settings: &Value) -> String {
    // serde_json's maps are sorted: equal settings are equal texts.
    let digest = Sha256::digest(settings.to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..DIGITS].to_string()
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::input(format!("these settings cannot be written down: {e}")))
}

fn known_set(
    settings: &Settings,
    out: &Path,
    name: &str,
    source: &SetSource,
    nodes: &mut Vec<Node>,
) -> Result<KnownSet> {
    match source {
        SetSource::Path(path) => {
            let set = VolumeSet::open(path)?;
            check_targets(&set)?;
            let (slices, volumes) = (set.slice_count(), set.volumes().len());
            let identity = Value::String(fingerprint(&set));
            Ok(KnownSet { path: path.clone(), identity, slices, volumes, node: None })
        }
        SetSource::Simulated(subjects) => {
            let config = settings.simulated(subjects.simulate)?;
            let volumes = (subjects.subjects[1] - subjects.subjects[0] + 1) as usize;
            let what = json!({ "simulate": config, "subjects": subjects.subjects });
            let node = Node::new(
                &out.join("data"),
                format!("simulated set {name}"),
                name,
                ("simulate", what),
                Task::Simulate(*subjects),
                Vec::new(),
                [0, 0],
            );
            let (path, identity) = (node.directory.clone(), node.settings.clone());
            nodes.push(node);
            let slices = volumes * config.slices;
            Ok(KnownSet { path, identity, slices, volumes, node: Some(nodes.len() - 1) })
        }
    }
}

fn unlearn_config(
    settings: &Settings,
    (row, method): (&MethodRow, &Method),
    fraction: f64,
    seed: u64,
    precision: Precision,
    [retain, forget]: [&Path; 2],
    model: PathBuf,
) -> UnlearnConfig {
    let recipe = row.recipe.unwrap_or(settings.unlearning.recipe);
    let optimizer_state =
        if method.resumes_adam() { settings.unlearning.optimizer_state } else { OptimizerState::Fresh };
    UnlearnConfig {
        method: row.method.clone(),
        recipe,
        model,
        retain: retain.to_path_buf(),
        forget: forget.to_path_buf(),
        retain_fraction: fraction,
        fraction_of: settings.unlearning.fraction_of,
        forget_weight: row.forget_weight.unwrap_or(1.0),
        noise: row.noise.unwrap_or(1e-5),
        gamma: row.gamma.unwrap_or(method.default_gamma(recipe)),
        hyperparameters: row.hyperparameters.or(method.defaults),
        optimizer_state,
        tests: Vec::new(),
        // The study measures after every epoch.
        measure: false,
        sampling: settings.sampling.clone(),
        optimisation: settings.unlearning_optimisation(row, method, seed, precision),
    }
}

/// Slices of the retain set that a run works with.
fn used_slices(retain: &KnownSet, config: &UnlearnConfig, method: &Method, label: &str) -> Result<usize> {
    use crate::data::set::FractionOf;
    if !method.retain {
        return Ok(0);
    }
    let (count, what) = match config.fraction_of {
        FractionOf::Slices => (retain.slices, "slices"),
        FractionOf::Volumes => (retain.volumes, "volumes"),
    };
    let kept = (count as f64 * config.retain_fraction).round_ties_even() as usize;
    if kept == 0 {
        return Err(Error::input(format!(
            "{label}: {} of the {count} {what} of the retain set is none: choose at least {:.3}",
            config.retain_fraction,
            1.0 / count as f64
        )));
    }
    Ok(match config.fraction_of {
        FractionOf::Slices => kept,
        FractionOf::Volumes => kept * retain.slices / retain.volumes,
    })
}

fn unlearning_steps(config: &UnlearnConfig, method: &Method, retain: usize, forget: usize) -> u64 {
    if !method.has_steps() {
        return 0;
    }
    let forget = if method.uses_forget_set() { forget } else { 0 };
    let slices = match config.recipe {
        Recipe::Text => retain.max(forget),
        Recipe::Code => retain + forget,
    };
    config.optimisation.epochs.unwrap_or(0) * slices.div_ceil(config.optimisation.batch) as u64
}

/// Refuses sets that have volumes in common. All must be there.
///
/// # Errors
/// Naming the volumes.
pub fn check_sets(sets: &SetPaths) -> Result<()> {
    let SetPaths { retain, forget, retain_test, forget_test } = sets;
    check_apart(&[
        ("retain", retain),
        ("forget", forget),
        ("retain_test", retain_test),
        ("forget_test", forget_test),
    ])
}

fn check_apart(named: &[(&str, &Path)]) -> Result<()> {
    let opened: Vec<(&str, VolumeSet)> =
        named.iter().map(|&(name, path)| Ok((name, VolumeSet::open(path)?))).collect::<Result<_>>()?;
    for (i, (name, set)) in opened.iter().enumerate() {
        for (other, earlier) in &opened[..i] {
            check_disjoint(earlier, set, [other, name])?;
        }
    }
    Ok(())
}
