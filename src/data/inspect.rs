//! Whether every slice of a set can be used: what a training would find out in the middle of an epoch.

use std::path::Path;

use num_complex::Complex32;
use rayon::prelude::*;

use super::set::VolumeSet;
use super::volume::Slice;
use crate::progress::got_on;

/// How many times a volume's `max` its target may be: some files have it from before they were rounded.
const BEYOND: f64 = 1.01;

/// What is said of a volume whose target goes beyond the range that its `max` names, if it does.
pub fn beyond_range(path: &Path, max: Option<f64>, target: &[f32]) -> Option<String> {
    let largest = target.iter().copied().fold(0.0, f32::max);
    let max = max.filter(|max| f64::from(largest) > BEYOND * max)?;
    Some(format!(
        "{}: 'max' is {max:.3e}, and its target goes up to {largest:.3e}: PSNR and SSIM take 'max' for the range, so they \
         are no measure here; was the volume scaled?",
        path.display()
    ))
}

/// Reads every slice, and says of each volume what is wrong with it, in the order of the set. `step` is called after each
/// slice.
pub fn problems(set: &VolumeSet, step: impl Fn() + Sync) -> Vec<String> {
    let of_volume = |(index, file): (usize, &super::volume::VolumeFile)| {
        let (mut found, mut beyond) = (Vec::new(), None);
        for &slice in set.slices_of(index) {
            match file.read_slice(slice) {
                // It names the file.
                Err(error) => found.push(error.to_string()),
                Ok(Slice { kspace, target }) => {
                    let named = |what: &str| format!("{}: slice {slice}: {what}", file.path.display());
                    if kspace.iter().all(|value| *value == Complex32::ZERO) {
                        found.push(named("k-space is zero everywhere"));
                    }
                    let target = target.as_deref().unwrap_or_default();
                    if !target.is_empty() && target.iter().all(|value| *value == 0.0) {
                        found.push(named("the target is zero everywhere"));
                    }
                    beyond = beyond.or_else(|| beyond_range(&file.path, file.max, target));
                }
            }
            got_on();
            step();
        }
        found.extend(beyond);
        found
    };
    set.volumes().par_iter().enumerate().flat_map_iter(of_volume).collect()
}
