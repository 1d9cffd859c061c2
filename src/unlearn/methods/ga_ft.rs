//! Gradient ascent with fine-tuning (Xue et al. 2024): ascent on the forget set, descent on a part of the retain set.

use crate::unlearn::method::{Method, descent};
use crate::unlearn::methods::ga;

pub const METHOD: Method = Method {
    name: "ga-ft",
    title: "Gradient ascent with fine-tuning",
    objective: "J(x_r) − J(x_f)",
    retain: Some(descent),
    ..ga::METHOD
};
