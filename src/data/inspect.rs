//! Whether every slice of a set can be used: what a training would find out in the middle of an epoch.

use num_complex::Complex32;
use rayon::prelude::*;

use super::set::VolumeSet;
use super::volume::{Slice, VolumeFile};
use crate::progress::{got_on, warn_once};

/// How many times a volume's `max` its target may be: some files have it from before they were rounded.
const BEYOND: f64 = 1.01;
/// `max` may be up to this many times the largest target of a whole volume.
const ABOVE: f64 = 2.0;

/// What is odd about the targets of a volume's `slices`, one after the other in `targets`, which makes PSNR and SSIM no
/// measure: a `max` that is not theirs, or nothing to be seen.
pub fn odd_targets(file: &VolumeFile, slices: &[usize], targets: &[f32]) -> Vec<String> {
    let named = |what: String| format!("{}: {what}", file.path.display());
    let mut odd = Vec::new();
    let slices_of = |fits: fn(&[f32]) -> bool| {
        let each = targets.chunks((targets.len() / slices.len().max(1)).max(1)).zip(slices);
        each.filter(|(target, _)| fits(target)).map(|(_, slice)| slice.to_string()).collect::<Vec<_>>()
    };
    let dark = slices_of(|target| target.iter().all(|value| *value == 0.0));
    if !dark.is_empty() {
        odd.push(named(format!(
            "the target is zero everywhere in slice {}: a measure says nothing there",
            dark.join(", ")
        )));
    }
    let negative = slices_of(|target| {
        target.iter().all(|value| *value <= 0.0) && target.iter().any(|value| *value < 0.0)
    });
    if !negative.is_empty() {
        odd.push(named(format!(
            "the target is nowhere above zero in slice {}, and a root sum of squares is never below: write \
             reconstruction_rss anew, as magnitudes",
            negative.join(", ")
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

/// What is odd about the coils of a volume, of which each was zero in `zero[coil]` of `slices` slices. A scanner may have a coil
/// that does not work, so that it is no reason to refuse the volume.
fn odd_coils(file: &VolumeFile, zero: &[Vec<usize>], slices: usize) -> Vec<String> {
    let named = |(coil, zero): (usize, &Vec<usize>)| {
        let what = if zero.is_empty() {
            return None;
        } else if zero.len() == slices {
            "in every slice: the image is that of the other coils".to_string()
        } else {
            let zero: Vec<String> = zero.iter().map(ToString::to_string).collect();
            format!("in slice {} and not in others: is a part of the file missing?", zero.join(", "))
        };
        Some(format!("{}: the k-space of coil {coil} is zero {what}", file.path.display()))
    };
    zero.iter().enumerate().filter_map(named).collect()
}

/// Reads every slice, and says of each volume what is wrong with it, in the order of the set; what is only odd becomes a
/// warning. `step` is called after each slice.
pub fn problems(set: &VolumeSet, step: impl Fn() + Sync) -> Vec<String> {
    let of_volume = |(index, file): (usize, &VolumeFile)| {
        let (mut found, mut slices, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut zero, mut seen) = (vec![Vec::new(); file.coils], 0);
        for &slice in set.slices_of(index) {
            match file.read_slice(slice) {
                // It names the file.
                Err(error) => found.push(error.to_string()),
                Ok(Slice { kspace, target }) => {
                    let is_zero = |coil: &[Complex32]| coil.iter().all(|value| *value == Complex32::ZERO);
                    let coils = kspace.chunks((kspace.len() / file.coils.max(1)).max(1)).map(is_zero);
                    let dark: Vec<usize> =
                        coils.enumerate().filter(|(_, zero)| *zero).map(|(coil, _)| coil).collect();
                    if dark.len() == file.coils {
                        found.push(format!(
                            "{}: slice {slice}: k-space is zero everywhere",
                            file.path.display()
                        ));
                    } else {
                        dark.into_iter().for_each(|coil| zero[coil].push(slice));
                        seen += 1;
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
        odd_coils(file, &zero, seen).iter().for_each(|odd| warn_once(odd));
        found.extend(odd_targets(file, &slices, &targets));
        found
    };
    set.volumes().par_iter().enumerate().flat_map_iter(of_volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> VolumeFile {
        VolumeFile::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/data/contiguous.h5")).unwrap()
    }

    #[test]
    fn targets_below_zero_are_odd() {
        let odd =
            |targets: [f32; 4]| odd_targets(&VolumeFile { max: Some(1.0), ..file() }, &[0, 1], &targets);
        assert_eq!(odd([1.0, 0.0, 0.5, -0.1]), [""; 0]);
        let [what] = &odd([-1.0, 0.0, 1.0, 0.0])[..] else { panic!() };
        assert!(what.contains("contiguous.h5: the target is nowhere above zero in slice 0,"), "{what}");
        let [what] = &odd([-1.0, -0.5, -0.1, -2.0])[..] else { panic!() };
        assert!(what.contains("nowhere above zero in slice 0, 1,"), "{what}");
        let [what] = &odd([1.0, 0.0, 0.0, 0.0])[..] else { panic!() };
        assert!(what.contains("zero everywhere in slice 1:"), "{what}");
    }

    #[test]
    fn coils_that_are_zero_are_odd() {
        let odd = odd_coils(&file(), &[vec![], vec![0, 1, 2], vec![2]], 3);
        let [always, once] = &odd[..] else { panic!("{odd:?}") };
        assert!(always.contains("contiguous.h5: the k-space of coil 1 is zero in every slice"), "{always}");
        assert!(once.contains("coil 2 is zero in slice 2 and not in others"), "{once}");
    }
}
