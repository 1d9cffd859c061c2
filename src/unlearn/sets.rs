//! The volumes of a request.

use std::sync::Arc;

use crate::batch::Sampler;
use crate::data::overlap::{check_disjoint, volumes_of_same_patients};
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::evaluate::check_targets;
use crate::unlearn::config::{NamedSet, UnlearnConfig};
use crate::unlearn::method::Method;

/// With virtual coils, where they are asked for.
pub(super) struct Sets {
    pub retain: VolumeSet,
    /// The part of the retain set that is used.
    pub used: VolumeSet,
    pub forget: VolumeSet,
    /// To measure before and after, with their names: the forget set, then those that `--test` gives.
    pub measured: Vec<(String, Arc<VolumeSet>)>,
    /// Volumes of the retain set that are of patients whom the forget set has volumes of.
    of_forgotten_patients: usize,
}

impl Sets {
    /// # Errors
    /// Sets that cannot be read, or have a volume in common; those to measure without targets.
    pub fn open(config: &UnlearnConfig, method: &Method, sampler: &Sampler) -> Result<Self> {
        let retain = VolumeSet::open(&config.retain)?;
        let forget = VolumeSet::open(&config.forget)?;
        check_disjoint(&retain, &forget, ["retain", "forget"])?;
        let of_forgotten_patients = volumes_of_same_patients(&forget, &retain);
        let retain = sampler.compressed(retain)?;
        let forget = sampler.compressed(forget)?;
        let used = if method.uses_retain_set() { config.retain_part(&retain)? } else { retain.clone() };
        let mut measured = vec![("forget".to_string(), Arc::new(forget.clone()))];
        for NamedSet { name, path } in &config.tests {
            measured.push((name.clone(), Arc::new(sampler.compressed(VolumeSet::open(path)?)?)));
        }
        if config.measure {
            measured.iter().try_for_each(|(_, set)| check_targets(set))?;
        }
        Ok(Self { retain, used, forget, measured, of_forgotten_patients })
    }

    /// What the forget set is of the slices of both.
    pub fn forget_share(&self) -> f64 {
        let [forget, retain] = [&self.forget, &self.retain].map(|set| set.slice_count() as f64);
        forget / (forget + retain)
    }

    /// Who asks to be forgotten may have been scanned more than once.
    pub fn warning(&self) -> Option<String> {
        (self.of_forgotten_patients > 0).then(|| {
            format!(
                "{} of {} volumes of the retain set are, by the patient that their files name, of somebody whom the \
                 forget set has volumes of: they are not forgotten",
                self.of_forgotten_patients,
                self.retain.volumes().len()
            )
        })
    }
}
