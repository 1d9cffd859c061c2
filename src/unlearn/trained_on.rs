//! What a network was trained on, as the run says that left it: by the config.toml beside its weights.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::digest::fingerprint_compressed;
use crate::data::overlap::{check_disjoint, common_volumes};
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::run::state::RunState;
use crate::train::TrainConfig;
use crate::unlearn::config::UnlearnConfig;
use crate::unlearn::method::{Anew, Method};

/// Networks that began as others did, at the most.
const GENERATIONS: usize = 16;

/// What is known of a network's training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// Directories, files or manifests; of the networks that it began as too.
    pub sets: Vec<PathBuf>,
    /// Whether that is all, and none of it is among the volumes that the network is taken not to have seen.
    pub compared: bool,
}

impl TrainedOn {
    /// Of weights in the directory of the run that left them. Nothing is compared yet: [`Self::compared`] says whether
    /// all is known.
    ///
    /// # Errors
    /// A config.toml beside weights that does not say what they were trained on.
    pub fn of(weights: &Path) -> Result<Self> {
        let mut trained_on = Self::default();
        let mut next = Some(weights.to_path_buf());
        let mut as_they_were = true;
        for _ in 0..GENERATIONS {
            let Some(weights) = next else {
                trained_on.compared = as_they_were;
                break;
            };
            let Some(run) = of_run(&weights)? else { break };
            trained_on.sets.extend(run.sets);
            as_they_were &= run.as_they_were;
            next = run.began_as;
        }
        Ok(trained_on)
    }

    /// How many volumes of a set are not among what the network was trained on; none where that is not all known.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn missing(&self, set: &VolumeSet) -> Result<Option<usize>> {
        if !self.compared {
            return Ok(None);
        }
        // As for most: it is one of the sets, or some of them, which need not be opened again.
        let canonical = |path: &PathBuf| path.canonicalize().ok();
        let known: HashSet<PathBuf> = self.sets.iter().filter_map(canonical).collect();
        if set.sources().iter().all(|path| canonical(path).is_some_and(|path| known.contains(&path))) {
            return Ok(Some(0));
        }
        let mut found = HashSet::new();
        for path in &self.sets {
            let Ok(trained_on) = VolumeSet::open(path) else { return Ok(None) };
            found.extend(common_volumes(&trained_on, set)?.into_iter().map(|volume| volume.path));
        }
        Ok(Some(set.volumes().len().saturating_sub(found.len())))
    }

    /// Compares it with sets that the network is taken not to have seen, with their names. A set that is no longer there cannot be, nor
    /// what is not known; then it is not [`Self::compared`].
    ///
    /// # Errors
    /// Naming the volumes that were trained on all the same.
    pub fn compare(mut self, network: &str, unseen: &[(&str, &VolumeSet)]) -> Result<Self> {
        let name = format!("{network}'s training");
        for path in &self.sets {
            let Ok(trained_on) = VolumeSet::open(path) else {
                self.compared = false;
                continue;
            };
            for (other, set) in unseen {
                check_disjoint(&trained_on, set, [&name, other])?;
            }
        }
        Ok(self)
    }
}

/// What one run learned from.
struct Learned {
    sets: Vec<PathBuf>,
    /// The weights that it began with.
    began_as: Option<PathBuf>,
    /// Whether the sets have the volumes that they had: a training's state says so, an unlearning's sets are its record's.
    as_they_were: bool,
}

/// Whether the sets of a training are what it learned from, by the digest in the state beside its weights. One that cannot be
/// read says nothing.
fn as_they_were(weights: &Path, config: &TrainConfig) -> bool {
    let Ok(all) = VolumeSet::open_all(&config.data) else { return false };
    let now = fingerprint_compressed(&all, config.sampling.virtual_coils);
    RunState::read(&weights.with_file_name("state.safetensors")).is_ok_and(|state| state.origin == now)
}

/// None where no config.toml lies beside the weights.
fn of_run(weights: &Path) -> Result<Option<Learned>> {
    let config = &weights.with_file_name("config.toml");
    let text = match std::fs::read_to_string(config) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Error::io("read", config, e))?,
    };
    let training: std::result::Result<TrainConfig, _> = toml::from_str(&text);
    let unlearning = match training {
        Ok(training) => {
            let as_they_were = as_they_were(weights, &training);
            let TrainConfig { data, init, .. } = training;
            return Ok(Some(Learned { sets: data, began_as: init, as_they_were }));
        }
        Err(why) => toml::from_str(&text).map_err(|_| {
            let config = config.display();
            Error::input(format!(
                "{config} does not say what the network beside it was trained on: bring back the file that its run left, or \
                 move it away to go on without knowing ({})",
                why.message()
            ))
        }),
    };
    let UnlearnConfig { method, retain, forget, model, .. } = unlearning?;
    let (sets, began_as) = match method.parse::<Method>()?.anew {
        // Retrained: an oracle.
        Anew::Everything => (retain, None),
        Anew::Nothing | Anew::LastCascades => ([retain, forget].concat(), Some(model)),
    };
    Ok(Some(Learned { sets, began_as, as_they_were: true }))
}
