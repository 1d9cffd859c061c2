//! A seeded part of a set.

use super::set::VolumeSet;
use super::shuffle::shuffled;
use super::volume::SliceId;
use crate::error::{Error, Result};

/// Whether a fraction of a set is taken volume by volume or slice by slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FractionOf {
    Slices,
    Volumes,
}

impl FractionOf {
    /// How many of `count` a fraction is, to nearest. `whose` names the set.
    ///
    /// # Errors
    /// [`Error::Input`] if it is none.
    pub fn part(self, fraction: f64, count: usize, whose: &str) -> Result<usize> {
        let kept = (count as f64 * fraction).round_ties_even() as usize;
        if kept > 0 {
            return Ok(kept);
        }
        let what = match self {
            Self::Slices => "slices",
            Self::Volumes => "volumes",
        };
        let one = 1.0 / count as f64;
        let least = if one < 1e-3 { format!("{one:.1e}") } else { format!("{one:.3}") };
        Err(Error::input(format!(
            "{fraction} of the {count} {what} in {whose} is none: choose at least {least}"
        )))
    }
}

impl VolumeSet {
    /// A seeded random part of the set: `round(fraction · count)` of its slices or volumes, such as the 10 % of
    /// the retain set that unlearning trains on. The smaller of two fractions with the same seed is a part of
    /// the larger one; the order of the set is kept.
    ///
    /// # Errors
    /// [`Error::Input`] if `fraction` is not in (0, 1] or if nothing would be left.
    pub fn fraction(&self, fraction: f64, of: FractionOf, seed: u64) -> Result<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::input(format!("fraction {fraction}: expected a number above 0 and up to 1")));
        }
        let count = match of {
            FractionOf::Slices => self.slice_count(),
            FractionOf::Volumes => self.volumes.len(),
        };
        let kept = of.part(fraction, count, &self.named())?;
        let mut chosen = shuffled("kerase fraction", &[seed], count);
        chosen.truncate(kept);
        let slices = self.slices();
        let chosen: Vec<SliceId> = match of {
            FractionOf::Slices => chosen.into_iter().map(|index| slices[index]).collect(),
            FractionOf::Volumes => slices.into_iter().filter(|(volume, _)| chosen.contains(volume)).collect(),
        };
        Ok(self.only(&chosen))
    }
}
