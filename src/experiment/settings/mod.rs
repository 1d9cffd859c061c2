//! What an experiment's file says, in TOML: data, network, training, and which methods at which retain fractions.

mod check;
mod partial;
mod sets;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::batch::Sampling;
use crate::data::fraction::FractionOf;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::experiment::unknown_key;
use crate::model::Architecture;
use crate::precision::Precision;
use crate::run::keep_best::KeepBest;
use crate::run::optimisation::{Loss, Optimisation};
use crate::run::plateau::PlateauSettings;
use crate::simulate::{Anatomy, SimulateConfig};
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::method::Anew;
use crate::unlearn::{Method, OptimizerState, Recipe, paper};

pub use sets::{SetSource, Sets, Simulate, Subjects};

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
    #[serde(default, deserialize_with = "partial::network")]
    pub network: Architecture,
    #[serde(default, deserialize_with = "partial::sampling")]
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
