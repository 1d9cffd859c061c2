//! How the slices of two sets become the steps of an epoch.

use crate::unlearn::strength::{Recipe, Strength};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// A batch of each set in every step.
    Pairs,
    /// Steps of both in one order.
    Stream,
    /// First those of the forget set, in the first epochs, then those of the retain set.
    Turns { ascent_epochs: u64 },
}

impl Mixing {
    /// That of Xue et al.: the paper's text and its code differ in it.
    pub fn by_recipe(strength: &Strength) -> Self {
        match strength.recipe {
            Recipe::Text => Self::Pairs,
            Recipe::Code => Self::Stream,
        }
    }

    /// How many batches of the retain and of the forget set an epoch goes through, and in how many steps, where there are
    /// so many of each; none of a set that the method does not use.
    pub fn count(self, epoch: u64, [retain, forget]: [usize; 2]) -> ([usize; 2], usize) {
        match self {
            Self::Pairs if retain > 0 && forget > 0 => {
                let pairs = retain.max(forget);
                ([pairs; 2], pairs)
            }
            Self::Turns { ascent_epochs } if epoch >= ascent_epochs => ([retain, 0], retain),
            Self::Pairs | Self::Stream | Self::Turns { .. } => ([retain, forget], retain + forget),
        }
    }
}
