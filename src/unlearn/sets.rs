//! The volumes of a request.

use std::sync::Arc;

use crate::batch::Sampler;
use crate::data::overlap::{check_disjoint, open_disjoint, volumes_of_same_patients};
use crate::data::set::VolumeSet;
use crate::error::Result;
use crate::evaluate::check_targets;
use crate::unlearn::config::{NamedSet, UnlearnConfig};
use crate::unlearn::knob::Knob;
use crate::unlearn::method::Method;
use crate::unlearn::trained_on::TrainedOn;
use crate::unlearn::warnings::noise_of_another_scale;

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
    /// Volumes of the forget set that the network never learned, as far as that is known.
    never_learned: usize,
    /// Label noise of another scale than the forget set's targets.
    noise: Option<String>,
}

impl Sets {
    /// # Errors
    /// Sets that cannot be read, or have a volume in common; those to measure without targets.
    pub fn open(config: &UnlearnConfig, method: &Method, sampler: &Sampler) -> Result<Self> {
        let retain = open_disjoint(&config.retain, "--retain")?;
        let forget = open_disjoint(&config.forget, "--forget")?;
        check_disjoint(&retain, &forget, ["retain", "forget"])?;
        let of_forgotten_patients = volumes_of_same_patients(&forget, &retain);
        // Of what cannot be read nothing is known.
        let trained_on = TrainedOn::of(&config.model).unwrap_or_default();
        let never_learned = trained_on.missing(&forget)?.unwrap_or(0);
        let retain = sampler.compressed(retain)?;
        let forget = sampler.compressed(forget)?;
        let noise =
            method.takes(Knob::Noise).then(|| noise_of_another_scale(config.noise, &forget)).flatten();
        let used = if method.uses_retain_set() { config.retain_part(&retain)? } else { retain.clone() };
        let mut measured = vec![("forget".to_string(), Arc::new(forget.clone()))];
        for NamedSet { name, path } in &config.tests {
            measured.push((name.clone(), Arc::new(sampler.compressed(VolumeSet::open(path)?)?)));
        }
        if config.measure {
            measured.iter().try_for_each(|(_, set)| check_targets(set))?;
        }
        Ok(Self { retain, used, forget, measured, of_forgotten_patients, never_learned, noise })
    }

    /// What the forget set is of the slices of both.
    pub fn forget_share(&self) -> f64 {
        let [forget, retain] = [&self.forget, &self.retain].map(|set| set.slice_count() as f64);
        forget / (forget + retain)
    }

    /// What may not have been meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.noise.iter().cloned().collect();
        if self.never_learned > 0 {
            warnings.push(format!(
                "{} of {} volumes of the forget set are not in the sets that the network was trained on, as these are now \
                 (by the config.toml beside its weights): unless they were moved since, of them there is nothing to forget",
                self.never_learned,
                self.forget.volumes().len()
            ));
        }
        // Who asks to be forgotten may have been scanned more than once.
        if self.of_forgotten_patients > 0 {
            warnings.push(format!(
                "{} of {} volumes of the retain set are, by the patient that their files name, of somebody whom the \
                 forget set has volumes of: they are not forgotten",
                self.of_forgotten_patients,
                self.retain.volumes().len()
            ));
        }
        warnings
    }
}
