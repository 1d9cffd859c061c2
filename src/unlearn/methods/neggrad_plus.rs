//! NegGrad+ (Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning", NeurIPS, arXiv:2302.09880): descent on the
//! retain set and ascent on the forget set in one step, weighed by β. With β = 1 it is fine-tuning, with 0 ascent.
//!
//! A step takes a batch of each, as the authors' code does; the smaller set goes round. β is 0.95 in the paper's
//! small-scale experiments, as here, and 0.9999 in its large-scale ones.

use crate::run::Term;
use crate::unlearn::hyperparameters::{Hyperparameters, filled};
use crate::unlearn::method::{Method, PLAIN};
use crate::unlearn::mixing::Mixing;
use crate::unlearn::strength::Strength;

pub const METHOD: Method = Method {
    name: "neggrad+",
    title: "NegGrad+",
    objective: "β·J(x_r) − (1 − β)·J(x_f)",
    retain: Some(|strength, batch| vec![Term { weight: beta(strength), ..batch }]),
    forget: Some(|strength, batch| vec![Term { weight: beta(strength) - 1.0, ..batch }]),
    steps: Some(|_| Mixing::Pairs),
    defaults: Hyperparameters { beta: Some(0.95), ..Hyperparameters::NONE },
    ..PLAIN
};

fn beta(strength: &Strength) -> f64 {
    filled(strength.hyperparameters.beta)
}
