//! The convolutions that were announced ([`super::announce`]): each finds here what was made ahead for it, and leaves what is
//! done for all together.

use crate::backend::{Convolution, Span};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::partial::{self, Sum};
use crate::cuda::{Buffer, Cuda};

/// The convolutions that are still to come, and what those that came have left to do.
#[derive(Default)]
pub struct Announced {
    pub(super) coming: Vec<Coming>,
    owed: Vec<Owed>,
}

pub(super) struct Coming {
    pub convolution: Convolution,
    pub weights: Const<f32>,
    pub ahead: Ahead,
}

/// What an announced convolution finds.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// Null where it multiplies none that are laid out.
    pub filters: Const<u32>,
    /// Null in the forward pass.
    pub parts: Mut<f32>,
}

/// `parts` parts of the gradient of these weights.
struct Owed {
    weight: Span,
    partial: Const<f32>,
    parts: usize,
}

/// What was made ahead for this convolution with these weights, if it was announced. It has come now.
pub fn take<D: Driver>(cuda: &Cuda<D>, weights: Const<f32>, convolution: &Convolution) -> Option<Ahead> {
    let coming = &mut cuda.announced().coming;
    let same =
        |other: &Coming| other.weights.address() == weights.address() && other.convolution == *convolution;
    let at = coming.iter().position(same)?;
    Some(coming.remove(at).ahead)
}

/// Leaves an announced convolution's parts of its weights' gradient to be added up. When nothing more is to come, all
/// are.
pub fn owe<D: Driver>(
    cuda: &Cuda<D>,
    weight: Span,
    partial: Const<f32>,
    parts: usize,
    d_parameters: &mut Buffer<D>,
) {
    let owed = {
        let mut announced = cuda.announced();
        announced.owed.push(Owed { weight, partial, parts });
        if !announced.coming.is_empty() {
            return;
        }
        std::mem::take(&mut announced.owed)
    };
    // So nobody works with this memory any more when the next announcement has it.
    cuda.attempt(|driver| cuda.await_beside(driver));
    let mut sum = |Owed { weight, partial, parts }| {
        let into = d_parameters.write_from(weight.offset, weight.len);
        Sum { partial, into, parts, len: weight.len }
    };
    let sums: Vec<_> = owed.into_iter().map(&mut sum).collect();
    partial::add_all(cuda, &sums);
}
