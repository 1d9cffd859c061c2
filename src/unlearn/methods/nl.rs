//! Noisy labels (Xue et al. 2024): the network learns the forget set with noise added to its targets.

use crate::run::Term;
use crate::run::schedule::TargetNoise;
use crate::unlearn::knob::Knob;
use crate::unlearn::method::{Method, PLAIN};
use crate::unlearn::strength::{Recipe, Strength};

pub const METHOD: Method = Method {
    name: "nl",
    title: "Noisy labels",
    objective: "J(x_f, y + λ·n)",
    retain: None,
    forget: Some(noisy),
    knobs: &[Knob::ForgetWeight, Knob::Noise],
    recipe: true,
    numbers: |strength| {
        let kind = if is_absolute(strength.recipe) { "|λ·n|" } else { "λ·n" };
        format!(", noise {kind} with λ = {}", strength.noise)
    },
    ..PLAIN
};

/// Whether the noise is never negative: the code's is not.
fn is_absolute(recipe: Recipe) -> bool {
    recipe == Recipe::Code
}

/// Descent towards targets with noise.
fn noisy(strength: &Strength, batch: Term) -> Vec<Term> {
    let noise = TargetNoise { lambda: strength.noise, absolute: is_absolute(strength.recipe) };
    vec![Term { weight: strength.forget_weight, noise: Some(noise), ..batch }]
}
