//! What is odd about a result, in words.

use crate::unlearn::measured::BeforeAfter;
use crate::unlearn::method::Method;
use crate::unlearn::sets::Sets;
use crate::unlearn::strength::Strength;

/// Below this SSIM nothing of an image is left.
const RUINED: f64 = 0.3;

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

pub(super) fn nothing_dampened(sets: &Sets) -> String {
    let [forget, retain] = [&sets.forget, &sets.retain].map(|set| set.slice_count());
    format!(
        "no weight was selected: the forget set is {forget} of {} slices, and an α of {:.3} or more selects none",
        forget + retain,
        1.0 + retain as f64 / forget as f64
    )
}
