//! What an engine's buffers are made for.

use crate::model::varnet::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Reconstruct,
    Learn {
        /// Height and width of the targets.
        target: [usize; 2],
        /// See [`Mode::Training`].
        recompute: bool,
    },
}

impl Workload {
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Reconstruct => Mode::Inference,
            Self::Learn { recompute, .. } => Mode::Training { recompute },
        }
    }
}
