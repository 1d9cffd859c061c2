//! Reading one multi-coil volume: its metadata once, then slice by slice. What is in a file says which layout it has.

use std::path::Path;

use num_complex::Complex32;

use super::hdf5::{Container, with_container};
use super::volume::{Layout, Slice, VolumeFile};
use super::{cmrxrecon, fastmri};
use crate::error::{Error, Result};

impl VolumeFile {
    /// Reads the metadata of the file at `path`, and nothing of its k-space in fastMRI's layout.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened; [`Error::Input`] if it is no HDF5 file, truncated, or not a
    /// multi-coil volume of a layout that is known, with what was expected and found.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        with_container(path, |file| match cmrxrecon::variable(file)? {
            Some(variable) => cmrxrecon::metadata(file, path, variable),
            None => fastmri::metadata(file, path),
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

    /// The k-space of the first of the scanner's coils in a slice, `[rows, columns]`: little to read where it lies in the file
    /// as it is.
    ///
    /// # Errors
    /// As [`Self::read_slice`].
    pub(super) fn read_first_coil(&self, index: usize) -> Result<Vec<Complex32>> {
        with_container(&self.path, |file| {
            let kspace = match self.layout {
                Layout::FastMri => fastmri::read_first_coil(file, self, index)?,
                Layout::CmrxRecon { variable, .. } => {
                    cmrxrecon::read_first_coil(file, self, variable, index)?
                }
            };
            kspace.ok_or_else(|| changed(file))
        })
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
            let slice = match self.layout {
                Layout::FastMri => fastmri::read_slice(file, self, index, target, memory)?,
                Layout::CmrxRecon { variable, .. } => {
                    cmrxrecon::read_slice(file, self, variable, index, target)?
                }
            };
            slice.ok_or_else(|| changed(file))
        })
    }
}

fn changed(file: &Container) -> Error {
    file.error("the file has changed since it was opened; start again")
}
