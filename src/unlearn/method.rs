//! What an unlearning method is: a constant that says all that the rest of kerase has to know of it.

use crate::data::volume::SliceId;
use crate::error::{Error, Result};
use crate::run::{Role, Term};
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::knob::Knob;
use crate::unlearn::mixing::Mixing;
use crate::unlearn::optimizer_state::OptimizerState;
use crate::unlearn::strength::{Recipe, Strength};

/// What a batch contributes to a step, made of plain descent on it.
pub type Terms = fn(&Strength, Term) -> Vec<Term>;

/// What is done before the first step, with a look at slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The weights are found that the forget set's loss depends on most: all others are frozen.
    FindsSalient,
    /// Weights are dampened by what they matter to the forget set, and to all data.
    Dampens,
}

/// Which weights the steps change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    All,
    /// Those of the last k cascades.
    LastCascades,
}

/// Which weights begin anew, with what a training of the run's seed would begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anew {
    Nothing,
    LastCascades,
    Everything,
}

/// Networks whose images are targets, by their numbers in the engine: a method has those up to the last that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teacher {
    /// The network as it was before.
    Original,
    /// Initial weights, drawn from the run's seed as those of a new training.
    Incompetent,
}

impl Teacher {
    /// The same batch with its images for targets.
    pub(super) fn teaching(self, batch: Term) -> Term {
        Term { teacher: Some(self as usize), ..batch }
    }
}

/// A way to unlearn.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// What `--method` takes.
    pub name: &'static str,
    pub title: &'static str,
    /// What is minimised, as the method's paper writes it.
    pub objective: &'static str,
    /// What is done with the part of the retain set that is used; absent where that set is not looked at.
    pub retain: Option<Terms>,
    /// What is done with the forget set; absent where it is not looked at.
    pub forget: Option<Terms>,
    /// Whether γ‖θ‖₁ is added to steps that have a forget batch.
    pub l1: bool,
    pub before: Before,
    /// How the batches of both sets become steps; absent where there are none.
    pub steps: Option<fn(&Strength) -> Mixing>,
    pub trained: Trained,
    pub anew: Anew,
    /// Those whose images `retain` and `forget` ask for.
    pub teachers: &'static [Teacher],
    /// Whether it may be run by either recipe: those of Xue et al. and what builds on them.
    pub recipe: bool,
    /// The numbers of [`Strength`] that it has.
    pub knobs: &'static [Knob],
    /// γ where none is given.
    pub gamma: fn(Recipe) -> f64,
    /// The hyperparameters that it has, with their defaults.
    pub defaults: Hyperparameters,
    /// What its objective leaves open, for the end of a sentence.
    pub numbers: fn(&Strength) -> String,
}

/// Plain descent on what is given.
pub(super) fn descent(_: &Strength, batch: Term) -> Vec<Term> {
    vec![batch]
}

/// To fill in what a method leaves as fine-tuning has it.
pub(super) const PLAIN: Method = Method {
    name: "",
    title: "",
    objective: "",
    retain: Some(descent),
    forget: None,
    l1: false,
    before: Before::Nothing,
    steps: Some(Mixing::by_recipe),
    trained: Trained::All,
    anew: Anew::Nothing,
    teachers: &[],
    recipe: false,
    knobs: &[],
    gamma: Recipe::default_gamma,
    defaults: Hyperparameters::NONE,
    numbers: |_| String::new(),
};

impl Method {
    pub fn uses_retain_set(&self) -> bool {
        self.retain.is_some()
    }

    pub fn uses_forget_set(&self) -> bool {
        self.forget.is_some()
    }

    /// What a batch contributes to a step.
    ///
    /// # Panics
    /// Where the method does not use that set.
    pub fn terms(&self, role: Role, strength: &Strength, batch: Vec<SliceId>) -> Vec<Term> {
        let terms = match role {
            Role::Retain => self.retain,
            Role::Forget => self.forget,
        };
        terms.expect("batches are of sets that the method uses")(strength, Term::new(role, batch))
    }

    /// How many terms a batch of a set makes; none of a set that is not used.
    pub fn count_terms(&self, role: Role, strength: &Strength) -> usize {
        let used = match role {
            Role::Retain => self.uses_retain_set(),
            Role::Forget => self.uses_forget_set(),
        };
        if used { self.terms(role, strength, vec![]).len() } else { 0 }
    }

