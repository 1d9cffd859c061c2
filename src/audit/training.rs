//! What a network was trained on, as the run says that left it: by the config.toml beside its weights.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::settings::AuditSet;
use crate::config::TrainConfig;
use crate::data::overlap::check_disjoint;
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::unlearn::UnlearnConfig;
use crate::unlearn::method::{Anew, Method};

/// Networks that began as others did, at the most.
const GENERATIONS: usize = 16;

/// What is known of a network's training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Directories, files or manifests; of the networks that it began as too.
    pub sets: Vec<PathBuf>,
    /// Whether that is all, and none of it is among the volumes that the network is taken not to have seen.
    pub compared: bool,
}

impl Training {
    /// Of weights in the directory of the run that left them. Nothing is compared yet: [`Self::compared`] says whether
    /// all is known.
    pub fn of(weights: &Path) -> Self {
        let mut training = Self::default();
        let mut next = Some(weights.to_path_buf());
        for _ in 0..GENERATIONS {
            let Some(weights) = next else {
                training.compared = true;
                break;
            };
            let Some((sets, began_as)) = of_run(&weights.with_file_name("config.toml")) else { break };
            training.sets.extend(sets);
            next = began_as;
        }
        training
    }

    /// Compares it with sets that the network is taken not to have seen. A set that is no longer there cannot be, nor
    /// what is not known; then it is not [`Self::compared`].
    ///
    /// # Errors
    /// Naming the volumes that were trained on all the same.
    pub fn compare(mut self, network: &str, unseen: &[AuditSet]) -> Result<Self> {
        let name = format!("{network}'s training");
        for path in &self.sets {
            let Ok(trained_on) = VolumeSet::open(path) else {
                self.compared = false;
                continue;
            };
            for AuditSet { name: other, set, .. } in unseen {
                check_disjoint(&trained_on, set, [&name, other])?;
            }
        }
        Ok(self)
    }
}

/// The sets of one run, and the weights that it began with.
fn of_run(config: &Path) -> Option<(Vec<PathBuf>, Option<PathBuf>)> {
    let text = std::fs::read_to_string(config).ok()?;
    if let Ok(TrainConfig { data, init, .. }) = toml::from_str(&text) {
        return Some((data, init));
    }
    let UnlearnConfig { method, retain, forget, model, .. } = toml::from_str(&text).ok()?;
    Some(match method.parse::<Method>().ok()?.anew {
        // Retrained: an oracle.
        Anew::Everything => (vec![retain], None),
        Anew::Nothing | Anew::LastCascades => (vec![retain, forget], Some(model)),
    })
}
