//! What a method is set with: the reading of the paper, and numbers.

use serde::{Deserialize, Serialize};

use crate::unlearn::hyperparameters::Hyperparameters;

/// The paper's text and its published code differ; both can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// Forget and retain slices in pairs, both in one step; ascent `−J + γ‖θ‖₁`; label noise `λ·n`.
    Text,
    /// Single slices of both sets in one shuffled stream; ascent with ℓ1 is `−2J + γ‖θ‖₁`; label noise `|λ·n|`.
    Code,
}

impl Recipe {
    /// γ where none is given: the code's is 1, the text names none.
    pub fn default_gamma(self) -> f64 {
        match self {
            Self::Text => 1e-5,
            Self::Code => 1.0,
        }
    }
}

/// All that a method's steps depend on beside its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    pub recipe: Recipe,
    /// Factor of J on the forget set.
    pub forget_weight: f64,
    /// λ, standard deviation of the label noise.
    pub noise: f64,
    /// γ, weight of ‖θ‖₁, or of SCRUB's loss on the retain set.
    pub gamma: f64,
    /// With the method's defaults filled in.
    pub hyperparameters: Hyperparameters,
}
