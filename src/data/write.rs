//! Writing fastMRI files: volumes as its training files, reconstructions as its leaderboard files.

use std::path::Path;

use hdf5_pure::{AttrValue, CompoundTypeBuilder, Error as Hdf5Error, FileBuilder};

use super::ismrmrd::Header;
use super::volume::NewVolume;
use crate::atomic;
use crate::error::{Error, Result};

/// Writes a volume so that fastMRI's `SliceDataset`, h5py and [`VolumeFile`](super::volume::VolumeFile) read
/// it: `kspace` complex64 `[slices, coils, rows, columns]`, `reconstruction_rss` float32
/// `[slices, height, width]`, `ismrmrd_header`, and the attributes `max` and `norm` (largest value and
/// Euclidean norm of `reconstruction_rss`), `acquisition`, `patient_id`.
///
/// The file appears whole or not at all, see [`atomic::write`].
///
/// # Errors
/// [`Error::Input`] where sizes contradict each other or numbers are not finite, [`Error::Io`] from the disk.
pub fn write_volume(path: impl AsRef<Path>, volume: &NewVolume) -> Result<()> {
    write_scan(path, volume, None)
}

/// The same for a scan that measured only the columns of `mask`: as fastMRI's test files, with `mask` and without
/// reference images, of which `volume` has none.
///
/// # Errors
/// As [`write_volume`].
pub fn write_undersampled(path: impl AsRef<Path>, volume: &NewVolume, mask: &[bool]) -> Result<()> {
    write_scan(path, volume, Some(mask))
}

fn write_scan(path: impl AsRef<Path>, volume: &NewVolume, mask: Option<&[bool]>) -> Result<()> {
    let path = path.as_ref();
    check(volume, mask).map_err(|what| Error::input(format!("cannot write {}: {what}", path.display())))?;

    let [rows, columns] = volume.matrix;
    let [height, width] = volume.recon;
    let mut file = FileBuilder::new();
    // h5py's own names for the parts of a complex number; hdf5-pure's ready-made complex type has others.
    let complex = CompoundTypeBuilder::with_size(8).f32_field("r", 0).f32_field("i", 4).build();
    let complex = complex.map_err(|error| refused(path, error.into()))?;
    file.create_dataset("kspace")
        .with_compound_data(
            complex,
            little_endian(bytemuck::cast_slice(&volume.kspace)),
            volume.kspace.len() as u64,
        )
        .with_shape(&[volume.slices as u64, volume.coils as u64, rows as u64, columns as u64]);
    match mask {
        Some(mask) => {
            let mask: Vec<u8> = mask.iter().map(|&sampled| u8::from(sampled)).collect();
            file.create_dataset("mask").with_u8_data(&mask).with_shape(&[mask.len() as u64]);
        }
        None => {
            let shape = [volume.slices, height, width].map(|size| size as u64);
            file.create_dataset("reconstruction_rss")
                .with_f32_data(&volume.reconstruction_rss)
                .with_shape(&shape);
        }
    }
    file.create_dataset("ismrmrd_header").with_vlen_strings(&[&Header::xml(volume)]).with_shape(&[]);

    if mask.is_none() {
        let images = &volume.reconstruction_rss;
        let max = images.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let norm = images.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        file.set_attr("max", AttrValue::F64(f64::from(max)));
        file.set_attr("norm", AttrValue::F64(norm));
    }
    file.set_attr("acquisition", AttrValue::VarLenString(volume.acquisition.clone()));
    file.set_attr("patient_id", AttrValue::VarLenString(volume.patient_id.clone()));
    finish(path, file)
}

/// Writes the reconstruction of one volume as fastMRI's `save_reconstructions` does for its leaderboards: one
/// dataset `reconstruction`, float32 `[slices, height, width]`.
///
/// # Errors
/// [`Error::Input`] if `images` is not of that shape, [`Error::Io`] from the disk.
pub fn write_reconstruction(path: impl AsRef<Path>, images: &[f32], shape: [usize; 3]) -> Result<()> {
    let path = path.as_ref();
    let count: usize = shape.iter().product();
    if images.len() != count || count == 0 {
        return Err(Error::input(format!(
            "cannot write {}: {} pixels for [slices, height, width] = {shape:?}",
            path.display(),
            images.len()
        )));
    }
    let mut file = FileBuilder::new();
    file.create_dataset("reconstruction").with_f32_data(images).with_shape(&shape.map(|size| size as u64));
    finish(path, file)
}

fn finish(path: &Path, file: FileBuilder) -> Result<()> {
    atomic::write(path, |writer| {
        file.finish_to(writer).map_err(|error| match error {
            Hdf5Error::Io(source) => Error::io("write", path, source),
            error => refused(path, error),
        })
    })
}

fn refused(path: &Path, error: Hdf5Error) -> Error {
    Error::input(format!("cannot write {} as HDF5: {error}", path.display()))
}

/// What would make a file that no reader accepts.
fn check(volume: &NewVolume, mask: Option<&[bool]>) -> std::result::Result<(), String> {
    let NewVolume { slices, coils, matrix: [rows, columns], recon: [height, width], .. } = *volume;
    let others = match mask {
        Some(mask) => ("mask", mask.len(), vec![columns]),
        None => ("reconstruction_rss", volume.reconstruction_rss.len(), vec![slices, height, width]),
    };
    for (name, found, shape) in [("kspace", volume.kspace.len(), vec![slices, coils, rows, columns]), others]
    {
        if found != shape.iter().product::<usize>() || found == 0 {
            return Err(format!("{name} has {found} elements, its shape is {shape:?}"));
        }
    }
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    if !finite(bytemuck::cast_slice(&volume.kspace)) || !finite(&volume.reconstruction_rss) {
        return Err("kspace or reconstruction_rss contains NaN or infinity".to_string());
    }
    let (maximum, center) = (volume.encoding_limit_max, volume.encoding_limit_center);
    let left = columns / 2;
    if center > left || left - center + maximum + 1 > columns {
        return Err(format!(
            "encoding limits with maximum {maximum} and center {center} reach outside the {columns} columns"
        ));
    }
    Ok(())
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    if cfg!(target_endian = "little") {
        bytemuck::cast_slice(values).to_vec()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}
