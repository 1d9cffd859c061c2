//! What Adam begins an unlearning run with.

use serde::{Deserialize, Serialize};

/// Whether Adam goes on where training left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerState {
    /// Moments, step count and learning rate from the state.safetensors beside the weights, as the paper's code.
    Resume,
    /// As for a new training.
    Fresh,
}
