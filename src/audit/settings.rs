//! What an audit looks at, and how.

use std::path::PathBuf;
use std::slice;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::{Sampler, Sampling};
use crate::data::digest::{VolumeDigest, digests};
use crate::data::overlap::{check_disjoint, open_disjoint};
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::evaluate::check_targets;
use crate::paths::absolute;
use crate::run::optimisation::Loss;
use crate::unlearn::UnlearnConfig;
use crate::unlearn::config::NamedSet;

/// Adam's learning rate in relearning: a tenth of the paper's.
pub const RELEARN_LR: f64 = 1e-4;
/// Steps of relearning, where nobody says.
pub const RELEARN_STEPS: u64 = 100;

/// The names that the sets of every audit have.
pub const FORGET: &str = "forget";
pub const UNSEEN: &str = "unseen";

/// What a set is to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetRole {
    /// What was to be forgotten.
    Forget,
    /// Volumes of the same kind that no network has seen.
    Unseen,
    /// Other unseen volumes, such as those of the retain set's kind.
    Test,
}

/// All that an audit's numbers depend on beside networks and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSettings {
    /// Directories, files or manifests, joined.
    pub forget: Vec<PathBuf>,
    pub unseen: Vec<PathBuf>,
    pub tests: Vec<NamedSet>,
    /// Masks are drawn from file names, so that all networks see the same.
    pub sampling: Sampling,
    /// Of training and unlearning.
    pub loss: Loss,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    pub low_memory: bool,
    /// At the most; 0 for no relearning.
    pub relearn_steps: u64,
    pub relearn_lr: f64,
    /// Of the order in which relearning visits slices.
    pub seed: u64,
}

/// A set with its name.
#[derive(Clone, Debug)]
pub struct AuditSet {
    pub name: String,
    pub role: SetRole,
    pub set: Arc<VolumeSet>,
}

/// The sets of an audit, opened: the forget set first, then the unseen one.
#[derive(Clone, Debug)]
pub struct AuditSets {
    pub sets: Vec<AuditSet>,
    pub sampler: Sampler,
}

impl AuditSettings {
    /// Those that follow from a run's, with the defaults for the rest.
    pub fn new(config: &UnlearnConfig, unseen: &[PathBuf], tests: Vec<NamedSet>) -> Self {
        let o = &config.optimisation;
        let all = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect();
        Self {
            forget: all(&config.forget),
            unseen: all(unseen),
            tests: tests.into_iter().map(|t| NamedSet { path: absolute(&t.path), ..t }).collect(),
            sampling: config.sampling.clone(),
            loss: o.loss,
            clip: o.clip,
            low_memory: o.low_memory,
            relearn_steps: RELEARN_STEPS,
            relearn_lr: RELEARN_LR,
            seed: o.seed,
        }
    }

    /// # Errors
    /// Sets that cannot be opened, or have volumes without targets; names that are taken.
    pub fn open(&self) -> Result<AuditSets> {
        let sampler = Sampler::fixed(&self.sampling)?;
        let mut sets: Vec<AuditSet> = Vec::new();
        let named = [(FORGET, &*self.forget, SetRole::Forget), (UNSEEN, &*self.unseen, SetRole::Unseen)];
        let tests =
            self.tests.iter().map(|test| (test.name.as_str(), slice::from_ref(&test.path), SetRole::Test));
        for (name, paths, role) in named.into_iter().chain(tests) {
            if sets.iter().any(|known| known.name == name) {
                return Err(Error::input(format!(
                    "--test {name}=…: a set is measured under this name already"
                )));
            }
            let set = open_disjoint(paths, &format!("--{name}"))?;
            check_targets(&set)?;
            let set = sampler.compressed(set)?;
            sets.push(AuditSet { name: name.into(), role, set: Arc::new(set) });
        }
        Ok(AuditSets { sets, sampler })
    }
}

impl AuditSets {
    pub fn forget(&self) -> &Arc<VolumeSet> {
        &self.sets[0].set
    }

    /// Refuses unseen sets with volumes that were trained on.
    ///
    /// # Errors
    /// Naming the volumes.
    pub fn check_unseen(&self, retain: &VolumeSet) -> Result<()> {
        for AuditSet { name, set, .. } in &self.sets[1..] {
            check_disjoint(self.forget(), set, [FORGET, name])?;
            check_disjoint(retain, set, ["retain", name])?;
        }
        Ok(())
    }

    /// Of all files and slices, set by set.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digests(&self) -> Result<Vec<Vec<VolumeDigest>>> {
        self.sets.iter().map(|set| digests(&set.set)).collect()
    }

    pub fn slice_count(&self) -> usize {
        self.sets.iter().map(|set| set.set.slice_count()).sum()
    }
}
