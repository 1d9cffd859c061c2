//! What a network was trained on, as the run says that left it: by the config.toml beside its weights.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::overlap::{check_disjoint, common_volumes};
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
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
        for _ in 0..GENERATIONS {
            let Some(weights) = next else {
                trained_on.compared = true;
                break;
            };
            let Some((sets, began_as)) = of_run(&weights.with_file_name("config.toml"))? else { break };
            trained_on.sets.extend(sets);
            next = began_as;
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
        // As for most: it is one of the sets, which need not be opened again.
        let canonical = |path: &Path| path.canonicalize().ok();
        let own = canonical(set.source());
        if own.is_some() && self.sets.iter().any(|path| canonical(path) == own) {
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

/// The sets of one run, and the weights that it began with; none where there is no such file.
fn of_run(config: &Path) -> Result<Option<(Vec<PathBuf>, Option<PathBuf>)>> {
    let text = match std::fs::read_to_string(config) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Error::io("read", config, e))?,
    };
    let training: std::result::Result<TrainConfig, _> = toml::from_str(&text);
    let unlearning = match training {
        Ok(TrainConfig { data, init, .. }) => return Ok(Some((data, init))),
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
    Ok(Some(match method.parse::<Method>()?.anew {
        // Retrained: an oracle.
        Anew::Everything => (vec![retain], None),
        Anew::Nothing | Anew::LastCascades => (vec![retain, forget], Some(model)),
    }))
}
