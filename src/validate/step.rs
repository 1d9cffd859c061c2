//! A whole training step on a device against float64: what the checks of single operations cannot show, such as buffers
//! that are used twice, or a tile that only a large layer has.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::backend::{Backend, LossWeights};
use crate::batch::{Batch, Reference};
use crate::cpu::Cpu;
use crate::engine::{Engine, Objective};
use crate::error::Result;
use crate::model::Architecture;
use crate::precision::Precision;

const WEIGHTS: LossWeights = LossWeights { ssim: 1.0, l1: 1e-5 };

/// What a step computes before the update.
struct Pass {
    loss: f64,
    gradient: Vec<f64>,
}

/// How far a device's step is from float64's.
#[derive(Clone, Debug, Serialize)]
pub struct StepOutcome {
    pub device: String,
    pub precision: Precision,
    pub loss: f64,
    pub reference_loss: f64,
    /// ‖g − g₆₄‖ / ‖g₆₄‖ of all parameters.
    pub gradient_apart: f64,
    /// The same of the parameter for which it is largest, of those with a hundredth of the whole norm or more.
    pub worst_parameter: String,
    pub worst_apart: f64,
    pub most: Most,
    pub passed: bool,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Most {
    /// Difference of the losses, which are 1 at the most.
    pub loss: f64,
    /// Of the whole gradient, and of a parameter's; none where rounding alone turns it too far to be judged.
    pub gradient: Option<[f64; 2]>,
}

impl Most {
    /// Rounding moves inputs of LeakyReLU across zero, where its derivative jumps: a gradient moves by about the root of
    /// what was rounded, and by more with every layer. In float32, the CPU's is 1e-6 to 6e-3 from float64's with 1 to 4
    /// cascades, and 9.5e-3 with the paper's network at its size, 2.2e-2 for the worst parameter. TF32 rounds 2¹³ times as
    /// coarsely: its root is 90. Losses were 5e-8, 3e-5 and 2e-4 apart. What is allowed is at least five times that; a wrong
    /// tap, tile or buffer is off by about 1.
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => Self { loss: 2e-6, gradient: Some([0.05, 0.15]) },
            Precision::Tf32 => Self { loss: 5e-4, gradient: None },
            Precision::Bf16 => Self { loss: 2e-3, gradient: None },
        }
    }
}

/// Computes loss and gradient on the device and, in float64, on the CPU.
///
/// # Errors
/// Where the device has not enough memory, or fails.
pub fn step<B: Backend>(
    ops: &B,
    (device, precision): (&str, Precision),
    architecture: Architecture,
    batch: &Batch,
    reference: &Reference,
) -> Result<StepOutcome> {
    let on_device = pass(ops, architecture, batch, reference)?;
    let exact = pass(&Cpu::<f64>::default(), architecture, batch, reference)?;
    Ok(compare((device, precision), architecture, &on_device, &exact))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn compare(
    (device, precision): (&str, Precision),
    architecture: Architecture,
    on_device: &Pass,
    exact: &Pass,
) -> StepOutcome {
    let (layout, _) = architecture.layout();
    let size = |range: Range<usize>| norm(exact.gradient[range].iter().copied());
    let apart = |range: Range<usize>| {
        let pairs = on_device.gradient[range.clone()].iter().zip(&exact.gradient[range.clone()]);
        norm(pairs.map(|(a, b)| a - b)) / size(range)
    };
    let whole = 0..layout.len();
    let counted = layout.parameters.iter().filter(|p| size(p.span.range()) >= 0.01 * size(whole.clone()));
    let (worst_apart, worst_parameter) = counted
        .map(|parameter| (apart(parameter.span.range()), parameter.name.clone()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default();
    let gradient_apart = apart(whole);
    let most = Most::of(precision);
    // Written so that a NaN is a failure.
    let passed = (on_device.loss - exact.loss).abs() <= most.loss
        && gradient_apart.is_finite()
        && most.gradient.is_none_or(|[all, one]| gradient_apart <= all && worst_apart <= one);
    StepOutcome {
        device: device.into(),
        precision,
        loss: on_device.loss,
        reference_loss: exact.loss,
        gradient_apart,
        worst_parameter,
        worst_apart,
        most,
        passed,
    }
}

fn pass<B: Backend>(
    ops: &B,
    architecture: Architecture,
    batch: &Batch,
    reference: &Reference,
) -> Result<Pass> {
    let parameters = architecture.initial_parameters(0);
    let mut engine = Engine::for_training(ops, architecture, &parameters)?;
    // What a device records in the first pass it repeats in the third.
    for _ in 0..2 {
        engine.accumulate(batch, reference, WEIGHTS, Objective::DESCENT)?;
        engine.clear_gradient();
    }
    let loss = engine.accumulate(batch, reference, WEIGHTS, Objective::DESCENT)?.loss;
    Ok(Pass { loss, gradient: engine.gradient()? })
}

impl fmt::Display for StepOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Most { loss, gradient } = self.most;
        writeln!(
            f,
            "{}, {}: loss {:.8}, in float64 {:.8}: {:.1e} apart (at most {loss:.0e})",
            self.device,
            self.precision,
            self.loss,
            self.reference_loss,
            (self.loss - self.reference_loss).abs()
        )?;
        let bound = |most: Option<f64>| most.map_or("not judged".into(), |most| format!("at most {most}"));
        write!(
            f,
            "gradient: {:.1e} of its norm apart ({}); worst parameter {}: {:.1e} ({})",
            self.gradient_apart,
            bound(gradient.map(|[all, _]| all)),
            self.worst_parameter,
            self.worst_apart,
            bound(gradient.map(|[_, one]| one))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Architecture =
        Architecture { cascades: 2, chans: 2, pools: 1, sens_chans: 2, sens_pools: 1 };

    fn judged(precision: Precision, change: impl Fn(&mut Pass)) -> bool {
        let len = NETWORK.layout().0.len();
        let made = || Pass { loss: 0.75, gradient: (0..len).map(|i| (i as f64).sin()).collect() };
        let mut on_device = made();
        change(&mut on_device);
        compare(("a device", precision), NETWORK, &on_device, &made()).passed
    }

    #[test]
    fn what_is_far_off_does_not_pass() {
        for precision in Precision::ALL {
            assert!(judged(precision, |_| {}));
            assert!(!judged(precision, |pass| pass.loss += 0.01));
            assert!(!judged(precision, |pass| pass.loss = f64::NAN));
            assert!(!judged(precision, |pass| pass.gradient[7] = f64::NAN));
        }
        // One parameter of many.
        let weight = NETWORK.layout().0.parameters.iter().map(|p| p.span).find(|span| span.len > 30).unwrap();
        assert!(!judged(Precision::Fp32, |pass| pass.gradient[weight.range()].fill(0.0)));
        assert!(!judged(Precision::Fp32, |pass| pass.gradient.iter_mut().for_each(|g| *g *= 1.1)));
    }
}
