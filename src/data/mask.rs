//! Undersampling masks, column for column those of `fastmri.data.subsample`.
//!
//! A mask says of every phase-encoding column whether it was measured. fastMRI's five kinds draw on numpy's
//! legacy random stream in a fixed order: first which (center fraction, acceleration) pair, then the offset
//! or one number per column. That order is kept here, so the same seed gives the same columns.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::numpy_random::RandomState;
use crate::error::{Error, Result};

/// How the columns outside the densely sampled centre are chosen; the names are fastMRI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// Each column by chance, so that columns / acceleration are expected in all (`RandomMaskFunc`).
    Random,
    /// Every acceleration-th column, and the centre on top of them (`EquiSpacedMaskFunc`).
    Equispaced,
    /// Equal spacing widened so that the centre is counted in (`EquispacedMaskFractionFunc`).
    EquispacedFraction,
    /// Equal spacing, opposite offsets on both sides of the centre (`MagicMaskFunc`).
    Magic,
    /// The same with the centre counted in (`MagicMaskFractionFunc`).
    MagicFraction,
}

impl MaskKind {
    pub const ALL: [Self; 5] =
        [Self::Random, Self::Equispaced, Self::EquispacedFraction, Self::Magic, Self::MagicFraction];

    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Equispaced => "equispaced",
            Self::EquispacedFraction => "equispaced_fraction",
            Self::Magic => "magic",
            Self::MagicFraction => "magic_fraction",
        }
    }
}

impl std::fmt::Display for MaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for MaskKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::input(format!(
                "unknown mask '{name}': expected one of {names} (2-D masks are not supported: kerase's data \
                 consistency needs masks that choose whole columns)"
            ))
        })
    }
}

/// What a mask is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskSeed<'a> {
    /// fastMRI's `seed = tuple(map(ord, fname))`: every slice of a volume gets the same mask, and so does
    /// every program that follows fastMRI. The name is the bare file name, with `.h5`.
    FileName(&'a str),
    /// fastMRI's integer seed; see [`training_seed`].
    Integer(u32),
}

impl MaskSeed<'_> {
    fn random_state(self) -> Result<RandomState> {
        match self {
            Self::Integer(seed) => Ok(RandomState::from_integer(seed)),
            Self::FileName(name) => {
                let key: Vec<u32> = name.chars().map(u32::from).collect();
                if key.is_empty() || key.len() > 624 {
                    return Err(Error::input(format!(
                        "a file name of {} characters cannot seed a mask: expected 1 to 624; rename the file \
                         or use --mask-seed random",
                        key.len()
                    )));
                }
                Ok(RandomState::from_key(&key))
            }
        }
    }
}

