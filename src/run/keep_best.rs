//! By what a training's best network is chosen.

use serde::{Deserialize, Serialize};

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
