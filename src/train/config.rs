//! What is asked for: `kerase train`'s settings, as config.toml has them.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::batch::Sampling;
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::paths::absolute;
use crate::run::keep_best::KeepBest;
use crate::run::optimisation::Optimisation;

/// `kerase train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Directories, files or manifests of the training set.
    pub data: Vec<PathBuf>,
    /// Likewise of the validation set; empty for none.
    #[serde(default, deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "KeepBest::is_none")]
    pub keep_best: KeepBest,
    /// Weights to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    pub network: Architecture,
    pub sampling: Sampling,
    pub optimisation: Optimisation,
}

/// There was one validation set at the most, once.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Paths {
        One(PathBuf),
        Several(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Several(paths) => paths,
    })
}

impl TrainConfig {
    /// # Errors
    /// Settings that no training can work with.
    pub fn check(&self) -> Result<()> {
        if self.validation.is_empty() && !self.keep_best.is_none() {
            return Err(Error::input(format!(
                "--keep-best {}: what is best is measured on a validation set: name one with --validation, or leave it out",
                self.keep_best.name().to_lowercase()
            )));
        }
        self.optimisation.check()
    }

    /// What decides a step.
    pub(super) fn of_steps(&self) -> Value {
        let Self { network, sampling, .. } = self;
        json!({"network": network, "sampling": sampling, "optimisation": self.optimisation.fixed()})
    }

    /// As it is written to config.toml.
    pub fn with_absolute_paths(&self) -> Self {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect();
        Self {
            data: all(&self.data),
            validation: all(&self.validation),
            init: self.init.as_deref().map(absolute),
            ..self.clone()
        }
    }
}
