//! What a network is shown and what it is compared with, on the host: slices of one shape, undersampled.

use std::str::FromStr;
use std::sync::Mutex;

use num_complex::Complex32;
use serde::{Deserialize, Serialize};

use crate::backend::ImageShape;
use crate::data::mask::{ColumnMask, MaskFunction, MaskKind, MaskSeed, training_seed};
use crate::data::set::VolumeSet;
use crate::data::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Undersampled slices of one shape.
#[derive(Clone, Debug)]
pub struct Batch {
    pub shape: ImageShape,
    /// `[N, coils, rows, columns]`. Values at columns outside the mask are not looked at.
    pub kspace: Vec<Complex32>,
    /// `[N, columns]`: sampled columns.
    pub mask: Vec<bool>,
    /// `[N, columns]`: the fully sampled centre, which sensitivity maps are estimated from.
    pub centre: Vec<bool>,
}

/// What a batch's reconstruction should be.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Height and width.
    pub size: [usize; 2],
    /// `[N, height, width]`.
    pub images: Vec<f32>,
    /// Data range of each slice: its volume's `max` attribute.
    pub max_value: Vec<f64>,
}

/// Where masks come from when slices are undersampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MaskSeeding {
    /// A new mask for every slice and epoch, a function of run seed, epoch, volume and slice; where networks are measured, of
    /// volume and slice alone.
    Random,
    /// fastMRI's mask of the file name: the same in every run and every program.
    Filename,
}

/// How k-space is undersampled, where it is not already; by default as in the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    #[serde(with = "mask_kind")]
    pub mask: MaskKind,
    pub accelerations: Vec<u32>,
    pub center_fractions: Vec<f64>,
    pub mask_seed: MaskSeeding,
    /// The most coils that the network sees: what volumes have more is compressed to these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_coils: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            mask: MaskKind::Equispaced,
            accelerations: vec![8],
            center_fractions: vec![0.04],
            mask_seed: MaskSeeding::Random,
            virtual_coils: None,
        }
    }
}

/// fastMRI's usual share of densely sampled columns is 0.08 at acceleration 4 and 0.04 at 8.
const CENTER_FRACTION_TIMES_ACCELERATION: f64 = 0.32;

/// The share of columns that is kept in the centre where nobody says otherwise.
pub fn center_fraction(acceleration: u32) -> f64 {
    CENTER_FRACTION_TIMES_ACCELERATION / f64::from(acceleration.max(1))
}

