//! What is made ahead for convolutions that were announced, for all of them at once: their filters as tensor cores take
//! them, and room for the parts of their weights' gradients, which are added up together once the last is done. A launch
//! for each of these takes longer than its work, and nothing runs beside it.

use crate::backend::{Convolution, Span};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::memory::Lifetime;
use crate::cuda::partial::{self, Sum};
use crate::cuda::{Buffer, Cuda, conv, conv_mma};

/// The convolutions that are still to come, and what those that came have left to do.
#[derive(Default)]
pub struct Announced {
    coming: Vec<Coming>,
    owed: Vec<Owed>,
}

struct Coming {
    convolution: Convolution,
    weights: Const<f32>,
    ahead: Ahead,
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

/// See [`crate::backend::Backend::announce`].
///
/// # Panics
/// Where convolutions that were announced before did not come.
pub fn announce<D: Driver>(cuda: &Cuda<D>, parameters: &Buffer<D>, convolutions: &[Convolution]) {
    assert!(cuda.announced().coming.is_empty(), "convolutions were announced that did not come");
    let wanted: Vec<_> = convolutions
        .iter()
        .map(|convolution| (convolution, conv::wants(cuda, convolution)))
        .filter(|(_, wants)| !wants.is_nothing())
        .collect();
    let lens: Vec<_> = wanted
        .iter()
        .flat_map(|(_, wants)| [wants.filters.as_ref().map_or(0, |(cut, _)| cut.filters()), wants.parts])
        .collect();
    let places = cuda.scratch_for(Lifetime::Announcement, &lens);
    let mut layers = Vec::new();
    let mut coming = Vec::new();
    for ((convolution, wants), &[filters, parts]) in wanted.into_iter().zip(places.as_chunks().0) {
        let weights = parameters.read_from(convolution.weight.offset, convolution.weight.len);
        let filters = wants.filters.map_or(Const::null(), |(cut, shape)| {
            layers.push(conv_mma::Layer { weights, to: filters.words(), shape, words: cut.filters() });
            filters.words().as_const()
        });
        let parts = if wants.parts > 0 { parts } else { Mut::null() };
        coming.push(Coming { convolution: convolution.clone(), weights, ahead: Ahead { filters, parts } });
    }
    conv_mma::lay_out(cuda, &layers);
    cuda.announced().coming = coming;
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
    let mut sum = |Owed { weight, partial, parts }| {
        let into = d_parameters.write_from(weight.offset, weight.len);
        Sum { partial, into, parts, len: weight.len }
    };
    let sums: Vec<_> = owed.into_iter().map(&mut sum).collect();
    partial::add_all(cuda, &sums);
}
