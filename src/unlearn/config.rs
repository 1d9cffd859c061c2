//! What is asked for: `kerase unlearn`'s settings, as config.toml has them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batch::Sampling;
use crate::data::fraction::FractionOf;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::paths::absolute;
use crate::run::optimisation::Optimisation;
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::knob::Knob;
use crate::unlearn::method::Method;
use crate::unlearn::optimizer_state::OptimizerState;
use crate::unlearn::strength::{Recipe, Strength};

/// A set to measure before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSet {
    pub name: String,
    pub path: PathBuf,
}

/// `kerase unlearn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlearnConfig {
    pub method: String,
    pub recipe: Recipe,
    pub model: PathBuf,
    /// Directories, files or manifests, joined.
    pub retain: Vec<PathBuf>,
    pub forget: Vec<PathBuf>,
    pub retain_fraction: f64,
    pub fraction_of: FractionOf,
    pub forget_weight: f64,
    /// λ.
    pub noise: f64,
    /// γ.
    pub gamma: f64,
    /// Those that the method has; where one is missing, its default.
    #[serde(default, skip_serializing_if = "Hyperparameters::is_none")]
    pub hyperparameters: Hyperparameters,
    pub optimizer_state: OptimizerState,
    /// Measured before and after, beside the forget set.
    pub tests: Vec<NamedSet>,
    pub measure: bool,
    pub sampling: Sampling,
    pub optimisation: Optimisation,
}

impl UnlearnConfig {
    /// The part of the retain set that is trained on.
    pub(super) fn retain_part(&self, retain: &VolumeSet) -> Result<VolumeSet> {
        retain
            .fraction(self.retain_fraction, self.fraction_of, self.optimisation.seed)
            .map_err(|error| error.of(Knob::RetainFraction))
    }

    /// These settings with the method's defaults for what is missing.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn with_defaults(&self) -> Result<Self> {
        Ok(self.filled()?.1)
    }

    /// The method, and these settings with its defaults for what is missing.
    pub(super) fn filled(&self) -> Result<(Method, Self)> {
        let method = self.check()?;
        let hyperparameters = self.hyperparameters.or(method.defaults);
        Ok((method, Self { hyperparameters, ..self.clone() }))
    }

    /// # Errors
    /// Settings that the method cannot work with.
    pub fn check(&self) -> Result<Method> {
        let method: Method = self.method.parse()?;
        self.optimisation.check()?;
        method.check_hyperparameters(&self.hyperparameters)?;
        if !method.has_steps() {
            let once = (Some(1), None) == (self.optimisation.epochs, self.optimisation.max_steps);
            if !once {
                return Err(Error::input(format!(
                    "--method {} takes no steps: --epochs and --max-steps have no effect with it",
                    method.name
                )));
            }
        }
        if self.optimizer_state == OptimizerState::Resume && !method.resumes_adam() {
            return Err(Error::input(format!(
                "--optimizer-state resume: --method {} has no weights whose training goes on; leave it out",
                method.name
            )));
        }
        for (knob, value) in
            [(Knob::ForgetWeight, self.forget_weight), (Knob::Noise, self.noise), (Knob::Gamma, self.gamma)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::input(format!("{knob} {value}: expected a number from 0")));
            }
        }
        Ok(method)
    }

    /// What decides a step.
    pub(super) fn of_steps(&self) -> Value {
        let mut all = serde_json::to_value(Self { optimisation: self.optimisation.fixed(), ..self.clone() })
            .expect("plain data");
        if let Value::Object(all) = &mut all {
            all.retain(|key, _| !["model", "retain", "forget", "tests", "measure"].contains(&key.as_str()));
        }
        all
    }

    /// As it is written to config.toml.
    pub fn with_absolute_paths(&self) -> Self {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect();
        let test = |test: &NamedSet| NamedSet { name: test.name.clone(), path: absolute(&test.path) };
        Self {
            model: absolute(&self.model),
            retain: all(&self.retain),
            forget: all(&self.forget),
            tests: self.tests.iter().map(test).collect(),
            ..self.clone()
        }
    }

    /// What the steps depend on, where the method's defaults are filled in.
    pub fn strength(&self) -> Strength {
        Strength {
            recipe: self.recipe,
            forget_weight: self.forget_weight,
            noise: self.noise,
            gamma: self.gamma,
            hyperparameters: self.hyperparameters,
        }
    }
}
