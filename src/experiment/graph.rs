//! What a study consists of: sets to simulate, networks to train, measure and unlearn, and what each needs first.
//! What rows of two tables have in common is done once.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::data::fraction::FractionOf;
use crate::error::{Error, Result};
use crate::experiment::node::{Amount, Node, Row, Task};
use crate::experiment::plan_audits::{Audited, plan_audits};
use crate::experiment::results::Part;
use crate::experiment::settings::{MethodRow, Settings};
use crate::experiment::study_sets::{KnownSets, SetPaths, known_sets};
use crate::model::VarNet;
use crate::paths::absolute;
use crate::precision::Precision;
use crate::run::Role;
use crate::run::optimisation::Optimisation;
use crate::train::TrainConfig;
use crate::unlearn::methods::last_cascades;
use crate::unlearn::{Knob, Method, OptimizerState, UnlearnConfig, paper};

/// All that is to be done, each after what it needs.
#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub sets: SetPaths,
}

impl Graph {
    /// Plans a study in a directory. Sets that are there already are opened and checked; nothing is written.
    ///
    /// # Errors
    /// Sets that cannot be used, that have volumes in common or that a fraction leaves nothing of; methods that the network
    /// has no use for.
    pub fn plan(settings: &Settings, out: &Path, precision: Precision) -> Result<Self> {
        let out = absolute(out);
        let net = VarNet::new(settings.network)?;
        let mut nodes = Vec::new();
        let sets = known_sets(settings, &net, &out, &mut nodes)?;
        let paths = SetPaths::of(&sets);
        let mut planner = Planner { settings, precision, net, out, sets, nodes };
        for &seed in &settings.seeds {
            planner.seed(seed, &paths)?;
        }
        Ok(Self { nodes: planner.nodes, sets: paths })
    }
}

struct Planner<'s> {
    settings: &'s Settings,
    precision: Precision,
    net: VarNet,
    out: PathBuf,
    sets: KnownSets,
    nodes: Vec<Node>,
}

