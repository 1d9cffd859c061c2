//! Volumes and images from one file format to another: HDF5 of any layout that is read, and BART's cfl.
//!
//! BART's first dimension is the readout, kerase's rows; its second is kerase's columns. A slice and its coils lie in one
//! piece in either. Frames are BART's dimension 10, slices 13. Scans with two phase encodings are another matter
//! (`across_readout`).

mod across_readout;
mod sampled;

use std::path::Path;

use num_complex::Complex32;

use crate::convert::across_readout::slices_across_readout;
use crate::convert::sampled::sampled_columns;
use crate::crop::center_crop;
use crate::data::cfl::{self, Cfl, Dims};
use crate::data::images::read_images;
use crate::data::rss::root_sum_of_squares;
use crate::data::volume::NewVolume;
use crate::data::volume::VolumeFile;
use crate::data::write::{write_reconstruction, write_undersampled, write_volume};
use crate::error::{Error, Result};
use crate::progress::warn;

/// The k-space of a volume as BART's, with the scanner's coils.
///
/// # Errors
/// Slices that cannot be read, and those of [`cfl::write`].
pub fn volume_to_cfl(volume: &VolumeFile, to: &Path) -> Result<()> {
    let [rows, columns] = volume.matrix;
    let frames = volume.frames();
    let slices = volume.slices / frames;
    let mut dims: Dims = [1; 16];
    dims[cfl::READ] = rows;
    dims[cfl::PHASE] = columns;
    dims[cfl::COIL] = volume.stored_coils();
    dims[cfl::TIME] = frames;
    dims[cfl::SLICE] = slices;
    let parts = in_bart_order(frames, slices).map(|index| {
        let mut kspace = volume.read_slice_as_stored(index)?.kspace;
        if let Some(mask) = &volume.mask {
            // To BART, what is zero was not sampled.
            let mask = mask.iter().cycle();
            kspace
                .iter_mut()
                .zip(mask)
                .filter(|(_, sampled)| !**sampled)
                .for_each(|(z, _)| *z = Complex32::ZERO);
        }
        Ok(turned(&kspace, [rows, columns]))
    });
    cfl::write(to, &dims, parts)
}

/// The images of a file as BART's, real parts with imaginary parts of zero.
///
/// # Errors
/// Those of [`read_images`] and [`cfl::write`].
pub fn images_to_cfl(from: &Path, to: &Path) -> Result<()> {
    let images = read_images(from)?;
    let [count, height, width] = images.shape;
    let slices = count / images.frames;
    let mut dims: Dims = [1; 16];
    dims[cfl::READ] = height;
    dims[cfl::PHASE] = width;
    dims[cfl::TIME] = images.frames;
    dims[cfl::SLICE] = slices;
    let parts = in_bart_order(images.frames, slices).map(|index| {
        let image = &images.pixels[index * height * width..][..height * width];
        let image: Vec<Complex32> = image.iter().map(|&value| Complex32::new(value, 0.0)).collect();
        Ok(turned(&image, [height, width]))
    });
    cfl::write(to, &dims, parts)
}

/// A volume of another layout in fastMRI's. With its mask where it has one, otherwise with its reference images.
///
/// # Errors
/// Slices that cannot be read, and those of [`write_volume`].
pub fn volume_to_fastmri(volume: &VolumeFile, to: &Path) -> Result<()> {
    let mut kspace = Vec::new();
    let mut images = Vec::new();
    for index in 0..volume.slices {
        let slice = volume.read_slice_as_stored(index)?;
        kspace.extend(slice.kspace);
        images.extend(slice.target.unwrap_or_default());
    }
    let columns = volume.matrix[1];
    let new = NewVolume {
        slices: volume.slices,
        coils: volume.stored_coils(),
        matrix: volume.matrix,
        recon: volume.target.unwrap_or(volume.recon),
        kspace,
        reconstruction_rss: images,
        encoding_limit_max: columns - 1,
        encoding_limit_center: columns / 2,
        acquisition: volume.acquisition.clone().unwrap_or_default(),
        patient_id: volume.patient_id.clone().unwrap_or_default(),
    };
    match &volume.mask {
        Some(mask) => write_undersampled(to, &new, mask),
        None => write_volume(to, &new),
    }
}

