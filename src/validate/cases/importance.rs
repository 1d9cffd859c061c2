//! Squares of gradients added up, and dampening: a few roundings each. What is selected hangs on a comparison, so
//! importances keep a distance from where it turns.

use std::fmt;

use crate::backend::{Dampening, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Importance {
    len: usize,
    operation: Operation,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    AddSquares { factor: f64 },
    Dampen(Dampening),
}

use Operation::{AddSquares, Dampen};

const LENS: [usize; 7] = [1, 3, 31, 255, 257, 1000, 10_000];
const DAMPENINGS: [Dampening; 4] = [
    Dampening { alpha: 10.0, lambda: 1.0, forget_share: 0.08 },
    Dampening { alpha: 2.0, lambda: 0.1, forget_share: 0.25 },
    // Whatever is selected would grow, and is not.
    Dampening { alpha: 0.5, lambda: 30.0, forget_share: 0.5 },
    Dampening { alpha: f64::INFINITY, lambda: 1.0, forget_share: 0.1 },
];

impl Family for Importance {
    fn table() -> Vec<Self> {
        let of = |len, i: usize| {
            let dampening = DAMPENINGS[i % DAMPENINGS.len()];
            let factor = [1.0, 1.0 / 536.0][i % 2];
            [AddSquares { factor }, Dampen(dampening)].map(|operation| Self { len, operation })
        };
        LENS.into_iter().enumerate().flat_map(|(i, len)| of(len, i)).collect()
    }

    fn random(random: &mut Random) -> Self {
        let len = random.size(1, 5000);
        let operation = match random.coin() {
            true => AddSquares { factor: random.one_of(&[1.0, 0.1, 1e-3]) },
            false => Dampen(random.one_of(&DAMPENINGS)),
        };
        Self { len, operation }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let len = self.len;
        match self.operation {
            AddSquares { factor } => {
                let gradient = rig.random.values(len);
                let sums = rig.random.uniforms(0.0..1.0, len);
                let gradient = rig.input("gradient", gradient);
                let mut sums = rig.in_out("sums", sums);
                rig.ops().run(operation::AddSquares { factor, gradient: &gradient, sums: &mut sums });
                rig.result("sums", &sums, Tolerance::roundings(1.0));
                rig.unchanged("gradient", &gradient);
            }
            Dampen(dampening) => {
                let retain = rig.random.uniforms(0.5..1.0, len);
                // With f = q·r, f is above α·d where q·(1 − α·share) is above α·(1 − share).
                let Dampening { alpha, forget_share, .. } = dampening;
                let turn = alpha * (1.0 - forget_share) / (1.0 - alpha * forget_share);
                let turn = if turn.is_finite() && turn > 0.0 { turn } else { 1.0 };
                let sides = [0.0, 0.3 * turn, 0.97 * turn, 1.03 * turn, 3.0 * turn, 1000.0 * turn];
                let forget = retain.iter().enumerate().map(|(i, r)| sides[i % sides.len()] * r).collect();
                let parameters = rig.random.values(len);
                let forget = rig.input("forget", forget);
                let retain = rig.input("retain", retain);
                let mut parameters = rig.in_out("parameters", parameters);
                rig.ops().run(operation::Dampen {
                    dampening,
                    forget: &forget,
                    retain: &retain,
                    parameters: &mut parameters,
                });
                rig.result("parameters", &parameters, Tolerance::roundings(2.0));
                rig.all_unchanged(&[("forget", &forget), ("retain", &retain)]);
            }
        }
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.len;
        match self.operation {
            AddSquares { factor } => write!(f, "add_squares {len} factor {factor}"),
            Dampen(Dampening { alpha, lambda, forget_share }) => {
                write!(f, "dampen {len} alpha {alpha} lambda {lambda} share {forget_share}")
            }
        }
    }
}
