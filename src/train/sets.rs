//! The sets of a training: what is learnt, and what it is measured on.

use std::path::PathBuf;
use std::sync::Arc;

use crate::batch::Sampler;
use crate::data::cache::CacheBudget;
use crate::data::overlap::{check_disjoint, common_volumes};
use crate::data::set::{VolumeSet, own_masks_summary};
use crate::error::{Error, Result};
use crate::evaluate::check_targets;
use crate::progress::{say, warn};
use crate::train::config::TrainConfig;

pub(super) struct Sets {
    pub learnt: Arc<VolumeSet>,
    pub validation: Option<Arc<VolumeSet>>,
}

impl Sets {
    /// Opens them. `cache`: bytes of slices that stay in memory once they were read.
    ///
    /// # Errors
    /// Sets that cannot be used, or that name a volume twice.
    pub fn open(config: &TrainConfig, sampler: &Sampler, cache: u64) -> Result<Self> {
        let learnt = open_all(&config.data, "--data")?
            .ok_or_else(|| Error::input("--data is missing: name a directory of volumes"))?;
        let validation = open_all(&config.validation, "--validation")?;
        if let Some(validation) = &validation {
            check_targets(validation)?;
            warn_of_learnt(&learnt, validation)?;
        }
        if let Some(summary) = own_masks_summary([&learnt].into_iter().chain(&validation)) {
            say(&summary);
        }
        let budget = CacheBudget::new(cache);
        let cached = |set: VolumeSet| Ok(Arc::new(sampler.compressed(set)?.cached(&budget)));
        Ok(Self { learnt: cached(learnt)?, validation: validation.map(cached).transpose()? })
    }
}

/// Several sets as one; none where there are none.
fn open_all(paths: &[PathBuf], option: &str) -> Result<Option<VolumeSet>> {
    let sets: Vec<VolumeSet> = paths.iter().map(VolumeSet::open).collect::<Result<_>>()?;
    for (i, set) in sets.iter().enumerate() {
        for other in &sets[..i] {
            check_disjoint(other, set, [option, &format!("another {option}")])?;
        }
    }
    Ok(sets.into_iter().reduce(VolumeSet::join))
}

/// Somebody may want to see how well a set is learnt, so it is no error.
fn warn_of_learnt(set: &VolumeSet, validation: &VolumeSet) -> Result<()> {
    let learnt = common_volumes(set, validation)?.len();
    if learnt > 0 {
        warn(&format!(
            "{learnt} of the {} volumes of --validation are learnt, too: what is measured of them says nothing of others",
            validation.volumes().len()
        ));
    }
    Ok(())
}