impl Planner<'_> {
    /// Slices of the sets that every network is measured on.
    fn measured(&self) -> usize {
        self.sets.needed[1..].iter().map(|set| set.slices).sum()
    }

    /// What tells those sets from others.
    fn measured_identities(&self) -> Value {
        json!(self.sets.needed[1..].iter().map(|set| &set.identity).collect::<Vec<_>>())
    }

    /// Who simulates the sets.
    fn simulations(&self) -> Vec<usize> {
        self.sets.all().filter_map(|set| set.node).collect()
    }

    fn runs(&self) -> PathBuf {
        self.out.join("runs")
    }

    fn seed(&mut self, seed: u64, paths: &SetPaths) -> Result<()> {
        let original = self.training(Part::Original, "original", seed, 2)?;
        let oracle = self.training(Part::Oracle, "oracle", seed, 1)?;
        let mut compared = Vec::new();
        for (row, fraction, is_compared) in self.settings.method_runs() {
            let run = self.unlearning(original, row, fraction, is_compared, seed)?;
            if is_compared && !compared.contains(&run) {
                compared.push(run);
            }
        }
        if self.settings.audit.enabled {
            let slices = [self.sets.needed[1].slices, self.measured()];
            let identities = self.measured_identities();
            let audited = Audited { seed, original, oracle, runs: compared };
            plan_audits(&mut self.nodes, self.settings, &self.out, paths, &identities, slices, &audited);
        }
        Ok(())
    }

    /// A training on the first `count` sets, and its measurement; the training's index.
    fn training(&mut self, part: Part, label: &str, seed: u64, count: usize) -> Result<usize> {
        let data = &self.sets.needed[..count];
        let validation = &self.sets.validation[..count.min(self.sets.validation.len())];
        let optimisation = self.settings.training_optimisation(seed, self.precision);
        let slices: usize = data.iter().map(|set| set.slices).sum();
        let epochs = optimisation.epochs.unwrap_or(0);
        let steps = epochs * slices.div_ceil(optimisation.batch) as u64;
        let validated: usize = validation.iter().map(|set| set.slices).sum();
        let config = TrainConfig {
            data: data.iter().map(|set| set.path.clone()).collect(),
            validation: validation.iter().map(|set| set.path.clone()).collect(),
            keep_best: self.settings.training.keep_best,
            init: None,
            network: self.settings.network,
            sampling: self.settings.sampling.clone(),
            optimisation,
        };
        let mut what = json!({
            "network": config.network, "sampling": config.sampling, "optimisation": relevant(&config.optimisation)?,
            "sets": data.iter().map(|set| &set.identity).collect::<Vec<_>>(),
        });
        if !config.keep_best.is_none() {
            what["keep_best"] = to_json(&config.keep_best)?;
            what["validation"] = validation.iter().map(|set| set.identity.clone()).collect();
        }
        let training = self.push(Node::new(
            &self.runs(),
            format!("{label}, seed {seed}"),
            &format!("{label}-seed{seed}"),
            ("train", what),
            Task::Train(Box::new(config)),
            self.simulations(),
            Amount { steps, gradients: steps, images: epochs * validated as u64 },
        ));
        self.push(Node::new(
            &self.runs(),
            format!("{label}, seed {seed}, measured"),
            &format!("{label}-seed{seed}-measured"),
            (
                "measure",
                json!({ "training": self.nodes[training].key(), "sets": self.measured_identities() }),
            ),
            Task::Measure { part, seed, training },
            [self.simulations(), vec![training]].concat(),
            Amount { images: self.measured() as u64, ..Amount::default() },
        ));
        Ok(training)
    }

    /// A method's run, unless it is planned already; its index.
    fn unlearning(
        &mut self,
        original: usize,
        row: &MethodRow,
        fraction: f64,
        compared: bool,
        seed: u64,
    ) -> Result<usize> {
        let named = |error: Error| error.of(format!("method {}", row.label()));
        let method: Method = row.method.parse()?;
        let config = self.unlearn_config(row, &method, fraction, seed, original);
        config.check().map_err(named)?;
        if let Some(k) = config.hyperparameters.last_cascades {
            last_cascades::flags(&self.net, k).map_err(named)?;
        }
        let used = self.used_slices(&config, &method).map_err(named)?;
        let what = json!({
            "unlearning": unlearning_settings(&config, &method)?,
            "original": self.nodes[original].key(),
            "sets": self.measured_identities(),
        });
        let percent = percent(fraction);
        let (of, slug) = match method.uses_retain_set() {
            true => (format!(", {percent} % of the retain set"), format!("{}-{percent}pct", method.name)),
            false => (String::new(), method.name.to_string()),
        };
        let node = Node::new(
            &self.runs(),
            format!("{}{of}, seed {seed}", row.label()),
            &format!("{slug}-seed{seed}"),
            ("unlearn", what),
            Task::Unlearn { config: Box::new(config.clone()), rows: Vec::new() },
            [self.simulations(), vec![original]].concat(),
            self.unlearning_work(&config, &method, used),
        );
        let known = self.nodes.iter().position(|other| other.directory == node.directory);
        let index = known.unwrap_or_else(|| self.push(node));
        if let Task::Unlearn { rows, .. } = &mut self.nodes[index].task {
            rows.push(Row { label: row.label().into(), compared });
        }
        Ok(index)
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn unlearn_config(
        &self,
        row: &MethodRow,
        method: &Method,
        fraction: f64,
        seed: u64,
        original: usize,
    ) -> UnlearnConfig {
        let settings = self.settings;
        let recipe = row.recipe.unwrap_or(settings.unlearning.recipe);
        let optimizer_state = match method.resumes_adam() {
            true => settings.unlearning.optimizer_state,
            false => OptimizerState::Fresh,
        };
        UnlearnConfig {
            method: row.method.clone(),
            recipe,
            model: self.nodes[original].weights(),
            retain: vec![self.sets.needed[0].path.clone()],
            forget: vec![self.sets.needed[1].path.clone()],
            retain_fraction: fraction,
            fraction_of: settings.unlearning.fraction_of,
            forget_weight: row.forget_weight.unwrap_or(paper::FORGET_WEIGHT),
            noise: row.noise.unwrap_or(paper::NOISE),
            gamma: row.gamma.unwrap_or((method.gamma)(recipe)),
            hyperparameters: row.hyperparameters.or(method.defaults),
            optimizer_state,
            tests: Vec::new(),
            // The study measures after every epoch.
            measure: false,
            sampling: settings.sampling.clone(),
            optimisation: settings.unlearning_optimisation(row, method, seed, self.precision),
        }
    }

    /// Slices of the retain set that a run works with.
    fn used_slices(&self, config: &UnlearnConfig, method: &Method) -> Result<usize> {
        if !method.uses_retain_set() {
            return Ok(0);
        }
        let retain = &self.sets.needed[0];
        let (fraction, name) = (config.retain_fraction, "the retain set");
        Ok(match config.fraction_of {
            FractionOf::Slices => FractionOf::Slices.part(fraction, retain.slices, name)?,
            FractionOf::Volumes => {
                FractionOf::Volumes.part(fraction, retain.volumes, name)? * retain.slices / retain.volumes
            }
        })
    }

    fn unlearning_work(&self, config: &UnlearnConfig, method: &Method, used: usize) -> Amount {
        let forget = if method.uses_forget_set() { self.sets.needed[1].slices } else { 0 };
        let batches = [used, forget].map(|slices| slices.div_ceil(config.optimisation.batch));
        let strength = config.strength();
        let mixing = method.steps.map(|steps| steps(&strength));
        let terms = [Role::Retain, Role::Forget].map(|role| method.count_terms(role, &strength));
        let epochs = config.optimisation.epochs.unwrap_or(0);
        // What is looked at before the first step.
        let mut work = Amount { gradients: method.surveyed([used, forget]) as u64, ..Amount::default() };
        for epoch in 0..epochs {
            let ([retain, forget], steps) = mixing.map_or(([0; 2], 0), |mixing| mixing.count(epoch, batches));
            work.steps += steps as u64;
            work.gradients += (terms[0] * retain + terms[1] * forget) as u64;
            if !method.teachers.is_empty() {
                work.images += ((retain + forget) * config.optimisation.batch) as u64;
            }
            work.images += self.measured() as u64;
        }
        work
    }
}

/// What of a run's settings its result depends on.
fn relevant(optimisation: &Optimisation) -> Result<Value> {
    let mut settings = to_json(optimisation)?;
    // The same bits with or without.
    settings["low_memory"] = Value::Null;
    Ok(settings)
}

fn unlearning_settings(config: &UnlearnConfig, method: &Method) -> Result<Value> {
    let mut settings = to_json(config)?;
    settings["optimisation"] = relevant(&config.optimisation)?;
    // Where things lie is not what they are.
    for path in ["model", "retain", "forget"] {
        settings[path] = Value::Null;
    }
    for knob in Knob::ALWAYS.into_iter().filter(|&knob| !method.takes(knob)) {
        settings[knob.key()] = Value::Null;
    }
    Ok(settings)
}

/// Of 0.07, 7: not 7.000000000000001.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e4
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::input(format!("these settings cannot be written down: {e}")))
}
