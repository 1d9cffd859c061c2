//! What a volume is once it has been read, whatever file it came from, and what a writer needs to make one.

use num_complex::Complex32;

/// How a volume lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// fastMRI's, which is M4Raw's too.
    FastMri,
    /// MATLAB 7.3 as CMRxRecon has it: `variable` is the k-space, and its slices are `frames` times the same ones.
    CmrxRecon { variable: &'static str, frames: usize },
}

/// One multi-coil slice as the scanner gave it (fully sampled, or undersampled where the volume has a mask).
#[derive(Clone, Debug)]
pub struct Slice {
    /// `[coils, rows, columns]`, columns being the phase-encoding direction that masks undersample.
    pub kspace: Vec<Complex32>,
    /// `[height, width]` of the reference image; absent in test files.
    pub target: Option<Vec<f32>>,
}

/// A whole volume to be written as a fastMRI multi-coil file.
#[derive(Clone, Debug)]
pub struct NewVolume {
    pub slices: usize,
    pub coils: usize,
    /// k-space matrix `[rows, columns]` (fastMRI's H and W, readout oversampling included).
    pub matrix: [usize; 2],
    /// Size of `reconstruction_rss` and of `reconSpace` in the header.
    pub recon: [usize; 2],
    /// `[slices, coils, rows, columns]`.
    pub kspace: Vec<Complex32>,
    /// `[slices, height, width]`: RSS of the fully sampled images, centre-cropped.
    pub reconstruction_rss: Vec<f32>,
    /// `encodingLimits.kspace_encoding_step_1`: number of acquired phase-encoding lines minus one, and the
    /// index of the centre among them. Columns outside are zero padding.
    pub encoding_limit_max: usize,
    pub encoding_limit_center: usize,
    pub acquisition: String,
    pub patient_id: String,
}
