//! Noisy labels with fine-tuning (Xue et al. 2024): noisy targets for the forget set, true ones for a part of the retain set.

use crate::unlearn::method::{Method, descent};
use crate::unlearn::methods::nl;

pub const METHOD: Method = Method {
    name: "nl-ft",
    title: "Noisy labels with fine-tuning",
    objective: "J(x_r) + J(x_f, y + λ·n)",
    retain: Some(descent),
    ..nl::METHOD
};
