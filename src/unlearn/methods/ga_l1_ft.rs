//! Gradient ascent with an ℓ1 penalty and fine-tuning (Xue et al. 2024): ascent on the forget set, weights drawn to zero,
//! descent on a part of the retain set.

use crate::unlearn::method::{Method, descent};
use crate::unlearn::methods::ga_l1;

pub const METHOD: Method = Method {
    name: "ga-l1-ft",
    title: "Gradient ascent with an ℓ1 penalty and fine-tuning",
    objective: "J(x_r) − J(x_f) + γ‖θ‖₁",
    retain: Some(descent),
    ..ga_l1::METHOD
};
