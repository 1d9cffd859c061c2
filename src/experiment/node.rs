//! Something to be done in a study, and its directory, which is named by a hash of the settings that the result depends on, and
//! of the sets' names, slices and sizes: what is there is not made again, and another setting leads elsewhere.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::audit::AuditSettings;
use crate::experiment::results::Part;
use crate::experiment::settings::Subjects;
use crate::run::Best;
use crate::sha256::hex;
use crate::train::TrainConfig;
use crate::unlearn::UnlearnConfig;

/// Grows when a result would no longer be the same for the same settings.
const FORMAT: u32 = 2;

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
    pub work: Amount,
}

/// How much there is to do, for an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Of the optimiser.
    pub steps: u64,
    /// Batches whose gradient is computed: in a step of two terms, two.
    pub gradients: u64,
    /// Slices that are reconstructed, to be measured or to be learnt from.
    pub images: u64,
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
        /// What it is in the tables.
        rows: Vec<Row>,
    },
    /// Looks at what a training left.
    Observe(Look),
    /// Writes the audit of an unlearning run.
    Audit(AuditParts),
}

/// A run's place in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub label: String,
    /// Whether it belongs to the tables that compare methods, and not only to the one that compares fractions.
    pub compared: bool,
}

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

impl Node {
    pub(super) fn new(
        folder: &Path,
        name: String,
        slug: &str,
        (kind, what): (&str, Value),
        task: Task,
        needs: Vec<usize>,
        work: Amount,
    ) -> Self {
        let settings = json!({ "format": FORMAT, "kind": kind, "what": what });
        let slug: String = slug
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' })
            .collect();
        let directory = folder.join(format!("{}-{}", slug.to_lowercase(), key(&settings)));
        Self { name, directory, task, needs, settings, work }
    }

    /// Where a training or a run of a method leaves the network that is its result.
    pub fn weights(&self) -> PathBuf {
        match &self.task {
            Task::Train(config) if !config.keep_best.is_none() => Best::weights(&self.directory),
            _ => self.directory.join("model.safetensors"),
        }
    }

    /// A hash of all that the result depends on.
    pub fn key(&self) -> String {
        key(&self.settings)
    }
}

fn key(settings: &Value) -> String {
    // serde_json's maps are sorted: equal settings are equal texts.
    hex(Sha256::new_with_prefix(settings.to_string()))[..DIGITS].to_string()
}
