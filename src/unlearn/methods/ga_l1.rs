//! Gradient ascent with an ℓ1 penalty (Xue et al. 2024): the loss of the forget set is climbed while the weights are drawn to zero.

use crate::run::Term;
use crate::unlearn::knob::Knob;
use crate::unlearn::method::{Method, PLAIN};
use crate::unlearn::strength::{Recipe, Strength};

pub const METHOD: Method = Method {
    name: "ga-l1",
    title: "Gradient ascent with an ℓ1 penalty",
    objective: "−J(x_f) + γ‖θ‖₁",
    retain: None,
    forget: Some(ascent),
    l1: true,
    knobs: &[Knob::ForgetWeight, Knob::Gamma],
    recipe: true,
    numbers: |strength| {
        let Strength { recipe, forget_weight, gamma, .. } = *strength;
        format!(": J(x_f) counts {} times, γ = {gamma}", forget_weight * weight_of_ascent(recipe))
    },
    ..PLAIN
};

/// Of J on the forget set: the code has twice what the text has.
fn weight_of_ascent(recipe: Recipe) -> f64 {
    match recipe {
        Recipe::Text => -1.0,
        Recipe::Code => -2.0,
    }
}

fn ascent(strength: &Strength, batch: Term) -> Vec<Term> {
    vec![Term { weight: strength.forget_weight * weight_of_ascent(strength.recipe), ..batch }]
}
