//! Reading one multi-coil volume: its metadata once, then slice by slice.
//!
//! What is in a file says which layout it has: fastMRI's, which M4Raw shares, or CMRxRecon's (see `cmrxrecon.rs`). fastMRI's
//! follows `fastmri.data.mri_data.SliceDataset`: the same slices, the same padding, the same crop size.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use num_complex::Complex32;

use super::cmrxrecon;
use super::hdf5::{Container, Dataset, with_container};
use super::ismrmrd::Header;
use super::virtual_coils::VirtualCoils;
use super::volume::{Layout, Slice};
use crate::error::{Error, Result};

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
    /// Reads the metadata of the file at `path`, and nothing of its k-space in fastMRI's layout.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened; [`Error::Input`] if it is no HDF5 file, truncated, or not a
    /// multi-coil volume of a layout that is known, with what was expected and found.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        with_container(path, |file| Self::read_metadata(file, path, name))
    }

    fn read_metadata(file: &Container, path: &Path, name: String) -> Result<Self> {
        if let Some(variable) = cmrxrecon::variable(file)? {
            return cmrxrecon::metadata(file, path, variable);
        }
        let kspace = file.dataset("kspace")?.ok_or_else(|| {
            file.error(format!(
                "no dataset 'kspace' (found {}): expected a multi-coil volume as fastMRI and M4Raw have them, or one of \
                 CMRxRecon with 'kspace_full', 'kspace_sub04' or 'kus'; links to other places are not followed",
                file.names()
            ))
        })?;
        let [slices, coils, rows, columns] = kspace_shape(file, &kspace)?;
        kspace.complex_layout()?;

        let header = file.dataset("ismrmrd_header")?.ok_or_else(|| {
            file.error(format!(
                "no dataset 'ismrmrd_header' (found {}): the crop size and the zero-padded columns are in it; \
                 copy it from the original file",
                file.names()
            ))
        })?;
        let header = Header::parse(&header.string()?).map_err(|error| file.error(error))?;
        let (padding_left, padding_right) = header.padding(columns);

        let attributes = file.attributes()?;
        let number = |name: &str| {
            let value = attributes.get(name)?;
            value.as_f64().or_else(|| value.as_i64().map(|value| value as f64))
        };
        let text = |name: &str| attributes.get(name)?.as_str().map(str::to_string);

        Ok(Self {
            path: path.to_path_buf(),
            name,
            layout: Layout::FastMri,
            slices,
            coils,
            virtual_coils: None,
            matrix: [rows, columns],
            recon: [header.recon_size[0], header.recon_size[1]],
            encoding_size: header.encoding_size,
            padding_left,
            padding_right,
            max: number("max"),
            norm: number("norm"),
            acquisition: text("acquisition"),
            patient_id: text("patient_id"),
            target: target_shape(file, slices)?,
            mask: stored_mask(file, columns)?,
        })
    }

    /// Reads slice `index` (from 0), and only that slice, of k-space and target.
    ///
    /// # Errors
    /// As [`VolumeFile::open`]; [`Error::Input`] if there is no such slice or if it contains NaN or infinity.
    pub fn read_slice(&self, index: usize) -> Result<Slice> {
        self.read_slice_into(index, Vec::new())
    }

    /// As [`Self::read_slice`], with k-space in memory that is there already.
    pub(super) fn read_slice_into(&self, index: usize, memory: Vec<Complex32>) -> Result<Slice> {
        let mut slice = self.read_stored(index, true, memory)?;
        if let Some(virtual_coils) = &self.virtual_coils {
            virtual_coils.apply(&mut slice.kspace);
        }
        Ok(slice)
    }

    /// As [`Self::read_slice`], with the coils of the scanner: what of a slice does not depend on any setting.
    ///
    /// # Errors
    /// As [`Self::read_slice`].
    pub fn read_slice_as_stored(&self, index: usize) -> Result<Slice> {
        self.read_stored(index, true, Vec::new())
    }

    /// The target of a slice alone; none where there is none, or where it is made of k-space (CMRxRecon).
    ///
    /// # Errors
    /// As [`Self::read_slice`].
    pub fn read_target(&self, index: usize) -> Result<Option<Vec<f32>>> {
        match (self.target, self.layout) {
            (Some(size), Layout::FastMri) => {
                with_container(&self.path, |file| self.target_row(file, size, index)).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn target_row(&self, file: &Container, [height, width]: [usize; 2], index: usize) -> Result<Vec<f32>> {
        let target = file.dataset("reconstruction_rss")?.ok_or_else(|| changed(file))?;
        if target.shape != [self.slices, height, width] {
            return Err(changed(file));
        }
        target.real_row(index)
    }

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

    /// A slice with the coils of the scanner, and with its target if that is asked for.
    pub(super) fn read_stored(&self, index: usize, target: bool, memory: Vec<Complex32>) -> Result<Slice> {
        if index >= self.slices {
            return Err(Error::input(format!(
                "{}: there is no slice {index}: the volume has slices 0..{}",
                self.path.display(),
                self.slices
            )));
        }
        with_container(&self.path, |file| {
            if let Layout::CmrxRecon { variable, .. } = self.layout {
                return cmrxrecon::read_slice(file, self, variable, index, target)?
                    .ok_or_else(|| changed(file));
            }
            let kspace = file.dataset("kspace")?.ok_or_else(|| changed(file))?;
            if kspace.shape != [self.slices, self.stored_coils(), self.matrix[0], self.matrix[1]] {
                return Err(changed(file));
            }
            let kspace = kspace.complex_row(index, memory)?;

            let target = self.target.filter(|_| target);
            let target = target.map(|size| self.target_row(file, size, index)).transpose()?;
            Ok(Slice { kspace, target })
        })
    }
}

fn changed(file: &Container) -> Error {
    file.error("the file has changed since it was opened; start again")
}

fn kspace_shape(file: &Container, kspace: &Dataset) -> Result<[usize; 4]> {
    let shape = match kspace.shape[..] {
        [slices, coils, rows, columns] => [slices, coils, rows, columns],
        [slices, rows, columns] => {
            return Err(file.error(format!(
                "'kspace' has shape [{slices}, {rows}, {columns}], a single-coil volume: kerase needs a multi-coil \
                 one, [slices, coils, rows, columns]; use fastMRI's multicoil_train, _val or _test files"
            )));
        }
        _ => {
            return Err(file.error(format!(
                "'kspace' has shape {:?}: expected [slices, coils, rows, columns]",
                kspace.shape
            )));
        }
    };
    if shape.contains(&0) {
        return Err(file.error(format!(
            "'kspace' is empty: it has {} slices, {} coils, {} rows, {} columns",
            shape[0], shape[1], shape[2], shape[3]
        )));
    }
    Ok(shape)
}

/// Height and width of the reference images, if the file has any.
fn target_shape(file: &Container, slices: usize) -> Result<Option<[usize; 2]>> {
    let Some(target) = file.dataset("reconstruction_rss")? else { return Ok(None) };
    match target.shape[..] {
        [count, height, width] if count == slices && height > 0 && width > 0 => {
            if !target.is_real()? {
                return Err(file.error("'reconstruction_rss' is not made of real numbers: expected float32"));
            }
            Ok(Some([height, width]))
        }
        _ => Err(file.error(format!(
            "'reconstruction_rss' has shape {:?}: expected [{slices}, height, width], as 'kspace' has {slices} \
             slices",
            target.shape
        ))),
    }
}

/// The stored column mask. fastMRI reshapes it to one value a column, so axes of length 1 do not matter.
fn stored_mask(file: &Container, columns: usize) -> Result<Option<Vec<bool>>> {
    let Some(mask) = file.dataset("mask")? else { return Ok(None) };
    let axes: Vec<usize> = mask.shape.iter().copied().filter(|&size| size != 1).collect();
    match axes[..] {
        [width] if width == columns => {}
        [] if columns == 1 => {}
        [] | [_] => {
            let width = axes.first().copied().unwrap_or(1);
            return Err(file.error(format!(
                "mask has {width} columns, k-space has {columns}: expected one value for each column; store the \
                 mask that the k-space was sampled with, or remove it and choose one with --mask"
            )));
        }
        _ => {
            return Err(file.error(format!(
                "'mask' has shape {:?}: kerase needs masks that choose whole columns, one value for each of the \
                 {columns} columns; 2-D masks are not supported",
                mask.shape
            )));
        }
    }
    mask.booleans().map(Some)
}
