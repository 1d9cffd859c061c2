//! What a volume is once it has been read, whatever file it came from, and what a writer needs to make one.

use std::path::PathBuf;
use std::sync::Arc;

use num_complex::Complex32;

use super::virtual_coils::VirtualCoils;

/// How a volume lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// fastMRI's, which is M4Raw's too.
    FastMri,
    /// MATLAB 7.3 as CMRxRecon has it: `variable` is the k-space, and its slices are `frames` times the same ones.
    CmrxRecon { variable: &'static str, frames: usize },
}

/// The metadata of one volume. No file is held open, so thousands of these are cheap, and slices can be read
/// from any number of threads at once.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeFile {
    /// Where the file is, as it was given to [`VolumeFile::open`].
    pub path: PathBuf,
    /// The bare file name with its extension: fastMRI seeds the volume's mask with it. Files of CMRxRecon are called as
    /// they would be in fastMRI's layout, with the patient's directory: `P001_cine_lax.h5`.
    pub name: String,
    pub layout: Layout,
    pub slices: usize,
    /// What slices have when they are read: the scanner's, or fewer, see [`Self::virtual_coils`].
    pub coils: usize,
    /// How the scanner's coils are combined when a slice is read, where they are.
    pub virtual_coils: Option<Arc<VirtualCoils>>,
    /// Rows (readout) and columns (phase encoding) of k-space.
    pub matrix: [usize; 2],
    /// Height and width that fastMRI crops images to: x and y of the header's `reconSpace`.
    pub recon: [usize; 2],
    /// x, y, z of the header's `encodedSpace`.
    pub encoding_size: [usize; 3],
    /// The acquired columns are `padding_left..padding_right`; give them to
    /// [`ColumnMask::apply_padding`](super::mask::ColumnMask::apply_padding).
    pub padding_left: i64,
    pub padding_right: i64,
    /// Largest value of the volume's reference images: the range of PSNR and SSIM. fastMRI uses 0.0 in files
    /// without targets.
    pub max: Option<f64>,
    pub norm: Option<f64>,
    /// Such as `AXT2` or `CORPD_FBK`.
    pub acquisition: Option<String>,
    pub patient_id: Option<String>,
    /// Height and width of `reconstruction_rss`; `None` in test files, which have none.
    pub target: Option<[usize; 2]>,
    /// Which columns were measured, `[columns]`, where the file says so (fastMRI's test files).
    pub mask: Option<Vec<bool>>,
}

impl VolumeFile {
    /// How many times slices are the same ones at another time: slice `t * slices / frames + z` is slice z of frame t.
    pub fn frames(&self) -> usize {
        match self.layout {
            Layout::FastMri => 1,
            Layout::CmrxRecon { frames, .. } => frames,
        }
    }

    /// The coils of the scanner.
    pub fn stored_coils(&self) -> usize {
        self.virtual_coils.as_ref().map_or(self.coils, |virtual_coils| virtual_coils.stored)
    }
}

/// A slice of a set: (index of the volume in the set, index of the slice in the volume).
pub type SliceId = (usize, usize);

/// What slices must share to be in one batch, and what the buffers of a network are sized for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceShape {
    pub coils: usize,
    /// Rows and columns of k-space.
    pub matrix: [usize; 2],
    /// Height and width of the target, if there is one.
    pub target: Option<[usize; 2]>,
}

impl std::fmt::Display for SliceShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [rows, columns] = self.matrix;
        write!(f, "{} coils, k-space {rows} x {columns}, ", self.coils)?;
        match self.target {
            Some([height, width]) => write!(f, "target {height} x {width}"),
            None => write!(f, "no target"),
        }
    }
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
