//! What an unlearning method is, and the two readings of the paper.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::unlearn::hyperparameters::Hyperparameters;

/// What is done with the forget set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgetting {
    /// It is not looked at.
    None,
    Ascent,
    AscentL1,
    NoisyLabels,
    /// Ascent, weighed against descent on the retain set by β, both in every step.
    Balanced,
    /// Descent towards the images of a network that has learnt nothing; on the retain set, of the original one.
    BadTeacher,
    /// Ascent away from the original network's images; on the retain set, descent towards them and the data's own, weighed
    /// by α and γ. The sets take turns within an epoch.
    Scrub,
    /// Weights that matter to it more than to all data are made smaller; there are no steps.
    Dampening,
}

/// Which weights the steps change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    All,
    /// Those that the forget set's loss depends on most.
    Salient,
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

/// A way to unlearn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// What `--method` takes.
    pub name: &'static str,
    pub title: &'static str,
    /// What is minimised, as the method's paper writes it.
    pub objective: &'static str,
    pub forgetting: Forgetting,
    pub trained: Trained,
    pub anew: Anew,
    /// Whether a part of the retain set is trained on, or looked at.
    pub retain: bool,
    /// Whether it may be run by either recipe: those of Xue et al. and what builds on them.
    pub recipe: bool,
    /// The hyperparameters that it has beside those that follow from `forgetting`, with their defaults.
    pub defaults: Hyperparameters,
}

/// To fill in what a method leaves as fine-tuning has it.
pub(super) const PLAIN: Method = Method {
    name: "",
    title: "",
    objective: "",
    forgetting: Forgetting::None,
    trained: Trained::All,
    anew: Anew::Nothing,
    retain: true,
    recipe: false,
    defaults: Hyperparameters::NONE,
};

impl Method {
    pub fn uses_forget_set(&self) -> bool {
        self.forgetting != Forgetting::None
    }

    /// γ where none is given: SCRUB's own, or that of the recipe.
    pub fn default_gamma(&self, recipe: Recipe) -> f64 {
        if self.forgetting == Forgetting::Scrub { 0.99 } else { recipe.default_gamma() }
    }

    pub fn teachers(&self) -> &'static [Teacher] {
        match self.forgetting {
            Forgetting::BadTeacher => &[Teacher::Original, Teacher::Incompetent],
            Forgetting::Scrub => &[Teacher::Original],
            Forgetting::None
            | Forgetting::Ascent
            | Forgetting::AscentL1
            | Forgetting::NoisyLabels
            | Forgetting::Balanced
            | Forgetting::Dampening => &[],
        }
    }

    /// How many slices it looks at before its first step, of so many of the retain and of the forget set.
    pub fn surveyed(&self, [retain, forget]: [usize; 2]) -> usize {
        match (self.forgetting, self.trained) {
            (Forgetting::Dampening, _) => retain + forget,
            (_, Trained::Salient) => forget,
            _ => 0,
        }
    }

    /// Terms of a retain batch: SCRUB looks at each twice.
    pub fn retain_terms(&self) -> usize {
        if self.forgetting == Forgetting::Scrub { 2 } else { 1 }
    }

    /// Buffers as large as the parameters that it needs beside training's: other networks, which weights it trains, how
    /// important they are.
    pub fn extra_networks(&self) -> usize {
        let chooses = usize::from(self.trained != Trained::All);
        let importances = if self.forgetting == Forgetting::Dampening { 2 } else { 0 };
        self.teachers().len() + chooses + importances
    }

    /// Whether it takes optimiser steps; if not, all is done before the first.
    pub fn has_steps(&self) -> bool {
        self.forgetting != Forgetting::Dampening
    }

    /// Whether Adam's moments may be those of training: where there are steps that go on from there.
    pub fn resumes_adam(&self) -> bool {
        self.has_steps() && self.anew == Anew::Nothing
    }

    pub fn default_optimizer_state(&self) -> OptimizerState {
        if self.resumes_adam() { OptimizerState::Resume } else { OptimizerState::Fresh }
    }

    /// Share of the retain set, where nobody says.
    pub fn default_retain_fraction(&self) -> f64 {
        if self.anew == Anew::Everything { 1.0 } else { 0.1 }
    }

    /// The options of `kerase unlearn` that say how it goes about it.
    pub fn options(&self) -> Vec<&'static str> {
        let mut options: Vec<&str> = match self.forgetting {
            Forgetting::None | Forgetting::Balanced | Forgetting::BadTeacher | Forgetting::Dampening => {
                vec![]
            }
            Forgetting::Ascent => vec!["--forget-weight"],
            Forgetting::AscentL1 => vec!["--forget-weight", "--gamma"],
            Forgetting::Scrub => vec!["--gamma"],
            Forgetting::NoisyLabels => vec!["--forget-weight", "--noise"],
        };
        options.extend(self.defaults.options());
        if self.recipe {
            options.push("--recipe");
        }
        if self.retain {
            options.extend(["--retain-fraction", "--fraction-of"]);
        }
        options
    }

    /// # Errors
    /// Where an option has no effect on it.
    pub fn takes(&self, option: &str) -> Result<()> {
        let options = self.options();
        if options.contains(&option) {
            return Ok(());
        }
        let takes = if options.is_empty() { "none of its kind".to_string() } else { options.join(", ") };
        Err(Error::input(format!("{option} has no effect with --method {}, which takes {takes}", self.name)))
    }
}

/// The paper's text and its published code differ; both can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// Forget and retain slices in pairs, both in one step; ascent `−J + γ‖θ‖₁`; label noise `λ·n`.
    Text,
    /// Single slices of both sets in one shuffled stream; ascent with ℓ1 is `−2J + γ‖θ‖₁`; label noise `|λ·n|`.
    Code,
}

impl Recipe {
    /// Weight of J on the forget set in ascent.
    pub fn ascent(self, l1: bool) -> f64 {
        match self {
            Self::Code if l1 => -2.0,
            _ => -1.0,
        }
    }

    /// γ where none is given: the code's is 1, the text names none.
    pub fn default_gamma(self) -> f64 {
        match self {
            Self::Text => 1e-5,
            Self::Code => 1.0,
        }
    }

    pub fn absolute_noise(self) -> bool {
        self == Self::Code
    }
}

/// Whether Adam goes on where training left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerState {
    /// Moments, step count and learning rate from the state.safetensors beside the weights, as the paper's code.
    Resume,
    /// As for a new training.
    Fresh,
}
