//! Reading CMRxRecon's multi-coil files: MATLAB 7.3, which is HDF5 with the axes reversed.
//!
//! A file holds one variable: `kspace_full` (`kspace` in 2025), fully sampled, or `kspace_sub04`, `08`, `10` (2023) and
//! `kus` (since 2024), with zeros where nothing was sampled. MATLAB's `(nx, ny, coils, slices, frames)` is HDF5's
//! `[frames, slices, coils, ny, nx]`; ny is the phase-encoding direction, so each plane is transposed to kerase's rows
//! and columns, which are MATLAB's too. Frames and slices are counted as one, as they lie in the file.
//! Sources and details: docs/data.md.

use std::path::Path;

use num_complex::Complex32;

use super::hdf5::{Container, Dataset};
use super::rss::root_sum_of_squares;
use super::volume::{Layout, Slice, VolumeFile};
use crate::error::Result;
use crate::progress::got_on;

/// The variables that may hold the k-space, fully sampled ones first.
const FULL: [&str; 2] = ["kspace_full", "kspace"];
const UNDERSAMPLED: [&str; 4] = ["kspace_sub04", "kspace_sub08", "kspace_sub10", "kus"];

/// What a file is known by: the variable with its k-space.
pub(super) fn variable(file: &Container) -> Result<Option<&'static str>> {
    for name in FULL.into_iter().chain(UNDERSAMPLED) {
        // fastMRI's k-space has this name too, but MATLAB notes the class of what it writes.
        if let Some(dataset) = file.dataset(name)?
            && (name != "kspace" || dataset.is_matlab())
        {
            return Ok(Some(name));
        }
    }
    if file.dataset("kspace")?.is_some() {
        return Ok(None);
    }
    let names = file.dataset_names()?;
    if names.iter().any(|name| name.starts_with("kspace_single")) {
        return Err(file.error(format!(
            "'{}' is single-coil k-space: kerase needs CMRxRecon's MultiCoil files",
            names.join(", ")
        )));
    }
    if !names.is_empty() && names.iter().all(|name| name.starts_with("mask")) {
        return Err(file.error(
            "this is a mask without k-space: give the file with the undersampled k-space alone, which shows what was \
             sampled, and leave masks out of the set",
        ));
    }
    Ok(None)
}

/// How a variable's axes are to be understood.
struct Stored<'a> {
    dataset: Dataset<'a>,
    frames: usize,
    /// Slices of each frame.
    slices: usize,
    coils: usize,
    /// nx and ny.
    matrix: [usize; 2],
    fully_sampled: bool,
}

impl<'a> Stored<'a> {
    fn open(file: &'a Container, name: &'static str) -> Result<Option<Self>> {
        let Some(dataset) = file.dataset(name)? else { return Ok(None) };
        // MATLAB leaves out trailing axes of length 1, which are HDF5's leading ones.
        let (frames, slices, coils, ny, nx) = match dataset.shape[..] {
            [frames, slices, coils, ny, nx] => (frames, slices, coils, ny, nx),
            [slices, coils, ny, nx] => (1, slices, coils, ny, nx),
            [coils, ny, nx] => (1, 1, coils, ny, nx),
            _ => {
                return Err(file.error(format!(
                    "'{name}' has shape {:?} in HDF5's order: expected [frames, slices, coils, ny, nx], or without \
                     frames; kerase needs CMRxRecon's MultiCoil files",
                    dataset.shape
                )));
            }
        };
        if dataset.shape.contains(&0) {
            return Err(file.error(format!("'{name}' is empty: it has shape {:?}", dataset.shape)));
        }
        dataset.complex_layout()?;
        let fully_sampled = FULL.contains(&name);
        Ok(Some(Self { dataset, frames, slices, coils, matrix: [nx, ny], fully_sampled }))
    }

    /// k-space of slice `index`, frames being outermost: `[coils, rows, columns]`.
    fn kspace(&self, index: usize) -> Result<Vec<Complex32>> {
        if self.dataset.shape.len() < 4 {
            // One slice, and the leading axis is that of coils.
            let coils = (0..self.coils).map(|coil| self.dataset.complex_row(coil, Vec::new()));
            return Ok(self.transposed(&coils.collect::<Result<Vec<_>>>()?.concat()));
        }
        let (row, part, parts) = self.place(index);
        Ok(self.transposed(&self.dataset.complex_part(row, [part, parts], index, Vec::new())?))
    }

    /// The first coil of that: `[rows, columns]`.
    fn first_coil(&self, index: usize) -> Result<Vec<Complex32>> {
        if self.dataset.shape.len() < 4 {
            return Ok(self.transposed(&self.dataset.complex_row(0, Vec::new())?));
        }
        let (row, part, parts) = self.place(index);
        let coil = [part * self.coils, parts * self.coils];
        Ok(self.transposed(&self.dataset.complex_part(row, coil, index, Vec::new())?))
    }

    /// The row of the leading axis that a slice is in, which part of it, and of how many.
    fn place(&self, index: usize) -> (usize, usize, usize) {
        match self.dataset.shape.len() {
            5 => (index / self.slices, index % self.slices, self.slices),
            _ => (index, 0, 1),
        }
    }

    fn transposed(&self, stored: &[Complex32]) -> Vec<Complex32> {
        let [rows, columns] = self.matrix;
        let mut kspace = vec![Complex32::ZERO; stored.len()];
        for (to, from) in kspace.chunks_exact_mut(rows * columns).zip(stored.chunks_exact(rows * columns)) {
            for (x, column) in from.chunks_exact(rows).enumerate() {
                for (y, &z) in column.iter().enumerate() {
                    to[y * columns + x] = z;
                }
            }
        }
        kspace
    }

