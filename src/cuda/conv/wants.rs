//! What a convolution's kernels need beside its maps: filters laid out for them, and room for parts of a gradient. Asked for
//! by the convolution itself, and ahead of it where it is announced.

use crate::backend::{Convolution, MapShape, Pass};
use crate::cuda::Cuda;
use crate::cuda::conv::problem::Makes;
use crate::cuda::conv::{mma, plain, transpose_mma};
use crate::cuda::driver::Driver;
use crate::precision::Precision;

/// What a convolution wants made ahead.
pub struct Wants {
    /// On tensor cores, where it multiplies any.
    pub filters: Option<(mma::Cut, mma::FilterShape)>,
    /// Reals of the parts of its weights' gradient.
    pub parts: usize,
}

impl Wants {
    pub fn is_nothing(&self) -> bool {
        self.filters.is_none() && self.parts == 0
    }
}

/// Nothing in float32: without tensor cores filters are taken as they are, and the parts of its gradients are many.
pub fn wants<D: Driver>(cuda: &Cuda<D>, convolution: &Convolution) -> Wants {
    let Convolution { transposed, weight, inputs, output, ref pass } = *convolution;
    let (tilings, precision, outs) = (cuda.tilings(), cuda.precision(), output.channels);
    if precision == Precision::Fp32 {
        return Wants { filters: None, parts: 0 };
    }
    if transposed {
        return Wants { filters: None, parts: transpose_mma::parts_len(precision, convolution) };
    }
    match pass {
        Pass::Forward => {
            let cut = mma::Cut::of(tilings, precision, Makes::Output, output, inputs, outs);
            let shape = mma::of_output(&cut, inputs, outs);
            Wants { filters: Some((cut, shape)), parts: 0 }
        }
        Pass::Backward(of) => {
            let filters = (!of.is_empty()).then(|| {
                let cut = mma::Cut::of(tilings, precision, Makes::InputGradients, output, outs, of.len());
                let shape = mma::of_inputs(&cut, inputs, outs, of);
                (cut, shape)
            });
            Wants { filters, parts: FiltersCut::of(cuda, output, inputs).parts() * weight.len }
        }
    }
}

/// How the gradient of filters is cut into blocks: on tensor cores or not.
pub enum FiltersCut {
    Mma(mma::weights::Cut),
    Plain(plain::SumCut),
}

impl FiltersCut {
    pub fn of<D: Driver>(cuda: &Cuda<D>, output: MapShape, inputs: usize) -> Self {
        match cuda.precision() {
            Precision::Fp32 => Self::Plain(plain::SumCut::of(output, inputs)),
            precision => Self::Mma(mma::weights::Cut::of(cuda.tilings(), precision, output, inputs)),
        }
    }

    pub fn parts(&self) -> usize {
        match self {
            Self::Mma(cut) => cut.parts,
            Self::Plain(cut) => cut.parts,
        }
    }
}
