//! Virtual coils in place of a scanner's, volume by volume.

use std::sync::Arc;

use nalgebra::DMatrix;
use num_complex::Complex64;
use rayon::prelude::*;

use super::set::VolumeSet;
use super::virtual_coils::{VirtualCoils, add_to_gram};
use super::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::progress::got_on;

impl VirtualCoils {
    /// The principal `count` coils of all slices of a volume, where `calibration` says of each column whether it may be
    /// looked at.
    ///
    /// # Errors
    /// Slices that cannot be read; calibration lines that are all zero. The file is named.
    pub fn of(volume: &VolumeFile, count: usize, calibration: &[bool]) -> Result<Self> {
        let stored = volume.stored_coils();
        let mut gram = DMatrix::<Complex64>::zeros(stored, stored);
        let mut memory = Vec::new();
        for slice in 0..volume.slices {
            let kspace = volume.read_stored(slice, false, memory)?.kspace;
            add_to_gram(&mut gram, &kspace, volume.matrix, calibration);
            got_on();
            memory = kspace;
        }
        Self::from_gram(gram, count).ok_or_else(|| {
            Error::input(format!(
                "{}: the calibration lines in the centre of k-space are all zero, and virtual coils are made from them; \
                 leave the volume out, or do without --virtual-coils",
                volume.path.display()
            ))
        })
    }
}

impl VolumeSet {
    /// The same volumes with `count` virtual coils each, made from the columns that `calibration` names for a volume; those
    /// that have no more coils than that stay as they are. Reads all slices of the others, in parallel by volume, and says
    /// so to `on_volume`.
    ///
    /// # Errors
    /// The first of [`VirtualCoils::of`] and of `calibration`.
    pub fn with_virtual_coils(
        mut self,
        count: usize,
        calibration: impl Fn(&VolumeFile) -> Result<Vec<bool>> + Sync,
        on_volume: impl Fn() + Sync,
    ) -> Result<Self> {
        let made: Vec<Result<Option<VirtualCoils>>> = self
            .volumes
            .par_iter()
            .map(|volume| {
                let stored = volume.stored_coils();
                let made = match stored > count {
                    true => Some(VirtualCoils::of(volume, count, &calibration(volume)?)?),
                    false => None,
                };
                on_volume();
                Ok(made)
            })
            .collect();
        for (volume, made) in self.volumes.iter_mut().zip(made) {
            if let Some(made) = made? {
                volume.coils = made.count;
                volume.virtual_coils = Some(Arc::new(made));
            }
        }
        self.cache = None;
        Ok(self)
    }

    /// What virtual coils keep of the volumes that have them, for people; `None` where none has.
    pub fn virtual_coils_summary(&self) -> Option<String> {
        let made: Vec<(&VirtualCoils, &VolumeFile)> =
            self.volumes.iter().filter_map(|v| v.virtual_coils.as_deref().map(|made| (made, v))).collect();
        let least = made.iter().min_by(|a, b| a.0.energy.total_cmp(&b.0.energy))?;
        let mean = made.iter().map(|(made, _)| made.energy).sum::<f64>() / made.len() as f64;
        Some(format!(
            "{} virtual coils in {} of {} volumes keep {:.2} % of the calibration lines' energy (least: {:.2} % of {}, \
             from {} coils)",
            least.0.count,
            made.len(),
            self.volumes.len(),
            100.0 * mean,
            100.0 * least.0.energy,
            least.1.name,
            least.0.stored
        ))
    }
}
