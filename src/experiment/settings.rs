//! What an experiment's file says, in TOML: data, network, training, and which methods at which retain fractions.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::batch::{Sampler, Sampling};
use crate::data::fraction::FractionOf;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::experiment::results::Kinds;
use crate::experiment::unknown_key;
use crate::model::Architecture;
use crate::precision::Precision;
use crate::run::keep_best::KeepBest;
use crate::run::optimisation::{Loss, Optimisation};
use crate::run::plateau::PlateauSettings;
use crate::simulate::{Anatomy, SimulateConfig};
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::method::Anew;
use crate::unlearn::{Knob, Method, OptimizerState, Recipe, paper};

/// A study: `experiments/*.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What its results are called.
    pub title: String,
    /// One original, one oracle and one run of each method for each of them.
    pub seeds: Vec<u64>,
    /// Where to compute, unless the command line says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceChoice>,
    /// Likewise what convolutions round to; absent: what the device has by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    pub sets: Sets,
    /// How the sets that are simulated look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulate: Option<Simulate>,
    #[serde(default)]
    pub network: Architecture,
    #[serde(default)]
    pub sampling: Sampling,
    #[serde(default)]
    pub training: Training,
    #[serde(default)]
    pub unlearning: Unlearning,
    #[serde(default)]
    pub audit: Audit,
    /// The rows of Tables 1 and 2.
    pub methods: Vec<MethodRow>,
    /// Table 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fractions: Option<Fractions>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sets {
    /// D_r.
    pub retain: SetSource,
    /// D_f, on which UA is measured.
    pub forget: SetSource,
    /// BTA: unseen volumes like those of D_r.
    pub retain_test: SetSource,
    /// KTA: unseen volumes like those of D_f.
    pub forget_test: SetSource,
    /// Volumes like those of D_r, by which [`Training::keep_best`] chooses G and the oracle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_validation: Option<SetSource>,
    /// Volumes like those of D_f, by which G is chosen, too. The oracle is not: it knows nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_validation: Option<SetSource>,
    /// Absent: the anatomies that are simulated, where they are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Kinds>,
}

/// A set as `kerase train --data` takes it, or subjects to simulate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SetSource {
    Path(PathBuf),
    Simulated(Subjects),
}

impl<'de> Deserialize<'de> for SetSource {
    /// Not untagged: then serde would not say what is wrong with the subjects.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SetSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or { simulate = \"brain\" or \"knee\", subjects = [first, last] }")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> std::result::Result<SetSource, E> {
                Ok(SetSource::Path(path.into()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<SetSource, M::Error> {
                Subjects::deserialize(MapAccessDeserializer::new(map)).map(SetSource::Simulated)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Subjects `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subjects {
    pub simulate: Anatomy,
    pub subjects: [u64; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulate {
    pub matrix: [usize; 2],
    pub recon: [usize; 2],
    pub slices: usize,
    pub coils: usize,
    /// Absent: what each anatomy has in `kerase simulate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    #[serde(default = "forty_two")]
    pub seed: u64,
}

fn forty_two() -> u64 {
    42
}

/// Training of the original and of the oracle; the defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub loss: Loss,
    pub lr: f64,
    /// inf for none.
    pub clip: f64,
    pub batch: usize,
    pub epochs: u64,
    pub lr_factor: f64,
    pub lr_patience: u64,
    pub low_memory: bool,
    /// Which network is G, and which the oracle: that after the last epoch, or the best on the validation sets.
    #[serde(skip_serializing_if = "KeepBest::is_none")]
    pub keep_best: KeepBest,
}

impl Default for Training {
    fn default() -> Self {
        let Optimisation { loss, lr, clip, batch, epochs, low_memory, plateau, .. } = Optimisation::default();
        Self {
            loss,
            lr,
            clip: clip.unwrap_or(f64::INFINITY),
            batch,
            epochs: epochs.expect("a training has an end"),
            lr_factor: plateau.factor,
            lr_patience: plateau.patience,
            low_memory,
            keep_best: KeepBest::None,
        }
    }
}

/// What all methods share; the defaults are the paper's. Loss, clip and batch are those of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unlearning {
    pub epochs: u64,
    /// Of the retain set.
    pub fraction: f64,
    pub fraction_of: FractionOf,
    pub recipe: Recipe,
    pub optimizer_state: OptimizerState,
    /// Of a fresh optimiser; absent: training's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Absent: training's where its plateau goes on, which a fresh optimiser's does not: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_patience: Option<u64>,
}

impl Default for Unlearning {
    fn default() -> Self {
        Self {
            epochs: paper::EPOCHS,
            fraction: paper::RETAIN_FRACTION,
            fraction_of: FractionOf::Slices,
            recipe: Recipe::Code,
            optimizer_state: OptimizerState::Resume,
            lr: None,
            lr_patience: None,
        }
    }
}

/// Evidence of forgetting, for every run that methods are compared by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    pub enabled: bool,
    /// The most steps in which a network relearns the forget set; 0 for none.
    pub relearn_steps: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true, relearn_steps: crate::audit::settings::RELEARN_STEPS }
    }
}

/// A method with its settings; what is absent is as for all methods, or the method's own default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodRow {
    pub method: String,
    /// What tables call it. Absent: the method's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_weight: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Those of methods from other papers.
    #[serde(default, skip_serializing_if = "Hyperparameters::is_none")]
    pub hyperparameters: Hyperparameters,
}

impl MethodRow {
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.method)
    }
}

