//! Gradient ascent (Xue et al. 2024): the loss of the forget set is climbed.

use crate::run::Term;
use crate::unlearn::knob::Knob;
use crate::unlearn::method::{Method, PLAIN};
use crate::unlearn::strength::Strength;

pub const METHOD: Method = Method {
    name: "ga",
    title: "Gradient ascent",
    objective: "−J(x_f)",
    retain: None,
    forget: Some(ascent),
    knobs: &[Knob::ForgetWeight],
    recipe: true,
    ..PLAIN
};

/// Climbs J.
pub(super) fn ascent(strength: &Strength, batch: Term) -> Vec<Term> {
    vec![Term { weight: -strength.forget_weight, ..batch }]
}
