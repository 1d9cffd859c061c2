//! Reading fastMRI's multi-coil files, whose layout M4Raw's have too: the same slices, the same padding, the same crop size as
//! `fastmri.data.mri_data.SliceDataset`.

use std::path::Path;

use num_complex::Complex32;

use super::hdf5::{Container, Dataset};
use super::ismrmrd::Header;
use super::volume::{Layout, Slice, VolumeFile};
use crate::error::Result;

/// The metadata of a volume; nothing of its k-space is read.
pub(super) fn metadata(file: &Container, path: &Path) -> Result<VolumeFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
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
    let (padding_left, padding_right) = header.padding(columns).map_err(|error| file.error(error))?;

    let attributes = file.attributes()?;
    let number = |name: &str| {
        let value = attributes.get(name)?;
        value.as_f64().or_else(|| value.as_i64().map(|value| value as f64))
    };
    let text = |name: &str| attributes.get(name)?.as_str().map(str::to_string);

    Ok(VolumeFile {
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

/// One slice of a volume that [`metadata`] has seen, with k-space where `memory` is, and with its target if that is asked for;
/// `None` where the file is no longer what it was.
pub(super) fn read_slice(
    file: &Container,
    volume: &VolumeFile,
    index: usize,
    target: bool,
    memory: Vec<Complex32>,
) -> Result<Option<Slice>> {
    let Some(kspace) = kspace(file, volume)? else { return Ok(None) };
    let kspace = kspace.complex_row(index, memory)?;
    let target = match volume.target.filter(|_| target) {
        Some(size) => match read_target(file, volume.slices, size, index)? {
            None => return Ok(None),
            target => target,
        },
        None => None,
    };
    Ok(Some(Slice { kspace, target }))
}

/// The first coil alone of a slice; `None` where the file is no longer what it was.
pub(super) fn read_first_coil(
    file: &Container,
    volume: &VolumeFile,
    index: usize,
) -> Result<Option<Vec<Complex32>>> {
    let kspace = kspace(file, volume)?;
    kspace.map(|kspace| kspace.complex_part(index, [0, volume.stored_coils()], index, Vec::new())).transpose()
}

fn kspace<'f>(file: &'f Container, volume: &VolumeFile) -> Result<Option<Dataset<'f>>> {
    let [rows, columns] = volume.matrix;
    let as_before = |found: &Dataset| found.shape == [volume.slices, volume.stored_coils(), rows, columns];
    Ok(file.dataset("kspace")?.filter(as_before))
}

fn read_target(
    file: &Container,
    slices: usize,
    [height, width]: [usize; 2],
    index: usize,
) -> Result<Option<Vec<f32>>> {
    match file.dataset("reconstruction_rss")? {
        Some(target) if target.shape == [slices, height, width] => target.real_row(index).map(Some),
        _ => Ok(None),
    }
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