/// K-space of BART's as a volume of fastMRI's layout, with reference images of `recon`'s size where it is fully sampled.
///
/// Columns that are zero in all of it were not sampled. Where they are all at the two ends, as a scanner pads with zeros,
/// it counts as fully sampled, and the header says which columns were measured. A scan with two phase encodings becomes
/// slices across its readout.
///
/// # Errors
/// An array that is no such k-space, a size of images that it does not have, and those of [`write_volume`].
pub fn cfl_to_volume(from: &Path, to: &Path, recon: Option<[usize; 2]>) -> Result<()> {
    let meant = [cfl::READ, cfl::PHASE, cfl::PHASE2, cfl::COIL, cfl::TIME, cfl::SLICE];
    let array = Cfl::open(from, &meant)?;
    let refused = |what: String| Error::input(format!("{}: {what}", array.path().display()));
    let [read, phase, phase2, coils, frames, slices] = meant.map(|dimension| array.dims[dimension]);
    let three_dimensional = phase2 > 1;
    let (slices, [rows, columns]) = match three_dimensional {
        true => (read, [phase, phase2]),
        false => (frames * slices, [read, phase]),
    };
    let recon = recon.unwrap_or([rows, columns]);
    if recon[0] > rows || recon[1] > columns || recon.contains(&0) {
        return Err(refused(format!(
            "images of {} x {} do not fit k-space of {rows} x {columns}: choose a smaller --recon",
            recon[0], recon[1]
        )));
    }
    let kspace = if three_dimensional { slices_across_readout(&array)? } else { slices_of(&array)? };
    if kspace.iter().all(|z| z.im == 0.0) {
        warn(&format!(
            "{}: all imaginary parts are zero, as in no k-space: if these are images, say so with --images",
            array.path().display()
        ));
    }
    let mask = sampled_columns(&kspace, [rows, columns]).map_err(refused)?;
    let left = mask.iter().take_while(|sampled| !**sampled).count();
    let last = columns - 1 - mask.iter().rev().take_while(|sampled| !**sampled).count();
    let fully_sampled = mask[left..=last].iter().all(|&sampled| sampled);
    let mut new = NewVolume {
        slices,
        coils,
        matrix: [rows, columns],
        recon,
        reconstruction_rss: Vec::new(),
        encoding_limit_max: columns - 1,
        encoding_limit_center: columns / 2,
        acquisition: String::new(),
        patient_id: String::new(),
        kspace,
    };
    if !fully_sampled {
        return write_undersampled(to, &new, &mask);
    }
    // The header counts from the first column that was measured.
    new.encoding_limit_center = (columns / 2).checked_sub(left).ok_or_else(|| {
        refused(format!(
            "only columns {left} to {last} of {columns} are not zero: the centre was not sampled"
        ))
    })?;
    new.encoding_limit_max = last - left;
    for slice in new.kspace.chunks_exact(coils * rows * columns) {
        let image = root_sum_of_squares(slice, [rows, columns]);
        new.reconstruction_rss.extend(center_crop(&image, [rows, columns], recon));
    }
    write_volume(to, &new)
}

/// `[slices, coils, rows, columns]`, with the numbers that slices of several frames have here.
fn slices_of(array: &Cfl) -> Result<Vec<Complex32>> {
    let [rows, columns, coils] = [cfl::READ, cfl::PHASE, cfl::COIL].map(|d| array.dims[d]);
    let (frames, slices) = (array.dims[cfl::TIME], array.dims[cfl::SLICE]);
    let of_slice = coils * rows * columns;
    let mut kspace = vec![Complex32::ZERO; frames * slices * of_slice];
    for (number, index) in in_bart_order(frames, slices).enumerate() {
        let stored = array.read(number * of_slice, of_slice)?;
        // Read as rows and columns it is the transpose.
        kspace[index * of_slice..][..of_slice].copy_from_slice(&turned(&stored, [columns, rows]));
    }
    Ok(kspace)
}

/// Images of BART's as fastMRI's leaderboards have them: their magnitude.
///
/// # Errors
/// An array that is no images, and those of [`write_reconstruction`].
pub fn cfl_to_images(from: &Path, to: &Path) -> Result<()> {
    let array = Cfl::open(from, &[cfl::READ, cfl::PHASE, cfl::TIME, cfl::SLICE])?;
    let [height, width] = [cfl::READ, cfl::PHASE].map(|d| array.dims[d]);
    let (frames, slices) = (array.dims[cfl::TIME], array.dims[cfl::SLICE]);
    let mut pixels = vec![0.0; frames * slices * height * width];
    for (number, index) in in_bart_order(frames, slices).enumerate() {
        let image = turned(&array.read(number * height * width, height * width)?, [width, height]);
        let to = &mut pixels[index * height * width..][..height * width];
        to.iter_mut().zip(image).for_each(|(to, z)| *to = z.norm());
    }
    write_reconstruction(to, &pixels, [frames * slices, height, width])
}

/// Slice numbers in the order of a cfl, where frames vary faster than slices.
fn in_bart_order(frames: usize, slices: usize) -> impl Iterator<Item = usize> {
    (0..slices).flat_map(move |z| (0..frames).map(move |t| t * slices + z))
}

/// Planes of `[rows, columns]` to planes of `[columns, rows]`.
fn turned(planes: &[Complex32], [rows, columns]: [usize; 2]) -> Vec<Complex32> {
    let mut turned = vec![Complex32::ZERO; planes.len()];
    for (to, from) in turned.chunks_exact_mut(rows * columns).zip(planes.chunks_exact(rows * columns)) {
        for (y, row) in from.chunks_exact(columns).enumerate() {
            for (x, &z) in row.iter().enumerate() {
                to[x * rows + y] = z;
            }
        }
    }
    turned
}
