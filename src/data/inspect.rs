//! Whether every slice of a set can be used: what a training would find out in the middle of an epoch.

use num_complex::Complex32;
use rayon::prelude::*;

use super::set::VolumeSet;
use super::volume::{Slice, VolumeFile};
use crate::progress::got_on;

/// How many times a volume's `max` its target may be: some files have it from before they were rounded.
const BEYOND: f64 = 1.01;
/// `max` may be up to this many times the largest target of a whole volume.
const ABOVE: f64 = 2.0;

/// What is odd about the targets of a volume's `slices`, one after the other in `targets`, which makes PSNR and SSIM no
/// measure: a `max` that is not theirs, or nothing to be seen.
pub fn odd_targets(file: &VolumeFile, slices: &[usize], targets: &[f32]) -> Vec<String> {
    let named = |what: String| format!("{}: {what}", file.path.display());
    let mut odd = Vec::new();
    let black = |target: &[f32]| target.iter().all(|value| *value == 0.0);
    let each = targets.chunks((targets.len() / slices.len().max(1)).max(1)).zip(slices);
    let dark: Vec<String> =
        each.filter(|(target, _)| black(target)).map(|(_, slice)| slice.to_string()).collect();
    if !dark.is_empty() {
        odd.push(named(format!(
            "the target is zero everywhere in slice {}: a measure says nothing there",
            dark.join(", ")
        )));
    }
    let largest = f64::from(targets.iter().copied().fold(0.0, f32::max));
    let Some(max) = file.max.filter(|_| largest > 0.0) else { return odd };
    let whole = slices.len() == file.slices;
    if largest > BEYOND * max || whole && max > ABOVE * largest {
        odd.push(named(format!(
            "'max' is {max:.3e}, and its target goes up to {largest:.3e}: PSNR and SSIM take 'max' for the range, so they \
             are no measure here; was the volume scaled?"
        )));
    }
    odd
}

/// Reads every slice, and says of each volume what is wrong with it, in the order of the set. `step` is called after each
/// slice.
pub fn problems(set: &VolumeSet, step: impl Fn() + Sync) -> Vec<String> {
    let of_volume = |(index, file): (usize, &VolumeFile)| {
        let (mut found, mut slices, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for &slice in set.slices_of(index) {
            match file.read_slice(slice) {
                // It names the file.
                Err(error) => found.push(error.to_string()),
                Ok(Slice { kspace, target }) => {
                    if kspace.iter().all(|value| *value == Complex32::ZERO) {
                        found.push(format!(
                            "{}: slice {slice}: k-space is zero everywhere",
                            file.path.display()
                        ));
                    }
                    if let Some(target) = target {
                        slices.push(slice);
                        targets.extend(target);
                    }
                }
            }
            got_on();
            step();
        }
        found.extend(odd_targets(file, &slices, &targets));
        found
    };
    set.volumes().par_iter().enumerate().flat_map_iter(of_volume).collect()
}
