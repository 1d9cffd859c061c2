//! Saliency unlearning (Fan et al. 2024, "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both
//! Image Classification and Generation", ICLR, arXiv:2310.12508): noisy labels with fine-tuning that change salient
//! weights only. A weight is salient where the forget set's loss, at the original weights, has a gradient of at least γ
//! there; γ is a quantile, by the paper's default the median, so that half of all weights are salient.
//!
//! What random labels are to the paper's classifiers, noisy targets are here. A weight without any gradient is not
//! salient, even where γ is 0. The authors' code moved the weights while it gathered the gradient, until December 2023;
//! the paper and this do not. The mask is kept in mask.safetensors, so that a run that is resumed, even on another device, goes on with the
//! same.

use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::Result;
use crate::run::step::not_finite;
use crate::run::{Run, RunState};
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::method::{Before, Method};
use crate::unlearn::methods::nl_ft;

pub const METHOD: Method = Method {
    name: "salun",
    title: "Saliency unlearning",
    objective: "J(x_r) + J(x_f, y + λ·n) on weights with |∇J(x_f)| ≥ γ",
    before: Before::FindsSalient,
    defaults: Hyperparameters { saliency: Some(0.5), ..Hyperparameters::NONE },
    ..nl_ft::METHOD
};

/// Which weights are salient, from the gradient of the forget set's loss at the engine's weights. None where a stop was
/// asked for.
///
/// # Errors
/// As [`Run::survey`].
pub fn mask<B: Backend>(
    run: &Run<'_>,
    engine: &mut Engine<'_, B>,
    state: &mut RunState,
    saliency: f64,
) -> Result<Option<Vec<bool>>> {
    let stopped = run.survey(engine, state, &run.schedule.preparation(), &mut |_, _| {})?;
    if stopped {
        engine.clear_gradient();
        return Ok(None);
    }
    engine.sum_gradient(run.session.ranks)?;
    let gradient = engine.gradient()?;
    engine.clear_gradient();
    if let Some(bad) = gradient.iter().find(|value| !value.is_finite()) {
        return Err(not_finite(&format!("a gradient of the forget set is {bad}"), "the first step"));
    }
    Ok(Some(salient(&gradient, saliency)))
}

/// The share `saliency` of the largest, with whatever is as large as the last of them, and without zeros.
fn salient(gradient: &[f64], saliency: f64) -> Vec<bool> {
    let mut sizes: Vec<f64> = gradient.iter().map(|g| g.abs()).collect();
    let count = (saliency * sizes.len() as f64).round_ties_even().max(1.0) as usize;
    let (_, &mut threshold, _) = sizes.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    gradient.iter().map(|g| g.abs() >= threshold && *g != 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_salient() {
        let gradient = [0.5, -2.0, 0.0, 1.0, -0.1, 3.0];
        let found = |saliency| -> Vec<usize> {
            let mask = salient(&gradient, saliency);
            (0..gradient.len()).filter(|&i| mask[i]).collect()
        };
        assert_eq!(found(0.5), [1, 3, 5]);
        assert_eq!(found(1.0 / 3.0), [1, 5]);
        assert_eq!(found(1.0), [0, 1, 3, 4, 5]);
        assert_eq!(found(1e-9), [5]);
        // As large as the last that is taken.
        assert_eq!(salient(&[1.0, -1.0, 1.0, 0.5], 0.5), [true, true, true, false]);
        assert_eq!(salient(&[0.0; 3], 0.5), [false; 3]);
    }
}
