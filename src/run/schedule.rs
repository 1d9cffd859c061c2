//! What the steps of a run are made of: which slices, and what each contributes to the gradient.

use crate::data::volume::SliceId;

/// Which set a slice is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Retain,
    Forget,
}

/// Noise to add to the targets of a term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetNoise {
    pub lambda: f64,
    pub absolute: bool,
}

/// One batch's part of a step: `weight · J(batch)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub role: Role,
    /// Slices of one shape, of the run's set.
    pub batch: Vec<SliceId>,
    pub weight: f64,
    /// The network whose images are the targets, by its number in the engine; absent where they are the data's.
    pub teacher: Option<usize>,
    pub noise: Option<TargetNoise>,
}

impl Term {
    /// Descent towards the data's own targets.
    pub fn new(role: Role, batch: Vec<SliceId>) -> Self {
        Self { role, batch, weight: 1.0, teacher: None, noise: None }
    }
}

/// One optimiser step: the sum of its terms, plus `l1 · ‖θ‖₁`.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    pub terms: Vec<Term>,
    pub l1: f64,
}

/// The steps of each epoch: a function of the epoch alone, so that a run can be resumed anywhere.
pub trait Schedule {
    fn epoch(&self, epoch: u64) -> Vec<PlannedStep>;

    /// Whether steps are of two sets, whose losses are told apart.
    fn of_two_sets(&self) -> bool {
        false
    }

    /// The terms whose gradients are looked at before the first step.
    fn preparation(&self) -> Vec<Term> {
        Vec::new()
    }
}
