//! The sets of a training: what is learnt, and what it is measured on.

use std::sync::Arc;

use crate::batch::Sampler;
use crate::data::cache::CacheBudget;
use crate::data::overlap::{common_volumes, open_disjoint};
use crate::data::set::{VolumeSet, own_masks_summary};
use crate::error::Result;
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
        let learnt = open_disjoint(&config.data, "--data")?;
        let validation = match &*config.validation {
            [] => None,
            sets => Some(open_disjoint(sets, "--validation")?),
        };
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
