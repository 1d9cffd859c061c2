//! SCRUB (Kurmanji et al. 2023, "Towards Unbounded Machine Unlearning", NeurIPS, arXiv:2302.09880): the network is a
//! student that disobeys its teacher, itself as it was, on the forget set, and obeys on the retain set. An epoch first
//! takes max-steps over the forget set, away from the teacher, then min-steps over the retain set, towards the teacher
//! (α) and the true targets (γ). After some epochs the max-steps end, so that the min-steps can repair what they broke.
//!
//! The paper has classifiers and the divergence of their outputs; here, in image space, the distance is J with the
//! teacher's image for a target. α = 0.001 and γ = 0.99 are those of the authors' large-scale experiments, and so are 2
//! epochs with max-steps.
//!
//! Where student and teacher are the same, the distance has no slope: as long as they are, in the first max-step, the
//! gradient is nothing but rounding and Adam goes where its moments point. (The paper's networks differ from their
//! teacher at once, by batch norm.)

use crate::run::Term;
use crate::unlearn::hyperparameters::{Hyperparameters, filled};
use crate::unlearn::knob::Knob;
use crate::unlearn::method::{Method, PLAIN, Teacher};
use crate::unlearn::mixing::Mixing;
use crate::unlearn::strength::Strength;

pub const METHOD: Method = Method {
    name: "scrub",
    title: "SCRUB",
    objective: "α·J(x_r, original(x_r)) + γ·J(x_r) − J(x_f, original(x_f))",
    retain: Some(obey),
    forget: Some(disobey),
    steps: Some(|strength| Mixing::Turns { ascent_epochs: filled(strength.hyperparameters.ascent_epochs) }),
    teachers: &[Teacher::Original],
    knobs: &[Knob::Gamma],
    gamma: |_| 0.99,
    defaults: Hyperparameters { alpha: Some(0.001), ascent_epochs: Some(2), ..Hyperparameters::NONE },
    numbers: |strength| format!(", γ = {}", strength.gamma),
    ..PLAIN
};

fn obey(strength: &Strength, batch: Term) -> Vec<Term> {
    let as_taught = Teacher::Original.teaching(batch.clone());
    let alpha = filled(strength.hyperparameters.alpha);
    vec![Term { weight: alpha, ..as_taught }, Term { weight: strength.gamma, ..batch }]
}

fn disobey(_: &Strength, batch: Term) -> Vec<Term> {
    vec![Term { weight: -1.0, ..Teacher::Original.teaching(batch) }]
}
