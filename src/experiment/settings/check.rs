//! What no study can work with, found out before anything starts.

use super::{MethodRow, SetSource, Settings, Subjects};
use crate::batch::Sampler;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::unlearn::{Knob, Method, OptimizerState};

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::input(what));
        if self.seeds.is_empty() {
            return refuse("seeds = []: a study needs at least one".into());
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
        let labels: Vec<&str> = self.methods.iter().map(MethodRow::label).collect();
        if let Some(twice) = repeated(&labels) {
            return refuse(format!("methods: two are called {twice}; give one of them another label"));
        }
        if let Some(taken) = labels.iter().find(|label| ["G", "oracle"].contains(label)) {
            return refuse(format!(
                "methods: {taken} is what another network is called: give the method another label"
            ));
        }
        for row in &self.methods {
            let method: Method = row.method.parse()?;
            let named = |what: String| Error::input(format!("method {}: {what}", row.label()));
            for (name, value) in
                [("forget_weight", row.forget_weight), ("noise", row.noise), ("gamma", row.gamma)]
            {
                if value.is_some_and(|value| !(value.is_finite() && value >= 0.0)) {
                    return Err(named(format!("{name}: expected a number from 0")));
                }
            }
            for (key, knob, given) in [
                ("fraction", Knob::RetainFraction, row.fraction.is_some()),
                ("recipe", Knob::Recipe, row.recipe.is_some()),
                ("forget_weight", Knob::ForgetWeight, row.forget_weight.is_some()),
                ("noise", Knob::Noise, row.noise.is_some()),
                ("gamma", Knob::Gamma, row.gamma.is_some()),
            ] {
                if given && !method.takes(knob) {
                    return Err(named(format!("{key} has no effect with {}", method.name)));
                }
            }
            if row.epochs == Some(0) {
                return Err(named("epochs start at 1".into()));
            }
        }
        if self.unlearning.optimizer_state == OptimizerState::Resume && self.unlearning.lr.is_some() {
            return refuse(
                "unlearning.lr has no effect on an optimiser that goes on with training's learning rate: leave it out, \
                 or set optimizer_state = \"fresh\""
                    .into(),
            );
        }
        if self.audit.relearn_steps > 1_000_000 {
            return refuse("audit.relearn_steps: expected a number up to 1000000".into());
        }
        if self.unlearning.epochs == 0 {
            return refuse("unlearning: epochs start at 1".into());
        }
        let mut fractions: Vec<f64> = self.methods.iter().filter_map(|row| row.fraction).collect();
        fractions.push(self.unlearning.fraction);
        if let Some(sweep) = &self.fractions {
            if let Some(twice) = repeated(&sweep.fractions) {
                return refuse(format!("fractions: {twice} is listed twice"));
            }
            if let Some(twice) = repeated(&sweep.methods) {
                return refuse(format!("fractions: {twice} is listed twice among the methods"));
            }
            fractions.extend(&sweep.fractions);
            for label in &sweep.methods {
                let Some(row) = self.methods.iter().find(|row| row.label() == label) else {
                    return refuse(format!(
                        "fractions: no method is called {label}; there are {}",
                        labels.join(", ")
                    ));
                };
                if !row.method.parse::<Method>()?.uses_retain_set() {
                    return refuse(format!("fractions: {label} does not look at the retain set"));
                }
            }
        }
        if let Some(bad) = fractions.into_iter().find(|fraction| !(*fraction > 0.0 && *fraction <= 1.0)) {
            return refuse(format!("fraction {bad}: expected a number above 0 and up to 1"));
        }
        self.check_subjects()
    }

    fn check_validation(&self) -> Result<()> {
        let keep_best = self.training.keep_best;
        let refuse = |what: String| Err(Error::input(what));
        match (&self.sets.retain_validation, &self.sets.forget_validation) {
            (None, _) if !keep_best.is_none() => refuse(format!(
                "training.keep_best = \"{}\" needs sets.retain_validation, to measure which epoch is the best",
                keep_best.name().to_lowercase()
            )),
            (None, Some(_)) => {
                refuse("sets.forget_validation needs sets.retain_validation, by which the oracle is chosen".into())
            }
            (Some(_), _) if keep_best.is_none() => refuse(
                "sets.retain_validation has no effect without training.keep_best: set that to \"psnr\", \"ssim\" or \
                 \"nmse\", or leave the set out"
                    .into(),
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

fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)).map(|(_, value)| value)
}
