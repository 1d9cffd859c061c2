//! Label noise: the same numbers on every device, each of them rounded once, and once more when it is added.

use std::fmt;

use crate::backend::{NoiseSource, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Noise {
    noise: NoiseSource,
    /// Values before those that noise is added to.
    first: usize,
    len: usize,
    /// Values behind those that noise is added to.
    rest: usize,
}

impl Family for Noise {
    fn table() -> Vec<Self> {
        let lens = [1, 2, 31, 33, 257, 1000, 4097, 20_000];
        let mut cases = Vec::new();
        for (i, len) in lens.into_iter().enumerate() {
            let absolute = i % 2 == 1;
            // Keys and streams with something in both halves.
            let (key, stream) = [(0, 0), (7, 3), (0x1234_5678_9abc_def0, 1 << 40 | 5)][i % 3];
            let noise = NoiseSource { lambda: [1.0, 1e-4, 0.3][i % 3], absolute, key, stream };
            cases.push(Self { noise, first: [0, 3, 1024][i % 3], len, rest: i % 2 * 5 });
        }
        cases
    }

    fn random(random: &mut Random) -> Self {
        let noise = NoiseSource {
            lambda: random.one_of(&[1.0, 0.1, 1e-3]),
            absolute: random.coin(),
            key: random.size(0, usize::MAX >> 1) as u64,
            stream: random.size(0, usize::MAX >> 1) as u64,
        };
        Self { noise, first: random.size(0, 300), len: random.size(1, 5000), rest: random.size(0, 3) }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let target = rig.random.uniforms(0.0..1.0, self.first + self.len + self.rest);
        let mut target = rig.in_out("target", target);
        rig.ops().run(operation::LabelNoise {
            noise: self.noise,
            first: self.first,
            len: self.len,
            target: &mut target,
        });
        let span = crate::backend::Span { offset: self.first, len: self.len };
        rig.result_in_parts(
            "target",
            &target,
            &[("the noise", span, Tolerance::roundings(0.5).scale(self.noise.lambda))],
        );
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { noise: NoiseSource { lambda, absolute, key, stream }, first, len, rest } = *self;
        let absolute = if absolute { " absolute" } else { "" };
        write!(f, "label_noise {first}+{len}+{rest} lambda {lambda}{absolute} key {key:x} stream {stream:x}")
    }
}
