//! What an engine that learns keeps beside its parameters.

use crate::backend::{AdamStep, Backend, CopyPart, LossWeights, Memory, Purpose, Update};
use crate::engine::LossValue;
use crate::error::Result;
use crate::real::Real;

/// The most batches whose losses are kept until somebody asks for them.
const MOST_BATCHES: usize = 64;

/// Adam's moments, the gradient that an update will take, and what there is to say of a step.
pub(crate) struct Learning<B> {
    pub(super) gradient: B,
    pub(super) first_moment: B,
    pub(super) second_moment: B,
    /// Whether the gradient is that of all ranks already.
    pub(super) summed: bool,
    /// Zeros where a parameter is frozen; absent where none is.
    pub(super) mask: Option<B>,
    /// `[1 + 2·batches]`: the gradient's norm, and of each batch 1 − SSIM and the mean absolute error.
    results: B,
    /// Of the batches, how their losses are weighed.
    weights: Vec<LossWeights>,
}

impl<B> Learning<B> {
    pub(crate) fn new<M: Memory<Buffer = B>>(ops: &M, parameters: usize) -> Self {
        let zeros = || ops.zeros(Purpose::Optimiser, parameters);
        Self {
            gradient: zeros(),
            first_moment: zeros(),
            second_moment: zeros(),
            summed: false,
            mask: None,
            results: ops.zeros(Purpose::Optimiser, 1 + 2 * MOST_BATCHES),
            weights: Vec::new(),
        }
    }

    pub(super) fn update<O: Backend<Buffer = B>>(&mut self, ops: &O, adam: AdamStep, parameters: &mut B) {
        let Self { gradient, first_moment, second_moment, mask, results, .. } = self;
        ops.run(Update {
            adam,
            parameters,
            mask: mask.as_ref(),
            gradient,
            first_moment,
            second_moment,
            norm: results,
        });
    }

    /// Keeps the losses `[2]` of a batch.
    pub(super) fn keep<O: Backend<Buffer = B>>(&mut self, ops: &O, losses: &B, weights: LossWeights) {
        let batch = self.weights.len();
        assert!(batch < MOST_BATCHES, "the losses of {MOST_BATCHES} batches wait to be read");
        ops.run(CopyPart {
            from: losses,
            from_offset: 0,
            to: &mut self.results,
            to_offset: 1 + 2 * batch,
            len: 2,
        });
        self.weights.push(weights);
    }

    /// Sends the latest update's norm and the losses that were kept on their way; those of later batches may be kept
    /// from then on.
    pub(super) fn begin_read<O: Backend<Buffer = B>>(&mut self, ops: &O) -> Result<Read<O>> {
        let weights = std::mem::take(&mut self.weights);
        let download = ops.begin_download(&self.results, 1 + 2 * weights.len())?;
        Ok(Read { download, weights })
    }
}

/// Results on their way to the host.
pub(super) struct Read<O: Backend> {
    download: O::Download,
    weights: Vec<LossWeights>,
}

impl<O: Backend> Read<O> {
    /// Waits for the norm and the losses.
    pub(super) fn wait(self, ops: &O) -> Result<(f64, Vec<LossValue>)> {
        let mut host = vec![O::Real::real(0.0); 1 + 2 * self.weights.len()];
        ops.await_download(self.download, &mut host)?;
        let losses = self.weights.into_iter().zip(host[1..].as_chunks::<2>().0).map(|(weights, losses)| {
            let [ssim_loss, l1] = losses.map(|x| x.as_f64());
            LossValue { loss: weights.ssim * ssim_loss + weights.l1 * l1, ssim_loss, l1 }
        });
        Ok((host[0].as_f64(), losses.collect()))
    }
}