/// The seed of the mask that `slice` of the volume with this file name gets in `epoch` (from 0) of a run.
///
/// It depends on nothing else: not on the order of slices, threads or ranks, nor on what else is in the set.
pub fn training_seed(run_seed: u64, epoch: u64, volume: &str, slice: usize) -> u32 {
    let mut hash = Sha256::new();
    hash.update(b"kerase mask");
    hash.update(run_seed.to_le_bytes());
    hash.update(epoch.to_le_bytes());
    hash.update((slice as u64).to_le_bytes());
    hash.update(volume.as_bytes());
    let digest = hash.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Which columns of a k-space were measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMask {
    /// `[columns]`.
    pub columns: Vec<bool>,
    /// How many columns in the middle were sampled densely; 0 where that is not known (stored masks), see
    /// [`center_band`].
    pub num_low_frequencies: usize,
}

impl ColumnMask {
    /// A mask that came with the file; fastMRI gives these `num_low_frequencies = 0`.
    pub fn stored(columns: Vec<bool>) -> Self {
        Self { columns, num_low_frequencies: 0 }
    }

    /// Clears the columns outside `left..right`, which the scanner zero-padded and never measured, as
    /// fastMRI's `transforms.apply_mask` does. `left` and `right` are `padding_left` and `padding_right` of the
    /// header; a `right` beyond the last column clears nothing there.
    ///
    /// # Errors
    /// A range that leaves no column, or a negative `left` (Python would count that from the end and clear
    /// nearly everything): the header contradicts the k-space.
    pub fn apply_padding(&mut self, left: i64, right: i64) -> Result<()> {
        let width = self.columns.len();
        if left < 0 || right <= left || left >= width as i64 {
            return Err(Error::input(format!(
                "the header says that columns {left}..{right} were acquired, k-space has columns 0..{width}: \
                 expected 0 <= left < right; correct encodedSpace or encodingLimits in ismrmrd_header"
            )));
        }
        for (column, sampled) in self.columns.iter_mut().enumerate() {
            let column = column as i64;
            *sampled &= left <= column && column < right;
        }
        Ok(())
    }

    /// Number of measured columns.
    pub fn sampled(&self) -> usize {
        self.columns.iter().filter(|&&sampled| sampled).count()
    }

    /// The densely sampled columns in the middle: [`center_band`] of this mask.
    pub fn center_band(&self) -> Range<usize> {
        center_band(&self.columns, self.num_low_frequencies)
    }
}

/// The columns that the sensitivity network sees: fastMRI's `SensitivityModel.get_pad_and_num_low_freqs`, from
/// `pad` to `pad + num_low_freqs`.
///
/// With `num_low_frequencies` 0 the band is found in the mask: symmetric about column `columns / 2`, up to the
/// nearer gap, and one column wide where there is none or no gap on one side. (A mask without any gap counts
/// as having no band, not as being all band: that is what fastMRI's argmin gives.)
pub fn center_band(mask: &[bool], num_low_frequencies: usize) -> Range<usize> {
    let width = mask.len();
    let count = if num_low_frequencies == 0 {
        let (left, right) = mask.split_at(width / 2);
        // argmin: the first smallest value, which is index 0 where all are the same.
        let left = left.iter().rev().position(|&sampled| !sampled).unwrap_or(0);
        let right = right.iter().position(|&sampled| !sampled).unwrap_or(0);
        (2 * left.min(right)).max(1)
    } else {
        num_low_frequencies
    };
    let count = count.min(width);
    let pad = (width - count).div_ceil(2);
    pad..pad + count
}

/// Draws masks: one of fastMRI's `MaskFunc`s.
#[derive(Clone, Debug)]
pub struct MaskFunction {
    kind: MaskKind,
    /// Center fractions, each with its acceleration.
    pairs: Vec<(f64, u32)>,
}

impl MaskFunction {
    /// `center_fractions[i]` belongs to `accelerations[i]`; each mask draws one of the pairs.
    ///
    /// # Errors
    /// Empty lists, lists of different length, a fraction outside [0, 1], an acceleration of 0.
    pub fn new(kind: MaskKind, center_fractions: &[f64], accelerations: &[u32]) -> Result<Self> {
        if center_fractions.len() != accelerations.len() {
            return Err(Error::input(format!(
                "{} center fractions and {} accelerations: expected one fraction for each acceleration",
                center_fractions.len(),
                accelerations.len()
            )));
        }
        if center_fractions.is_empty() {
            return Err(Error::input("a mask needs at least one center fraction and one acceleration"));
        }
        if let Some(fraction) = center_fractions.iter().find(|fraction| !(0.0..=1.0).contains(*fraction)) {
            return Err(Error::input(format!(
                "center fraction {fraction}: expected a number from 0 to 1, such as 0.08"
            )));
        }
        if accelerations.contains(&0) {
            return Err(Error::input("acceleration 0: expected a whole number from 1, such as 4"));
        }
        let pairs = center_fractions.iter().copied().zip(accelerations.iter().copied()).collect();
        Ok(Self { kind, pairs })
    }

    /// Draws the mask of a k-space with `columns` columns, as `MaskFunc.__call__` does (padding is applied
    /// afterwards, see [`ColumnMask::apply_padding`]).
    ///
    /// # Errors
    /// Where fastMRI raises: the fraction and acceleration leave no columns outside the centre to choose.
    pub fn sample(&self, columns: usize, seed: MaskSeed) -> Result<ColumnMask> {
        let mut random = seed.random_state()?;
        // `MaskFunc.choose_acceleration`
        let (center_fraction, acceleration) = random.choice(&self.pairs);
        let draw = Draw { kind: self.kind, columns, center_fraction, acceleration };
        draw.mask(&mut random)
    }

    /// The columns in the middle that every mask samples densely, whatever is drawn.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn densely_sampled(&self, columns: usize) -> Result<Vec<bool>> {
        let mut centre = vec![true; columns];
        for &(center_fraction, acceleration) in &self.pairs {
            let draw = Draw { kind: self.kind, columns, center_fraction, acceleration };
            let low = match self.kind {
                MaskKind::MagicFraction => draw.magic_fraction_acceleration(draw.low())?.0,
                _ => draw.low(),
            };
            let band = low_band(columns, low);
            centre.iter_mut().enumerate().for_each(|(x, centre)| *centre &= band.contains(&x));
        }
        Ok(centre)
    }
}

/// One draw, once fraction and acceleration are known.
struct Draw {
    kind: MaskKind,
    columns: usize,
    center_fraction: f64,
    acceleration: u32,
}

