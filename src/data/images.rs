//! The images of a file: reconstructions as fastMRI's leaderboards have them, or a volume's reference images.

use std::path::Path;

use super::hdf5::with_container;
use super::volume::VolumeFile;
use crate::error::{Error, Result};

/// Real images `[slices, height, width]`.
pub struct Images {
    pub pixels: Vec<f32>,
    pub shape: [usize; 3],
    /// How many times the slices are the same ones, one after the other.
    pub frames: usize,
}

/// Reads dataset `reconstruction`, or else the reference images of a volume of any layout.
///
/// # Errors
/// As [`VolumeFile::open`]; [`Error::Input`] where there are no images.
pub fn read_images(path: &Path) -> Result<Images> {
    let reconstruction = with_container(path, |file| {
        let Some(dataset) = file.dataset("reconstruction")? else { return Ok(None) };
        let [slices, height, width] = dataset.shape[..] else {
            return Err(file.error(format!(
                "'reconstruction' has shape {:?}: expected [slices, height, width]",
                dataset.shape
            )));
        };
        if slices * height * width == 0 || !dataset.is_real()? {
            return Err(file.error(format!(
                "'reconstruction' has shape {:?}: expected real numbers, at least one",
                dataset.shape
            )));
        }
        let rows = (0..slices).map(|slice| dataset.real_row(slice)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Images { pixels: rows.concat(), shape: [slices, height, width], frames: 1 }))
    })?;
    if let Some(images) = reconstruction {
        return Ok(images);
    }
    let volume = VolumeFile::open(path)?;
    let Some([height, width]) = volume.target else {
        return Err(Error::input(format!(
            "{}: there are no images in it: expected 'reconstruction' or 'reconstruction_rss', or a fully sampled volume; \
             kerase reconstruct makes images of undersampled ones",
            path.display()
        )));
    };
    let slices = (0..volume.slices).map(|slice| Ok(volume.read_slice(slice)?.target.unwrap_or_default()));
    let pixels = slices.collect::<Result<Vec<_>>>()?.concat();
    Ok(Images { pixels, shape: [volume.slices, height, width], frames: volume.frames() })
}
