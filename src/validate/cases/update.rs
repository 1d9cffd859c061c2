//! One step of Adam. Each number is the result of some ten roundings; the norm's error is that of a sum of squares,
//! and reaches all numbers where the gradient is clipped.

use std::fmt;

use crate::backend::{AdamStep, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Adam {
    len: usize,
    step: u64,
    lr: f64,
    beta1: f64,
    clip: Option<f64>,
    l1: f64,
    broken: Option<Broken>,
    /// Whether some parameters are frozen; the broken number is one of theirs then.
    masked: bool,
}

/// What the gradient holds instead of one of its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Nan,
    Infinity,
}

const PLAIN: Adam =
    Adam { len: 100, step: 1, lr: 1e-2, beta1: 0.9, clip: None, l1: 0.0, broken: None, masked: false };

impl Family for Adam {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for (i, len) in [1, 3, 17, 33, 255, 257, 1000, 10_000, 65_537].into_iter().enumerate() {
            cases.push(Self { len, step: 1 + i as u64, ..PLAIN });
            cases.push(Self { len, step: 3, clip: Some(0.5), l1: 0.01, ..PLAIN });
            cases.push(Self { len, step: 5, clip: Some(0.5), l1: 0.02, masked: true, ..PLAIN });
        }
        cases.extend([
            // A clip that does nothing, the other end of torch.lerp, and a late step.
            Self { clip: Some(1e6), ..PLAIN },
            Self { beta1: 0.3, ..PLAIN },
            Self { step: 100_000, lr: 1e-3, l1: 0.5, ..PLAIN },
            Self { broken: Some(Broken::Nan), ..PLAIN },
            Self { broken: Some(Broken::Infinity), clip: Some(0.5), l1: 0.01, ..PLAIN },
            Self { len: 5000, broken: Some(Broken::Nan), clip: Some(0.5), ..PLAIN },
            // What is frozen is not looked at.
            Self { len: 3000, broken: Some(Broken::Nan), clip: Some(0.5), masked: true, ..PLAIN },
            Self { len: 300, broken: Some(Broken::Infinity), masked: true, ..PLAIN },
        ]);
        cases
    }

    fn random(random: &mut Random) -> Self {
        Self {
            len: random.size(1, 5000),
            step: random.size(1, 1000) as u64,
            lr: random.one_of(&[1e-1, 1e-2, 1e-3]),
            beta1: random.one_of(&[0.9, 0.9, 0.3]),
            clip: random.one_of(&[None, Some(0.5), Some(100.0)]),
            l1: random.one_of(&[0.0, 0.01, 1.0]),
            broken: random.one_of(&[None, None, None, None, Some(Broken::Nan), Some(Broken::Infinity)]),
            masked: random.coin(),
        }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let &Self { len, step, lr, beta1, clip, l1, broken, masked } = self;
        let mut parameters = rig.random.values(len);
        // The penalty has no slope at 0.
        parameters.iter_mut().skip(2).step_by(10).for_each(|value| *value = 0.0);
        let mut gradient = rig.random.values(len);
        if let Some(broken) = broken {
            gradient[len / 2] = if broken == Broken::Nan { f64::NAN } else { f64::INFINITY };
        }
        let first = rig.random.values(len);
        let second = rig.random.uniforms(0.01..1.0, len);
        let mask = (0..len).map(|i| f64::from(u8::from(i % 3 == 0 && i != len / 2))).collect();
        let mask = masked.then(|| rig.input("mask", mask));
        let mut parameters = rig.in_out("parameters", parameters);
        let gradient = rig.input("gradient", gradient);
        let mut first = rig.in_out("first_moment", first);
        let mut second = rig.in_out("second_moment", second);
        let mut norm = rig.output("norm", 1);
        let adam = AdamStep { lr, beta1, beta2: 0.999, eps: 1e-8, step, clip, l1 };
        rig.ops().run(operation::Update {
            adam,
            parameters: &mut parameters,
            mask: mask.as_ref(),
            gradient: &gradient,
            first_moment: &mut first,
            second_moment: &mut second,
            norm: &mut norm,
        });
        let of_norm = 2.0 + (len as f64).sqrt() / 4.0;
        rig.result("norm", &norm, Tolerance::roundings(of_norm).scale(0.0));
        if broken.is_some() && !masked {
            rig.all_unchanged(&[
                ("parameters", &parameters),
                ("first_moment", &first),
                ("second_moment", &second),
            ]);
        } else {
            // Clipped gradients are small beside the moments that they are added to.
            let tolerance = Tolerance::roundings(2.0);
            rig.result("first_moment", &first, tolerance);
            rig.result("second_moment", &second, tolerance);
            rig.result("parameters", &parameters, Tolerance::roundings(0.5).scale(20.0 * lr));
        }
        rig.unchanged("gradient", &gradient);
        if let Some(mask) = &mask {
            rig.unchanged("mask", mask);
        }
    }
}

impl fmt::Display for Adam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, step, lr, beta1, clip, l1, broken, masked } = self;
        write!(f, "update {len} step {step} lr {lr} beta1 {beta1}")?;
        if let Some(clip) = clip {
            write!(f, " clip {clip}")?;
        }
        if *l1 > 0.0 {
            write!(f, " l1 {l1}")?;
        }
        if *masked {
            write!(f, " masked")?;
        }
        match broken {
            Some(broken) => write!(f, " {}", format!("{broken:?}").to_lowercase()),
            None => Ok(()),
        }
    }
}
