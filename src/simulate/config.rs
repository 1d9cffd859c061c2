//! What to simulate, and whether that is possible.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which part of the body is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Anatomy {
    /// T2-weighted head, axial slices from the skull base to the crown.
    Brain,
    /// Proton-density knee, sagittal slices from the lateral to the medial side.
    Knee,
}

impl Anatomy {
    pub const ALL: [Self; 2] = [Self::Brain, Self::Knee];

    /// The name of the sequence, as in fastMRI's `acquisition` attribute.
    pub fn acquisition(self) -> &'static str {
        match self {
            Self::Brain => "AXT2",
            Self::Knee => "SAGPD",
        }
    }
}

impl fmt::Display for Anatomy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brain => "brain",
            Self::Knee => "knee",
        })
    }
}

impl FromStr for Anatomy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.to_string() == name).ok_or_else(|| {
            Error::input(format!("there is no anatomy \"{name}\" to simulate: choose brain or knee"))
        })
    }
}

/// The settings of a simulated data set; a subject number then makes a volume of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulateConfig {
    pub anatomy: Anatomy,
    /// k-space matrix `[rows, columns]`: readout, with its oversampling, and phase encoding.
    pub matrix: [usize; 2],
    /// Size `[height, width]` of the reference image, which spans the anatomy's field of view; rows beyond it
    /// are readout oversampling, columns beyond it a wider field of view.
    pub recon: [usize; 2],
    pub slices: usize,
    /// 1 (a volume coil) to 64 loop coils.
    pub coils: usize,
    /// Standard deviation of the noise in the real and in the imaginary part of every acquired k-space
    /// sample (and so of every pixel of a coil image), relative to bright tissue in the middle of the object.
    pub noise: f64,
    /// Phase-encoding lines measured, round the centre; the columns beyond are zero padding. All when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquired_lines: Option<usize>,
    pub seed: u64,
}

impl SimulateConfig {
    /// A small volume that networks learn from in minutes without a GPU: 128×128 with twofold readout
    /// oversampling, 16 slices, 8 coils. Knee data are noisier, as fastMRI's are.
    pub fn new(anatomy: Anatomy) -> Self {
        let noise = match anatomy {
            Anatomy::Brain => 0.008,
            Anatomy::Knee => 0.014,
        };
        Self {
            anatomy,
            matrix: [256, 128],
            recon: [128, 128],
            slices: 16,
            coils: 8,
            noise,
            acquired_lines: None,
            seed: 42,
        }
    }

    /// fastMRI's usual sizes: brain 640×320, knee 640×368 of which 322 columns are measured; 320×320 images.
    pub fn fastmri(anatomy: Anatomy) -> Self {
        let (columns, acquired_lines, slices, coils) = match anatomy {
            Anatomy::Brain => (320, None, 16, 16),
            Anatomy::Knee => (368, Some(322), 32, 15),
        };
        let (matrix, recon) = ([640, columns], [320, 320]);
        Self { matrix, recon, slices, coils, acquired_lines, ..Self::new(anatomy) }
    }

    /// The measured columns, as fastMRI works them out from the limits in the header.
    pub fn acquired_columns(&self) -> std::ops::Range<usize> {
        let lines = self.acquired_lines.unwrap_or(self.matrix[1]);
        let left = self.matrix[1] / 2 - lines / 2;
        left..left + lines
    }

    /// Refuses what cannot be simulated.
    pub fn validate(&self) -> Result<()> {
        let [rows, columns] = self.matrix;
        for (axis, matrix, recon) in [("rows", rows, self.recon[0]), ("columns", columns, self.recon[1])] {
            if !(2..=8192).contains(&matrix) {
                return Err(Error::input(format!("the matrix has {matrix} {axis}: give 2 to 8192")));
            }
            if !(1..=matrix).contains(&recon) {
                return Err(Error::input(format!(
                    "the reconstruction has {recon} {axis}, the k-space matrix {matrix}: give 1 to {matrix}, \
                     for the image is cropped from the matrix"
                )));
            }
        }
        if !(1..=64).contains(&self.coils) {
            return Err(Error::input(format!("cannot simulate {} coils: give 1 to 64", self.coils)));
        }
        if !(1..=1024).contains(&self.slices) {
            return Err(Error::input(format!("cannot simulate {} slices: give 1 to 1024", self.slices)));
        }
        if !(0.0..=100.0).contains(&self.noise) {
            return Err(Error::input(format!(
                "noise of {} is not a relative standard deviation: give 0 to 100, for instance 0.01",
                self.noise
            )));
        }
        if let Some(lines) = self.acquired_lines
            && !(1..=columns).contains(&lines)
        {
            return Err(Error::input(format!(
                "cannot acquire {lines} of {columns} phase-encoding lines: give 1 to {columns}"
            )));
        }
        let samples = self.slices * self.coils * rows * columns;
        if samples > 1 << 32 {
            return Err(Error::input(format!(
                "{} slices of {} coils and {rows}x{columns} samples are {} GiB of k-space in memory: give \
                 fewer slices or a smaller matrix (at most 32 GiB)",
                self.slices,
                self.coils,
                samples >> 27
            )));
        }
        Ok(())
    }
}

/// What fastMRI would call the file: knee volumes begin with `file1`, brain volumes with `file_brain_`.
pub fn file_name(anatomy: Anatomy, subject: u64) -> String {
    match anatomy {
        Anatomy::Brain => format!("file_brain_AXT2_200_{subject:07}.h5"),
        Anatomy::Knee => format!("file1{subject:06}.h5"),
    }
}
