//! What is odd about a result, in words.

use crate::data::set::VolumeSet;
use crate::median::median;
use crate::unlearn::measured::BeforeAfter;
use crate::unlearn::method::Method;
use crate::unlearn::strength::Strength;

/// Below this SSIM nothing of an image is left.
const RUINED: f64 = 0.3;

/// Shares of the targets' range: label noise below the first is lost in them, and above the second nothing else is seen.
const LOST: f64 = 1e-3;
const DROWNING: f64 = 3.0;

/// Sets that the network no longer reconstructs.
pub(super) fn ruined(
    method: &Method,
    strength: &Strength,
    metrics: &[BeforeAfter],
) -> impl Iterator<Item = String> {
    let reason = match method.only_climbs(strength) {
        true => {
            ". Ascent without retain data diverges to finite nonsense; a method with fine-tuning (…-ft) keeps the rest"
        }
        false => "",
    };
    metrics.iter().filter_map(move |m| {
        let (before, after) = (m.before.as_ref()?, m.after.as_ref()?);
        (after.ssim.mean < RUINED && before.ssim.mean >= RUINED).then(|| {
            format!(
                "the network no longer reconstructs the set {}: SSIM fell from {:.3} to {:.3}{reason}",
                m.set, before.ssim.mean, after.ssim.mean
            )
        })
    })
}

/// Label noise that is lost in the forget set's targets, or drowns them: λ is in their units, and the paper's is for fastMRI's.
pub(super) fn noise_of_another_scale(noise: f64, forget: &VolumeSet) -> Option<String> {
    let range = median(&forget.target_ranges())?;
    let effect = match noise / range {
        share if share > 0.0 && share < LOST => "hardly changes targets",
        share if share > DROWNING => "leaves nothing of targets",
        _ => return None,
    };
    Some(format!(
        "label noise of λ = {noise:e} {effect} that go up to {range:.1e}, as the forget set's do (the median of its volumes). \
         λ is in their units; the paper's, 1e-5, is for targets around 1e-4, as fastMRI's are: scale --noise with yours"
    ))
}

/// `forget`, `retain`: slices of the sets.
pub(super) fn nothing_dampened(forget: usize, retain: usize) -> String {
    format!(
        "no weight was selected: the forget set is {forget} of {} slices, and an α of {:.3} or more selects none",
        forget + retain,
        1.0 + retain as f64 / forget as f64
    )
}
