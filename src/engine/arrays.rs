//! The arrays that a batch is on the device: k-space, mask, centre, target and data ranges.

use crate::backend::{ImageShape, Memory, Purpose};
use crate::engine::workload::Workload;

pub(crate) struct Arrays<B>(pub(super) [B; ARRAYS]);

pub(super) const ARRAYS: usize = 5;

impl<B> Arrays<B> {
    /// Room for arrays of these lengths.
    pub(crate) fn new<M: Memory<Buffer = B>>(ops: &M, lens: [usize; ARRAYS]) -> Self {
        Self(lens.map(|len| ops.zeros(Purpose::Input, len)))
    }
}

/// How long each array is, for batches of a shape.
pub(crate) fn lens(shape: ImageShape, task: Workload) -> [usize; ARRAYS] {
    let columns = shape.n * shape.columns;
    let (target, ranges) = match task {
        Workload::Reconstruct => (0, 0),
        Workload::Learn { target: [height, width], .. } => (shape.n * height * width, shape.n),
    };
    [shape.multicoil(), columns, columns, target, ranges]
}