    /// Whether it climbs the forget set's loss, and nothing holds it back.
    pub(super) fn only_climbs(&self, strength: &Strength) -> bool {
        let climbs = || self.terms(Role::Forget, strength, vec![]).iter().any(|term| term.weight < 0.0);
        self.uses_forget_set() && !self.uses_retain_set() && climbs()
    }

    /// How many slices it looks at before its first step, of so many of the retain and of the forget set.
    pub fn surveyed(&self, [retain, forget]: [usize; 2]) -> usize {
        match self.before {
            Before::Nothing => 0,
            Before::FindsSalient => forget,
            Before::Dampens => retain + forget,
        }
    }

    /// Buffers as large as the parameters that it needs beside training's: other networks, which weights it trains, how
    /// important they are.
    pub fn extra_networks(&self) -> usize {
        let chosen = usize::from(self.trained != Trained::All);
        let found = match self.before {
            Before::Nothing => 0,
            Before::FindsSalient => 1,
            Before::Dampens => 2,
        };
        self.teachers.len() + chosen + found
    }

    /// Whether it takes optimiser steps; if not, all is done before the first.
    pub fn has_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// Whether Adam's moments may be those of training: where there are steps that go on from there.
    pub fn resumes_adam(&self) -> bool {
        self.has_steps() && self.anew == Anew::Nothing
    }

    pub fn default_optimizer_state(&self) -> OptimizerState {
        if self.resumes_adam() { OptimizerState::Resume } else { OptimizerState::Fresh }
    }

    /// All that says how it goes about it.
    pub fn all_knobs(&self) -> Vec<Knob> {
        let mut knobs = self.knobs.to_vec();
        knobs.extend(self.defaults.knobs());
        if self.recipe {
            knobs.push(Knob::Recipe);
        }
        if self.uses_retain_set() {
            knobs.extend([Knob::RetainFraction, Knob::FractionOf]);
        }
        knobs
    }

    pub fn takes(&self, knob: Knob) -> bool {
        self.all_knobs().contains(&knob)
    }

    /// # Errors
    /// Where it does not take this.
    pub fn check_takes(&self, knob: Knob) -> Result<()> {
        if self.takes(knob) {
            return Ok(());
        }
        let knobs: Vec<String> = self.all_knobs().iter().map(Knob::to_string).collect();
        let takes = if knobs.is_empty() { "none of its kind".to_string() } else { knobs.join(", ") };
        Err(Error::input(format!("{knob} has no effect with --method {}, which takes {takes}", self.name)))
    }

    /// # Errors
    /// A number that it does not have, or that is beyond its bounds.
    pub fn check_hyperparameters(&self, hyperparameters: &Hyperparameters) -> Result<()> {
        for (knob, _, value) in hyperparameters.given() {
            self.check_takes(knob)?;
            let (within, expected) = match knob {
                Knob::Saliency => (value > 0.0 && value <= 1.0, "a share above 0 and up to 1"),
                Knob::LastCascades => (value >= 1.0, "a number from 1"),
                Knob::Beta => ((0.0..=1.0).contains(&value), "a number from 0 to 1"),
                // An infinite α of ssd selects nothing.
                Knob::Alpha if self.before == Before::Dampens => (value >= 0.0, "a number from 0, or inf"),
                _ => (value >= 0.0 && value.is_finite(), "a number from 0"),
            };
            if !within {
                return Err(Error::input(format!("{knob} {value}: expected {expected}")));
            }
        }
        Ok(())
    }

    /// The objective with its numbers.
    pub fn describe(&self, strength: &Strength) -> String {
        let mut text = self.objective.to_string();
        if self.knobs.contains(&Knob::ForgetWeight) {
            text += &format!(", forget weight {}", strength.forget_weight);
        }
        text += &strength.hyperparameters.describe();
        text += &(self.numbers)(strength);
        if self.recipe && self.uses_retain_set() && self.uses_forget_set() {
            text += match strength.recipe {
                Recipe::Text => ", a forget and a retain slice in every step",
                Recipe::Code => ", single slices of both sets in one shuffled stream",
            };
        }
        text
    }
}
