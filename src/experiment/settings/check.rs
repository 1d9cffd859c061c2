//! What no study can work with, found out before anything starts.

use super::{MethodRow, SetSource, Settings, Subjects};
use crate::batch::Sampler;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::unlearn::{Knob, Method, OptimizerState};

/// What tables call networks that no method made.
const TAKEN: [&str; 2] = ["G", "oracle"];
/// Beyond any use, and what plans count one by one.
const MOST_EPOCHS: u64 = 1_000_000;

fn refuse(what: impl Into<String>) -> Result<()> {
    Err(Error::input(what.into()))
}

fn check_fraction(fraction: f64) -> Result<()> {
    match fraction > 0.0 && fraction <= 1.0 {
        true => Ok(()),
        false => refuse(format!("fraction {fraction}: expected a number above 0 and up to 1")),
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        if self.seeds.is_empty() {
            return refuse("seeds = []: a study needs at least one");
        }
        if let Some(twice) = repeated(&self.seeds) {
            return refuse(format!("seeds: {twice} is listed twice"));
        }
        self.network.check()?;
        Sampler::new(&self.sampling, 0)?;
        self.check_validation()?;
        for &seed in &self.seeds {
            self.training_optimisation(seed, Precision::default()).check()?;
        }
        self.check_unlearning()?;
        if self.audit.relearn_steps > 1_000_000 {
            return refuse("audit.relearn_steps: expected a number up to 1000000");
        }
        self.check_labels()?;
        self.methods.iter().try_for_each(MethodRow::check)?;
        self.check_fractions()?;
        self.check_subjects()
    }

    fn check_unlearning(&self) -> Result<()> {
        if self.unlearning.optimizer_state == OptimizerState::Resume && self.unlearning.lr.is_some() {
            return refuse(
                "unlearning.lr has no effect on an optimiser that goes on with training's learning rate: leave it out, \
                 or set optimizer_state = \"fresh\"",
            );
        }
        if !(1..=MOST_EPOCHS).contains(&self.unlearning.epochs) {
            return refuse(format!("unlearning: expected 1 to {MOST_EPOCHS} epochs"));
        }
        check_fraction(self.unlearning.fraction)
    }

    fn labels(&self) -> Vec<&str> {
        self.methods.iter().map(MethodRow::label).collect()
    }

    fn check_labels(&self) -> Result<()> {
        let labels = self.labels();
        if let Some(twice) = repeated(&labels) {
            return refuse(format!("methods: two are called {twice}; give one of them another label"));
        }
        match labels.iter().find(|label| TAKEN.contains(label)) {
            Some(taken) => refuse(format!(
                "methods: {taken} is what another network is called: give the method another label"
            )),
            None => Ok(()),
        }
    }

    fn check_fractions(&self) -> Result<()> {
        let Some(sweep) = &self.fractions else { return Ok(()) };
        if let Some(twice) = repeated(&sweep.fractions) {
            return refuse(format!("fractions: {twice} is listed twice"));
        }
        if let Some(twice) = repeated(&sweep.methods) {
            return refuse(format!("fractions: {twice} is listed twice among the methods"));
        }
        for label in &sweep.methods {
            let Some(row) = self.methods.iter().find(|row| row.label() == label) else {
                return refuse(format!(
                    "fractions: no method is called {label}; there are {}",
                    self.labels().join(", ")
                ));
            };
            if !row.method.parse::<Method>()?.uses_retain_set() {
                return refuse(format!("fractions: {label} does not look at the retain set"));
            }
        }
        sweep.fractions.iter().copied().try_for_each(check_fraction)
    }

    fn check_validation(&self) -> Result<()> {
        let keep_best = self.training.keep_best;
        match (&self.sets.retain_validation, &self.sets.forget_validation) {
            (None, _) if !keep_best.is_none() => refuse(format!(
                "training.keep_best = \"{}\" needs sets.retain_validation, to measure which epoch is the best",
                keep_best.name().to_lowercase()
            )),
            (None, Some(_)) => {
                refuse("sets.forget_validation needs sets.retain_validation, by which the oracle is chosen")
            }
            (Some(_), _) if keep_best.is_none() => refuse(
                "sets.retain_validation has no effect without training.keep_best: set that to \"psnr\", \"ssim\" or \
                 \"nmse\", or leave the set out",
            ),
            _ => Ok(()),
        }
    }

    /// Simulated sets are known before they are made.
    fn check_subjects(&self) -> Result<()> {
        let simulated: Vec<(&str, Subjects)> = self
            .sets
            .all()
            .into_iter()
            .filter_map(|(name, source)| match source {
                SetSource::Simulated(subjects) => Some((name, *subjects)),
                SetSource::Path(_) => None,
            })
            .collect();
        for (i, &(name, Subjects { simulate, subjects: [first, last] })) in simulated.iter().enumerate() {
            if first > last {
                return Err(Error::input(format!("sets.{name}: subjects {first} to {last} are none")));
            }
            self.simulated(simulate)?.validate()?;
            let common = simulated[..i].iter().find(|(_, other)| {
                other.simulate == simulate && other.subjects[0] <= last && first <= other.subjects[1]
            });
            if let Some((other, _)) = common {
                return Err(Error::input(format!(
                    "sets.{name} and sets.{other} have {simulate} subjects in common"
                )));
            }
        }
        Ok(())
    }
}

impl MethodRow {
    fn check(&self) -> Result<()> {
        let method: Method = self.method.parse()?;
        let refuse = |what: String| refuse(format!("method {}: {what}", self.label()));
        for (key, value) in
            [("forget_weight", self.forget_weight), ("noise", self.noise), ("gamma", self.gamma)]
        {
            if value.is_some_and(|value| !(value.is_finite() && value >= 0.0)) {
                return refuse(format!("{key}: expected a number from 0"));
            }
        }
        for (key, knob, given) in [
            ("fraction", Knob::RetainFraction, self.fraction.is_some()),
            ("recipe", Knob::Recipe, self.recipe.is_some()),
            ("forget_weight", Knob::ForgetWeight, self.forget_weight.is_some()),
            ("noise", Knob::Noise, self.noise.is_some()),
            ("gamma", Knob::Gamma, self.gamma.is_some()),
        ] {
            if given && !method.takes(knob) {
                return refuse(format!("{key} has no effect with {}", method.name));
            }
        }
        if self.epochs.is_some_and(|epochs| !(1..=MOST_EPOCHS).contains(&epochs)) {
            return refuse(format!("expected 1 to {MOST_EPOCHS} epochs"));
        }
        self.fraction.map_or(Ok(()), check_fraction)
    }
}

fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)).map(|(_, value)| value)
}
