//! What the optimiser minimises, and how: the same settings for training and unlearning, as config.toml has them.

use serde::{Deserialize, Serialize};

use crate::backend::LossWeights;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::run::plateau::PlateauSettings;

/// Weight of L1 beside SSIM, as in the paper's code.
const L1_BESIDE_SSIM: f64 = 1e-5;

/// What training minimises: SSIM with a 7×7 window, L1 = mean |output − target|.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Loss {
    /// (1 − SSIM) + 1e-5·L1: what the paper's code trains on.
    #[serde(rename = "ssim+l1")]
    #[value(name = "ssim+l1")]
    SsimL1,
    /// 1 − SSIM.
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

impl Default for Optimisation {
    /// The paper's training.
    fn default() -> Self {
        Self {
            loss: Loss::SsimL1,
            lr: 1e-3,
            clip: Some(0.5),
            batch: 1,
            epochs: Some(50),
            max_steps: None,
            checkpoint_every: None,
            low_memory: false,
            precision: Precision::default(),
            shuffle: true,
            seed: 42,
            plateau: PlateauSettings { factor: 0.1, patience: 10 },
        }
    }
}

impl Optimisation {
    /// What a run cannot change while it lasts: all but its length, when it saves, its memory and its precision.
    pub fn fixed(&self) -> Self {
        let Self { epochs, max_steps, checkpoint_every, low_memory, precision, .. } = Self::default();
        Self { epochs, max_steps, checkpoint_every, low_memory, precision, ..self.clone() }
    }

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