mod mask_kind {
    use super::{FromStr, MaskKind};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(kind: &MaskKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MaskKind, D::Error> {
        MaskKind::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Draws each slice's mask.
#[derive(Clone, Debug)]
pub struct Sampler {
    function: MaskFunction,
    seeding: MaskSeeding,
    run_seed: u64,
    virtual_coils: Option<usize>,
}

impl Sampler {
    /// # Errors
    /// As [`MaskFunction::new`].
    pub fn new(sampling: &Sampling, run_seed: u64) -> Result<Self> {
        let function = MaskFunction::new(sampling.mask, &sampling.center_fractions, &sampling.accelerations)?;
        if sampling.virtual_coils == Some(0) {
            return Err(Error::input("0 virtual coils: expected at least one, such as 8"));
        }
        Ok(Self { function, seeding: sampling.mask_seed, run_seed, virtual_coils: sampling.virtual_coils })
    }

    /// The same masks in every run and epoch, whatever `sampling` says: for measuring.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn fixed(sampling: &Sampling) -> Result<Self> {
        Self::new(&Sampling { mask_seed: MaskSeeding::Filename, ..sampling.clone() }, 0)
    }

    /// The set as the network is to see it: with virtual coils, where the settings ask for them and volumes have more.
    ///
    /// # Errors
    /// Those of [`VolumeSet::with_virtual_coils`] and of [`Self::calibration`].
    pub fn compressed(&self, set: VolumeSet) -> Result<VolumeSet> {
        let Some(count) = self.virtual_coils else { return Ok(set) };
        let progress = Mutex::new(Progress::new(set.volumes().len() as u64, "compressing coils"));
        let lock = || progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let set = set.with_virtual_coils(count, |volume| self.calibration(volume), || lock().step(""))?;
        let mut progress = progress.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        progress.line(&set.virtual_coils_summary().unwrap_or_else(|| {
            format!("no volume of {} has more than {count} coils: there is nothing to compress", set.named())
        }));
        progress.finish();
        Ok(set)
    }

    /// The columns of a volume that are measured in every slice and by every mask, densely, in the centre: what virtual
    /// coils may be made from.
    ///
    /// # Errors
    /// Where there are none, naming the file.
    pub fn calibration(&self, volume: &VolumeFile) -> Result<Vec<bool>> {
        let named = |error: Error| error.of_file(&volume.path);
        let columns = match &volume.mask {
            Some(columns) => columns.clone(),
            None => self.function.densely_sampled(volume.matrix[1]).map_err(named)?,
        };
        let mut calibration = ColumnMask::stored(columns);
        calibration.apply_padding(volume.padding_left, volume.padding_right).map_err(named)?;
        if volume.mask.is_some() {
            let band = calibration.center_band();
            calibration.columns.iter_mut().enumerate().for_each(|(x, sampled)| *sampled &= band.contains(&x));
        }
        if calibration.sampled() == 0 {
            return Err(named(Error::input(
                "no column in the centre of k-space is in every mask, and virtual coils are made from those: use a larger \
                 center fraction, or masks with a centre, or do without --virtual-coils",
            )));
        }
        Ok(calibration.columns)
    }

    /// The columns of a slice that count as sampled. A volume that brings its own mask keeps it.
    ///
    /// # Errors
    /// A mask that leaves nothing, naming the file.
    pub fn mask(&self, volume: &VolumeFile, slice: usize, epoch: u64) -> Result<ColumnMask> {
        let named = |error: Error| error.of_file(&volume.path);
        let columns = volume.matrix[1];
        let mut mask = match &volume.mask {
            Some(columns) => ColumnMask::stored(columns.clone()),
            None => {
                let seed = match self.seeding {
                    MaskSeeding::Filename => MaskSeed::FileName(&volume.name),
                    MaskSeeding::Random => {
                        MaskSeed::Integer(training_seed(self.run_seed, epoch, &volume.name, slice))
                    }
                };
                self.function.sample(columns, seed).map_err(named)?
            }
        };
        mask.apply_padding(volume.padding_left, volume.padding_right).map_err(named)?;
        has_centre(&mask, volume)?;
        Ok(mask)
    }
}

/// Refuses columns of a volume that no sampling can work with: by its header, or by a mask of its own.
///
/// # Errors
/// Naming the file.
pub fn check_columns(volume: &VolumeFile) -> Result<()> {
    let own = volume.mask.clone();
    let mut mask = ColumnMask::stored(own.unwrap_or_else(|| vec![true; volume.matrix[1]]));
    mask.apply_padding(volume.padding_left, volume.padding_right)
        .map_err(|error| error.of_file(&volume.path))?;
    if volume.mask.is_some() { has_centre(&mask, volume) } else { Ok(()) }
}

fn has_centre(mask: &ColumnMask, volume: &VolumeFile) -> Result<()> {
    if mask.center_band().any(|x| mask.columns[x]) {
        return Ok(());
    }
    let remedy = match volume.mask {
        Some(_) => "the mask is the file's own: leave the volume out, or mend its mask",
        None => "use a larger center fraction",
    };
    let error = Error::input(format!(
        "the mask samples no column of the centre of k-space, which sensitivity maps are made from; {remedy}"
    ));
    Err(error.of_file(&volume.path))
}

/// The shape of a batch of `n` slices of a volume.
pub fn image_shape(volume: &VolumeFile, n: usize) -> ImageShape {
    let [rows, columns] = volume.matrix;
    ImageShape { n, coils: volume.coils, rows, columns }
}

impl Batch {
    /// Joins the k-space of slices of one shape with their masks; that of a single slice stays where it is.
    ///
    /// # Panics
    /// Where there are none, or their sizes differ from `shape`'s.
    pub fn new(volume: &VolumeFile, slices: impl IntoIterator<Item = (Vec<Complex32>, ColumnMask)>) -> Self {
        let [rows, columns] = volume.matrix;
        let mut batch =
            Self { shape: image_shape(volume, 0), kspace: Vec::new(), mask: Vec::new(), centre: Vec::new() };
        for (kspace, mask) in slices {
            assert_eq!(kspace.len(), volume.coils * rows * columns, "a slice of another shape");
            let band = mask.center_band();
            batch.shape.n += 1;
            if batch.kspace.is_empty() {
                batch.kspace = kspace;
            } else {
                batch.kspace.extend_from_slice(&kspace);
            }
            // The band can hold a column that was not sampled: what was never measured stays unseen.
            batch.centre.extend((0..columns).map(|x| band.contains(&x) && mask.columns[x]));
            batch.mask.extend(mask.columns);
        }
        assert!(batch.shape.n > 0, "a batch without slices");
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::data::volume::Layout;
    use crate::engine::Engine;
    use crate::model::Architecture;

    /// 13 columns: the band of a mask without known centre ends one column past the dense part.
    fn batch(outside: f32) -> Batch {
        let (coils, rows, columns) = (2, 10, 13);
        let mask: Vec<bool> = (0..columns).map(|x| x % 4 == 0 || (5..8).contains(&x)).collect();
        let kspace = (0..coils * rows * columns).map(|i| match mask[i % columns] {
            true => Complex32::new((i * 37 % 101) as f32 / 101.0, (i * 53 % 97) as f32 / 97.0 - 0.5),
            false => Complex32::new(outside, -outside),
        });
        let kspace = kspace.collect();
        let volume = VolumeFile {
            path: "volume.h5".into(),
            name: "volume.h5".into(),
            layout: Layout::FastMri,
            slices: 1,
            coils,
            virtual_coils: None,
            matrix: [rows, columns],
            recon: [rows, columns],
            encoding_size: [rows, columns, 1],
            padding_left: 0,
            padding_right: columns as i64,
            max: None,
            norm: None,
            acquisition: None,
            patient_id: None,
            target: None,
            mask: Some(mask.clone()),
        };
        Batch::new(&volume, [(kspace, ColumnMask::stored(mask))])
    }

    #[test]
    fn what_was_not_sampled_is_not_looked_at() {
        let architecture = Architecture { cascades: 2, chans: 2, pools: 1, sens_chans: 2, sens_pools: 1 };
        let cpu = Cpu::<f32>::default();
        let mut engine = Engine::new(&cpu, architecture, &architecture.initial_parameters(1)).unwrap();
        let clean = engine.reconstruct(&batch(0.0)).unwrap();
        assert_eq!(engine.reconstruct(&batch(1e9)).unwrap(), clean);
    }
}