impl Draw {
    /// `MaskFunc.sample_mask`, both parts combined.
    fn mask(&self, random: &mut RandomState) -> Result<ColumnMask> {
        let width = self.columns;
        if width == 0 {
            return Err(Error::input("a mask needs a k-space with at least one column"));
        }
        let mut low = self.low();
        let mut columns = match self.kind {
            MaskKind::Random => self.random(low, random)?,
            MaskKind::Equispaced => {
                let step = self.acceleration as usize;
                every(width, random.randint(self.acceleration) as usize, step)
            }
            MaskKind::EquispacedFraction => self.equispaced_fraction(low, random)?,
            MaskKind::Magic => self.magic(self.acceleration, random),
            MaskKind::MagicFraction => {
                let acceleration;
                (low, acceleration) = self.magic_fraction_acceleration(low)?;
                self.magic(acceleration, random)
            }
        };
        columns[low_band(width, low)].fill(true);
        Ok(ColumnMask { columns, num_low_frequencies: low })
    }

    /// How many columns the center fraction is. Python's round: halves to the even neighbour.
    fn low(&self) -> usize {
        (self.columns as f64 * self.center_fraction).round_ties_even() as usize
    }

    fn random(&self, low: usize, random: &mut RandomState) -> Result<Vec<bool>> {
        if low == self.columns {
            return Err(self.impossible("the centre already covers every column"));
        }
        let (width, low) = (self.columns as f64, low as f64);
        let probability = (width / f64::from(self.acceleration) - low) / (width - low);
        Ok((0..self.columns).map(|_| random.uniform() < probability).collect())
    }

    fn equispaced_fraction(&self, low: usize, random: &mut RandomState) -> Result<Vec<bool>> {
        let (width, low, acceleration) = (self.columns as i64, low as i64, i64::from(self.acceleration));
        let numerator = acceleration * (low - width);
        let denominator = low * acceleration - width;
        let step = numerator as f64 / denominator as f64;
        // Where the centre alone is as much as the acceleration allows, Python divides by zero or draws from
        // an empty range; so does a step under one column.
        let high = step.round_ties_even();
        if denominator == 0 || high < 1.0 {
            return Err(self.impossible("the centre alone takes up the whole budget of columns"));
        }
        let offset = f64::from(random.randint(high as u32));

        // numpy.arange(offset, width - 1, step): it counts first, then fills with first + i * (second - first),
        // which is not quite first + i * step.
        let count = ((self.columns as f64 - 1.0 - offset) / step).ceil().max(0.0) as usize;
        let delta = (offset + step) - offset;
        let mut columns = vec![false; self.columns];
        for i in 0..count {
            columns[(offset + i as f64 * delta).round_ties_even() as usize] = true;
        }
        Ok(columns)
    }

    fn magic(&self, acceleration: u32, random: &mut RandomState) -> Vec<bool> {
        let step = acceleration as usize;
        let offset = random.randint(acceleration) as usize;
        let (positive, negative) =
            if offset.is_multiple_of(2) { (offset + 1, offset + 2) } else { (offset + 2, offset - 1) };
        let width = self.columns;
        let mut columns = every(width.div_ceil(2), positive, step);
        columns.extend(every(width / 2, negative, step).into_iter().rev());
        // numpy.fft.fftshift
        columns.rotate_right(width / 2);
        columns
    }

    /// The bounded number of low frequencies and the adjusted acceleration of `MagicMaskFractionFunc`.
    fn magic_fraction_acceleration(&self, low: usize) -> Result<(usize, u32)> {
        let target = (self.columns as f64 / f64::from(self.acceleration)).round_ties_even() as usize;
        let low = low.min(target).max(1);
        let outside = target.saturating_sub(low);
        let acceleration = (self.columns as f64 / outside as f64).round_ties_even();
        if outside == 0 || acceleration < 1.0 {
            return Err(self.impossible("the centre alone takes up the whole budget of columns"));
        }
        Ok((low, acceleration as u32))
    }

    fn impossible(&self, why: &str) -> Error {
        Error::input(format!(
            "no {} mask for {} columns with center fraction {} and acceleration {}: {why}; choose a smaller \
             fraction or acceleration (fastMRI fails here too)",
            self.kind, self.columns, self.center_fraction, self.acceleration
        ))
    }
}

/// `calculate_center_mask`
fn low_band(width: usize, low: usize) -> Range<usize> {
    let pad = (width - low).div_ceil(2);
    pad..pad + low
}

/// Python's `mask[offset::step] = 1`.
fn every(width: usize, offset: usize, step: usize) -> Vec<bool> {
    (0..width).map(|column| column >= offset && (column - offset).is_multiple_of(step)).collect()
}