/// Rows of [`Settings::methods`], by label, at several retain fractions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    pub methods: Vec<String>,
    pub fractions: Vec<f64>,
}

impl Settings {
    /// Reads an experiment's file. Paths in it are relative to it.
    ///
    /// # Errors
    /// What is not TOML, keys that mean nothing, with the nearest that does, and numbers that no run can work with.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let mut settings = Self::parse(&text).map_err(|error| error.of_file(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for source in settings.sets.sources_mut() {
            if let SetSource::Path(set) = source {
                *set = crate::paths::absolute(&folder.join(&*set));
            }
        }
        Ok(settings)
    }

    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str) -> Result<Self> {
        let settings: Self =
            toml::from_str(text).map_err(|e| Error::input(unknown_key::explain(&e.to_string())))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
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

    /// How an anatomy is simulated.
    ///
    /// # Errors
    /// Where the file does not say.
    pub fn simulated(&self, anatomy: Anatomy) -> Result<SimulateConfig> {
        let Some(Simulate { matrix, recon, slices, coils, noise, seed }) = self.simulate.clone() else {
            return Err(Error::input(
                "there are sets to simulate, but no [simulate] with matrix, recon, slices and coils",
            ));
        };
        let standard = SimulateConfig::new(anatomy);
        let noise = noise.unwrap_or(standard.noise);
        Ok(SimulateConfig { matrix, recon, slices, coils, noise, seed, ..standard })
    }

    pub fn training_optimisation(&self, seed: u64, precision: Precision) -> Optimisation {
        let Training { loss, lr, clip, batch, epochs, lr_factor, lr_patience, low_memory, keep_best: _ } =
            self.training;
        Optimisation {
            loss,
            lr,
            clip: Some(clip).filter(|clip| *clip != f64::INFINITY),
            batch,
            epochs: Some(epochs),
            max_steps: None,
            checkpoint_every: None,
            low_memory,
            precision,
            shuffle: true,
            seed,
            plateau: PlateauSettings { factor: lr_factor, patience: lr_patience },
        }
    }

    pub fn unlearning_optimisation(
        &self,
        row: &MethodRow,
        method: &Method,
        seed: u64,
        precision: Precision,
    ) -> Optimisation {
        let Unlearning { epochs, lr, lr_patience, optimizer_state, .. } = self.unlearning;
        let training = self.training_optimisation(seed, precision);
        let mut own = paper::optimisation(method, optimizer_state, training);
        if method.anew != Anew::Everything {
            own.lr = lr.unwrap_or(own.lr);
            own.plateau.patience = lr_patience.unwrap_or(own.plateau.patience);
            own.epochs = if method.has_steps() { Some(epochs) } else { own.epochs };
        }
        Optimisation { epochs: row.epochs.or(own.epochs), ..own }
    }

    /// Every run of a method for one seed: the row, its retain fraction, and whether it is one that methods are
    /// compared by. A fraction that a row has anyway is not run twice.
    pub fn method_runs(&self) -> Vec<(&MethodRow, f64, bool)> {
        let own = |row: &MethodRow| {
            let anew = row.method.parse().is_ok_and(|method: Method| method.anew == Anew::Everything);
            row.fraction.unwrap_or(if anew { 1.0 } else { self.unlearning.fraction })
        };
        let mut runs: Vec<_> = self.methods.iter().map(|row| (row, own(row), true)).collect();
        if let Some(sweep) = &self.fractions {
            for row in
                self.methods.iter().filter(|row| sweep.methods.iter().any(|label| label == row.label()))
            {
                for &fraction in sweep.fractions.iter().filter(|fraction| **fraction != own(row)) {
                    runs.push((row, fraction, false));
                }
            }
        }
        runs
    }
}

impl Sets {
    pub fn kinds(&self) -> Kinds {
        let simulated = match [&self.retain, &self.forget] {
            [SetSource::Simulated(retain), SetSource::Simulated(forget)]
                if retain.simulate != forget.simulate =>
            {
                Some([retain, forget].map(|subjects| subjects.simulate.to_string()))
            }
            _ => None,
        };
        let simulated = simulated.map(|[retain, forget]| Kinds { retain, forget });
        self.kinds.clone().or(simulated).unwrap_or_default()
    }

    /// Those that every study has, by the names that the file gives them.
    pub fn needed(&self) -> [(&'static str, &SetSource); 4] {
        let Self { retain, forget, retain_test, forget_test, .. } = self;
        [("retain", retain), ("forget", forget), ("retain_test", retain_test), ("forget_test", forget_test)]
    }

    /// Those by which networks are chosen: none, the retain set's, or both.
    pub fn validation(&self) -> Vec<(&'static str, &SetSource)> {
        let Self { retain_validation, forget_validation, .. } = self;
        [("retain_validation", retain_validation), ("forget_validation", forget_validation)]
            .into_iter()
            .filter_map(|(name, source)| Some((name, source.as_ref()?)))
            .collect()
    }

    pub fn all(&self) -> Vec<(&'static str, &SetSource)> {
        self.needed().into_iter().chain(self.validation()).collect()
    }

    fn sources_mut(&mut self) -> impl Iterator<Item = &mut SetSource> {
        let Self { retain, forget, retain_test, forget_test, retain_validation, forget_validation, kinds: _ } =
            self;
        [retain, forget, retain_test, forget_test]
            .into_iter()
            .chain(retain_validation)
            .chain(forget_validation)
    }
}

fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    values.iter().enumerate().find(|(i, value)| values[..*i].contains(value)).map(|(_, value)| value)
}
