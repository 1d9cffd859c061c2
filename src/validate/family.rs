//! What a family of operations says of its cases.

use std::fmt::Display;

use super::checked::Checked;
use super::random::Random;
use super::rig::Rig;
use crate::backend::ImageShape;

/// Operations that share the description of a shape.
pub trait Family: Copy + Display {
    /// Shapes on which something is likely to go wrong.
    fn table() -> Vec<Self>;

    /// Shapes of the paper's network at the size of its images: a GPU takes seconds for them, an emulated device hours.
    fn paper() -> Vec<Self> {
        Vec::new()
    }

    /// Some other shape, at most some 10⁷ multiply-adds large: emulated devices are slow.
    fn random(random: &mut Random) -> Self;

    /// The images that the operation is for, of which a backend may not support every size.
    fn images(&self) -> Option<ImageShape> {
        None
    }

    /// Makes the inputs, carries the operation out, and hands all buffers back.
    fn run<B: Checked>(&self, rig: &mut Rig<'_, B>);
}
