//! The settings of a run, as they are written to its config.toml.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::backend::LossWeights;
use crate::batch::Sampling;
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::paths::absolute;
use crate::precision::Precision;
use crate::run::plateau::PlateauSettings;

/// Weight of L1 beside SSIM, as in the paper's code.
const L1_BESIDE_SSIM: f64 = 1e-5;

/// What training minimises: with J = 1 − SSIM (7×7 window) and L1 = mean |output − target|.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Loss {
    /// J + 1e-5·L1: what the paper's code trains on.
    #[serde(rename = "ssim+l1")]
    #[value(name = "ssim+l1")]
    SsimL1,
    #[serde(rename = "ssim")]
    Ssim,
    /// What the paper's text says.
    #[serde(rename = "l1")]
    L1,
}

impl Loss {
    pub fn weights(self) -> LossWeights {
        match self {
            Self::SsimL1 => LossWeights { ssim: 1.0, l1: L1_BESIDE_SSIM },
            Self::Ssim => LossWeights { ssim: 1.0, l1: 0.0 },
            Self::L1 => LossWeights { ssim: 0.0, l1: 1.0 },
        }
    }
}

/// Which network a training keeps beside its last: the one with the best mean of a measure over the validation set's volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeepBest {
    Psnr,
    Ssim,
    Nmse,
    /// Only the last is there.
    #[default]
    None,
}

impl KeepBest {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Psnr => "PSNR",
            Self::Ssim => "SSIM",
            Self::Nmse => "NMSE",
            Self::None => "none",
        }
    }
}

/// How the optimiser runs: the same for training and unlearning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimisation {
    pub loss: Loss,
    pub lr: f64,
    /// Global norm that gradients are clipped to; absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    pub batch: usize,
    /// Absent where only `max_steps` ends the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Feature maps are made again in the backward pass instead of kept: the same bits with less memory.
    #[serde(default)]
    pub low_memory: bool,
    /// What convolutions round the operands of their products to.
    #[serde(default)]
    pub precision: Precision,
    pub shuffle: bool,
    pub seed: u64,
    pub plateau: PlateauSettings,
}

impl Optimisation {
    /// # Errors
    /// A number that no run can work with.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::input(what));
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return refuse(format!("--lr {}: expected a number above 0, such as 1e-3", self.lr));
        }
        if let Some(clip) = self.clip.filter(|clip| clip.is_nan() || *clip <= 0.0) {
            return refuse(format!(
                "--clip {clip}: expected a norm above 0, such as 0.5, or inf for no clip"
            ));
        }
        if self.batch == 0
            || self.epochs == Some(0)
            || self.max_steps == Some(0)
            || self.checkpoint_every == Some(0)
        {
            return refuse("--batch, --epochs, --max-steps and --checkpoint-every start at 1".into());
        }
        // TOML's integers end here.
        if self.seed > i64::MAX as u64 {
            return refuse(format!("--seed {}: expected a number up to {}", self.seed, i64::MAX));
        }
        if self.epochs.is_none() && self.max_steps.is_none() {
            return refuse("a run needs an end: give --epochs or --max-steps".into());
        }
        if !(self.plateau.factor > 0.0 && self.plateau.factor <= 1.0) {
            return refuse(format!(
                "--lr-factor {}: expected a number above 0 and up to 1",
                self.plateau.factor
            ));
        }
        Ok(())
    }
}

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
