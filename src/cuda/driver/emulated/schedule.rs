//! In which order a launch is carried out.

use std::str::FromStr;

use crate::error::{Error, Result};

/// In which order the threads of a block take turns, and blocks theirs. Launches beside others are carried out at once in
/// `Forward`, and as late as may be in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    #[default]
    Forward,
    Reverse,
    Random(u64),
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward => f.pad("forward"),
            Self::Reverse => f.pad("reverse"),
            Self::Random(seed) => f.pad(&format!("random:{seed}")),
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let random = name.strip_prefix("random:").and_then(|seed| seed.parse().ok()).map(Self::Random);
        match name {
            "forward" => Some(Self::Forward),
            "reverse" => Some(Self::Reverse),
            _ => random,
        }
        .ok_or_else(|| {
            Error::input(format!("unknown schedule '{name}': expected forward, reverse or random:SEED"))
        })
    }
}
