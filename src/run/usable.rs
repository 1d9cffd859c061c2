//! Which volumes a network can learn from or be measured on: found out before anything is written, not when their turn comes.

use crate::backend::{LossWeights, SSIM_WINDOW as WINDOW};
use crate::batch::{check_columns, image_shape};
use crate::crop::smaller;
use crate::data::set::VolumeSet;
use crate::data::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::model::VarNet;

/// Refuses a set that holds volumes without a target, without a data range, or of a size that network or loss have no
/// use for; the first is named.
///
/// # Errors
/// As said.
pub fn learnable(set: &VolumeSet, net: &VarNet, loss: LossWeights) -> Result<()> {
    for volume in set.volumes() {
        target(volume)?;
        max_value(volume)?;
        fits(volume, net)?;
        if loss.ssim != 0.0 {
            window_fits(volume, ", or use --loss l1")?;
        }
    }
    Ok(())
}

/// What is wrong with the volumes of a set whatever network is used, without a look at their slices.
pub fn problems(set: &VolumeSet) -> Vec<String> {
    let checks = |volume: &VolumeFile| {
        let range = if volume.target.is_some() { max_value(volume).err() } else { None };
        [range, check_columns(volume).err()]
    };
    set.volumes().iter().flat_map(checks).flatten().map(|error| error.to_string()).collect()
}

/// Refuses a set that networks of this kind cannot be measured on; the first volume is named.
///
/// # Errors
/// As said.
pub fn measurable(set: &VolumeSet, net: &VarNet) -> Result<()> {
    set.volumes().iter().try_for_each(|volume| {
        fits(volume, net)?;
        window_fits(volume, "")
    })
}

fn fits(volume: &VolumeFile, net: &VarNet) -> Result<()> {
    net.check(image_shape(volume, 1)).map_err(|e| named(volume, &e.to_string()))
}

/// SSIM's window. `remedy` is what there is to do but for leaving the volume out.
fn window_fits(volume: &VolumeFile, remedy: &str) -> Result<()> {
    let [height, width] = smaller(volume.matrix, target(volume)?);
    if height.min(width) >= WINDOW {
        return Ok(());
    }
    Err(named(
        volume,
        &format!(
            "k-space and target have {height} x {width} pixels in common, SSIM needs {WINDOW} x {WINDOW}: leave the \
             volume out{remedy}"
        ),
    ))
}

/// Height and width of a volume's target.
///
/// # Errors
/// Where there is none.
pub fn target(volume: &VolumeFile) -> Result<[usize; 2]> {
    volume.target.ok_or_else(|| {
        named(
            volume,
            "there is no reconstruction_rss to learn from; training needs fully sampled volumes, not test files",
        )
    })
}

/// A volume's data range in the loss: the largest of its targets, which are float32.
///
/// # Errors
/// Where it is missing or no range.
pub fn max_value(volume: &VolumeFile) -> Result<f64> {
    let refused = |found: String| {
        named(
            volume,
            &format!(
                "the attribute max is {found}; the loss needs the volume's largest value there, as float32 has it: write it \
                 with h5py,  file.attrs[\"max\"] = file[\"reconstruction_rss\"][()].max()"
            ),
        )
    };
    match volume.max {
        Some(max) if (max as f32).is_finite() && max as f32 > 0.0 => Ok(max),
        Some(max) => Err(refused(format!("{max:?}"))),
        None => Err(refused("missing, or no number".to_string())),
    }
}

fn named(volume: &VolumeFile, what: &str) -> Error {
    Error::input(format!("{}: {what}", volume.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_in_float32_too() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/data/contiguous.h5");
        let mut volume = VolumeFile::open(golden).unwrap();
        let mut range = |max: f64| {
            volume.max = Some(max);
            max_value(&volume).map_err(|error| error.to_string())
        };
        assert_eq!(range(1e-9), Ok(1e-9));
        for max in [0.0, -1.0, 1e300, 1e-60, f64::INFINITY, f64::NAN] {
            let message = range(max).unwrap_err();
            for part in ["contiguous.h5", &format!("max is {max:?};"), "float32", "file.attrs[\"max\"] ="] {
                assert!(message.contains(part), "'{part}' is not in: {message}");
            }
        }
    }
}