    /// The columns that slice 0 has numbers in.
    fn mask(&self, file: &Container) -> Result<Vec<bool>> {
        let kspace = self.kspace(0)?;
        let [rows, columns] = self.matrix;
        let mut sampled = vec![false; rows * columns];
        for coil in kspace.chunks_exact(rows * columns) {
            sampled.iter_mut().zip(coil).for_each(|(sampled, z)| *sampled |= *z != Complex32::ZERO);
        }
        let any = |row: &[bool]| row.contains(&true);
        let columns_sampled: Vec<bool> =
            (0..columns).map(|x| (0..rows).any(|y| sampled[y * columns + x])).collect();
        // Rows that nothing was sampled in are no part of the mask: the echo may have been asymmetric.
        if sampled.chunks_exact(columns).any(|row| any(row) && row != columns_sampled) {
            return Err(file.error(
                "what was sampled are no whole columns (of MATLAB's second axis): kerase needs masks that choose whole \
                 columns; 2-D masks, such as CMRxRecon's ktRadial, are not supported",
            ));
        }
        if !any(&columns_sampled) {
            return Err(
                file.error("slice 0 is all zeros: nothing was sampled there; download the file again")
            );
        }
        Ok(columns_sampled)
    }
}

/// The metadata of a volume. Where the k-space is fully sampled all of it is read, slice by slice, as the largest value
/// of the reference images is nowhere in the file.
pub(super) fn metadata(file: &Container, path: &Path, variable: &'static str) -> Result<VolumeFile> {
    let stored =
        Stored::open(file, variable)?.ok_or_else(|| file.error("the file changes while it is read"))?;
    let (mut max, mut square, mut mask) = (None, 0.0, None);
    if stored.fully_sampled {
        let mut largest = f32::NEG_INFINITY;
        for index in 0..stored.frames * stored.slices {
            for value in root_sum_of_squares(&stored.kspace(index)?, stored.matrix) {
                largest = largest.max(value);
                square += f64::from(value).powi(2);
            }
            got_on();
        }
        max = Some(f64::from(largest));
    } else {
        mask = Some(stored.mask(file)?);
    }
    let [rows, columns] = stored.matrix;
    let (name, patient_id, acquisition) = names(path);
    Ok(VolumeFile {
        path: path.to_path_buf(),
        name,
        layout: Layout::CmrxRecon { variable, frames: stored.frames },
        slices: stored.frames * stored.slices,
        coils: stored.coils,
        virtual_coils: None,
        matrix: stored.matrix,
        recon: stored.matrix,
        encoding_size: [rows, columns, 1],
        padding_left: 0,
        padding_right: columns as i64,
        max,
        norm: max.map(|_| f64::sqrt(square)),
        acquisition: Some(acquisition),
        patient_id,
        target: stored.fully_sampled.then_some(stored.matrix),
        mask,
    })
}

/// Every patient's files have the same names, in a directory of the patient's: `P001/cine_lax.mat` is called
/// `P001_cine_lax.h5`, which is also what `kerase convert` makes of it. With it, patient and acquisition.
fn names(path: &Path) -> (String, Option<String>, String) {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    let acquisition = text(whole.file_stem()).unwrap_or_default();
    let patient = text(whole.parent().and_then(Path::file_name));
    let name = patient.iter().chain([&acquisition]).map(String::as_str).collect::<Vec<_>>().join("_");
    (name + ".h5", patient, acquisition)
}

/// How a volume that [`metadata`] has seen is stored; `None` where the file is no longer what it was.
fn stored_as<'f>(
    file: &'f Container,
    volume: &VolumeFile,
    variable: &'static str,
) -> Result<Option<Stored<'f>>> {
    let same = |stored: &Stored| {
        let slices = stored.frames * stored.slices;
        (slices, stored.coils, stored.matrix) == (volume.slices, volume.stored_coils(), volume.matrix)
    };
    Ok(Stored::open(file, variable)?.filter(same))
}

/// The first coil alone of a slice; `None` where the file is no longer what it was.
pub(super) fn read_first_coil(
    file: &Container,
    volume: &VolumeFile,
    variable: &'static str,
    index: usize,
) -> Result<Option<Vec<Complex32>>> {
    stored_as(file, volume, variable)?.map(|stored| stored.first_coil(index)).transpose()
}

/// One slice of a volume that [`metadata`] has seen; `None` where the file is no longer what it was.
pub(super) fn read_slice(
    file: &Container,
    volume: &VolumeFile,
    variable: &'static str,
    index: usize,
    target: bool,
) -> Result<Option<Slice>> {
    let Some(stored) = stored_as(file, volume, variable)? else { return Ok(None) };
    let kspace = stored.kspace(index)?;
    if let Some(mask) = &volume.mask {
        let columns = volume.matrix[1];
        let outside = kspace.iter().enumerate().find(|(at, z)| !mask[at % columns] && **z != Complex32::ZERO);
        if let Some((at, _)) = outside {
            return Err(file.error(format!(
                "slice {index} was sampled at column {}, slice 0 was not: kerase needs one mask for all slices of a \
                 volume; masks that change from frame to frame, such as CMRxRecon's kt masks, are not supported",
                at % columns
            )));
        }
    }
    let target = volume.target.filter(|_| target).map(|_| root_sum_of_squares(&kspace, volume.matrix));
    Ok(Some(Slice { kspace, target }))
}
