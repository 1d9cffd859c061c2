//! 2×2 average pooling. An element is a sum of four, each read with three roundings; a plane's sums in the backward
//! are of as many as it has pixels.

use std::fmt;

use super::{PAPER_POOLS, paper_maps, pass, raw};
use crate::backend::{MapShape, operation};
use crate::validate::checked::Checked;
use crate::validate::family::Family;
use crate::validate::random::Random;
use crate::validate::rig::Rig;
use crate::validate::tolerance::Tolerance;

#[derive(Clone, Copy, Debug)]
pub struct Pool {
    backward: bool,
    input: MapShape,
    stats: bool,
}

/// n, channels, height, width.
const SHAPES: [[usize; 4]; 9] = [
    [1, 1, 2, 2],
    [1, 2, 3, 2],
    [2, 1, 2, 5],
    [2, 3, 7, 9],
    [1, 18, 33, 17],
    [1, 2, 100, 64],
    [3, 4, 5, 131],
    [1, 36, 16, 20],
    [1, 1, 257, 3],
];

impl Family for Pool {
    fn table() -> Vec<Self> {
        let mut cases = Vec::new();
        for [n, channels, height, width] in SHAPES {
            let input = MapShape { n, channels, height, width };
            for backward in [false, true] {
                cases.extend([true, false].map(|stats| Self { backward, input, stats }));
            }
        }
        cases
    }

    /// From each level of both U-Nets to the one below, forward and backward.
    fn paper() -> Vec<Self> {
        let above = paper_maps().filter(|&(level, _)| level < PAPER_POOLS).map(|(_, input)| input);
        above.flat_map(|input| [false, true].map(|backward| Self { backward, input, stats: true })).collect()
    }

    fn random(random: &mut Random) -> Self {
        let input = MapShape {
            n: random.size(1, 3),
            channels: random.size(1, 20),
            height: random.size(2, 70),
            width: random.size(2, 70),
        };
        Self { backward: random.coin(), input, stats: random.coin() }
    }

    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>) {
        let pooled = MapShape { height: self.input.height / 2, width: self.input.width / 2, ..self.input };
        let input = rig.map("input", self.input, self.stats);
        if !self.backward {
            let mut output = rig.empty_map("output", pooled, false);
            rig.ops().run(operation::AvgPool { input: &input, output: &mut output });
            rig.map_result("output", &output, Tolerance::roundings(3.0));
        } else {
            let output = rig.written_map("output", pooled, false);
            let d_output = rig.gradient("d_output", pooled, false);
            let mut d_input = rig.gradient("d_input", self.input, self.stats);
            rig.ops().run(operation::AvgPoolBackward {
                input: &input,
                output: &output,
                d_output: &d_output,
                d_input: &mut d_input,
            });
            rig.gradient_result("d_input", &d_input, Tolerance::roundings(3.0));
            rig.map_unchanged("output", &output);
            rig.gradient_unchanged("d_output", &d_output);
        }
        rig.map_unchanged("input", &input);
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backward, input: MapShape { n, channels, height, width }, stats } = *self;
        write!(f, "avg_pool{} {channels} n{n} {height}x{width}{}", pass(backward), raw(stats))
    }
}
