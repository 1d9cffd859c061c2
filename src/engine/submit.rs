//! What an engine is asked to do, without waiting for it, and what comes of it.

use super::learning::Read;
use super::room::Scalars;
use super::transfer::{download, sum};
use super::{Engine, Workload};
use crate::backend::*;
use crate::batch::{Batch, Reference};
use crate::error::Result;
use crate::ranks::Ranks;

/// What a batch contributes to a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective<'n> {
    /// Factor of the loss: 1 descends, −1 ascends.
    pub weight: f64,
    /// Whose image is the target, in place of the batch's: a number that [`Engine::add_teacher`] returned.
    pub teacher: Option<usize>,
    /// On the targets, whosever they are: that of each slice, or none.
    pub noise: &'n [NoiseSource],
    /// Nothing is added to the gradient after it, and it is the ranks' sum that the next update takes: where their devices
    /// are connected, they begin to sum while the backward pass goes on. [`Engine::sum_gradient`] must follow.
    pub last: bool,
}

impl Objective<'_> {
    /// The loss as it is.
    pub const DESCENT: Self = Self { weight: 1.0, teacher: None, noise: &[], last: false };
}

/// The loss of one batch and its parts, unweighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossValue {
    /// `ssim·(1 − SSIM) + l1·|output − target|` with the loss's weights.
    pub loss: f64,
    pub ssim_loss: f64,
    pub l1: f64,
}

/// What there is to say of what was submitted since the last time.
#[derive(Clone, Debug)]
pub struct Results {
    /// Of each batch, in order.
    pub losses: Vec<LossValue>,
    /// The gradient's norm before the clip, of the latest update.
    pub grad_norm: f64,
    /// How long the device worked on it.
    pub seconds: f64,
}

/// Results on their way ([`Engine::begin_results`]).
pub struct Coming<B: Backend> {
    read: Read<B>,
    marks: Vec<[B::Mark; 2]>,
}

/// A pass without a loss.
const FORWARD: Scalars =
    Scalars { weights: LossWeights { ssim: 0.0, l1: 0.0 }, scale: 1.0, teacher: None, part: None };

impl<B: Backend> Engine<'_, B> {
    /// Sends a batch to the device, which may be at work: it is the next that is submitted, with its reference to be
    /// learnt from, without to be reconstructed.
    ///
    /// # Errors
    /// Where the device has not enough memory, or fails.
    pub fn put(&mut self, batch: &Batch, reference: Option<&Reference>) -> Result<()> {
        let task = reference.map_or(Workload::Reconstruct, |reference| self.learning_task(reference.size));
        self.waiting.hold(self.ops, self.beside(), batch.shape, task)?;
        self.waiting.put(self.ops, batch, reference, task);
        Ok(())
    }

    /// Starts the reconstruction of the batch that was put.
    ///
    /// # Errors
    /// Where the images are too small for the network, or the device has not enough memory.
    ///
    /// # Panics
    /// Where none was put.
    pub fn submit_reconstruction(&mut self) -> Result<()> {
        self.take_up()?;
        let Self { ops, net, parameters, rooms, .. } = self;
        let room = &mut rooms[0];
        let (mut tape, pass) = room.take_pass(FORWARD);
        let buffers = &mut room.buffers;
        ops.repeat(&mut tape, || buffers.reconstruct(*ops, net, parameters));
        room.passes[pass].tape = tape;
        Ok(())
    }

    /// Images `[N, rows, columns]` of the batch that was submitted last.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn images(&mut self) -> Result<Vec<f32>> {
        let room = &self.rooms[0];
        let pixels = room.shape.n * room.shape.pixels();
        download(self.ops, &mut self.host, &room.buffers.workspace.output, pixels)
    }

    /// Images `[N, rows, columns]` of a batch.
    ///
    /// # Errors
    /// As [`Self::submit_reconstruction`], and where the device fails.
    pub fn reconstruct(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.put(batch, None)?;
        self.submit_reconstruction()?;
        self.images()
    }

    /// Adds the gradient of `objective` over the batch that was put to what the next update takes.
    ///
    /// # Errors
    /// Where the images are too small for the network or for the loss, or the device has not enough memory.
    ///
    /// # Panics
    /// Where none was put.
    pub fn submit(&mut self, weights: LossWeights, objective: Objective<'_>) -> Result<()> {
        let from = self.take_up()?;
        let Self { ops, net, parameters, learning, teachers, rooms, .. } = self;
        let learning = learning.as_mut().expect("an engine for training");
        let room = &mut rooms[0];
        room.buffers.loss.check(weights)?;
        let Objective { weight: scale, teacher, noise, last } = objective;
        if let Some(teacher) = teacher {
            let (mut tape, pass) = room.take_pass(Scalars { teacher: Some(teacher), ..FORWARD });
            ops.repeat(&mut tape, || room.buffers.teach(*ops, net, &teachers[teacher]));
            room.passes[pass].tape = tape;
        }
        let [height, width] = room.buffers.loss.target;
        assert!(noise.is_empty() || noise.len() == room.buffers.loss.n, "noise for every slice, or for none");
        for (slice, &noise) in noise.iter().enumerate() {
            ops.run(LabelNoise {
                noise,
                first: slice * height * width,
                len: height * width,
                target: &mut room.buffers.target,
            });
        }
        let scalars = Scalars { weights, scale, teacher: None, part: None };
        let gradient = &mut learning.gradient;
        if last && ops.is_connected() {
            // Sums stand between what is repeated: NCCL wants them recorded on all ranks or on none, and not every rank
            // has repeated as much.
            for (part, span) in net.parts().into_iter().enumerate() {
                let (mut tape, pass) = room.take_pass(Scalars { part: Some(part), ..scalars });
                let buffers = &mut room.buffers;
                ops.repeat(&mut tape, || {
                    buffers.learn_part(part, *ops, net, parameters, gradient, (weights, scale));
                });
                room.passes[pass].tape = tape;
                ops.begin_sum(gradient, span);
            }
            ops.await_sums();
            learning.summed = true;
        } else {
            let (mut tape, pass) = room.take_pass(scalars);
            let buffers = &mut room.buffers;
            ops.repeat(&mut tape, || buffers.learn(*ops, net, parameters, gradient, (weights, scale)));
            room.passes[pass].tape = tape;
        }
        learning.keep(*ops, &room.buffers.losses, weights);
        self.marks.push([from, self.ops.mark()]);
        Ok(())
    }

    /// Sees that the gathered gradient is that of all ranks.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn sum_gradient(&mut self, ranks: &Ranks) -> Result<()> {
        let Self { ops, net, learning, host, .. } = self;
        let learning = learning.as_mut().expect("an engine for training");
        if std::mem::take(&mut learning.summed) {
            return Ok(());
        }
        if !ops.is_connected() {
            return sum(*ops, ranks, host, &mut learning.gradient, net.layout.len());
        }
        // Part by part, as ranks do whose backward pass goes on meanwhile: devices sum what all of them begin.
        net.parts().into_iter().for_each(|part| ops.begin_sum(&mut learning.gradient, part));
        ops.await_sums();
        Ok(())
    }

    /// Asks for an optimiser step on the gathered gradient, which is zero afterwards. Where its norm is not finite, the
    /// parameters stay as they are.
    pub fn submit_update(&mut self, adam: AdamStep) {
        let from = self.ops.mark();
        let learning = self.learning.as_mut().expect("an engine for training");
        learning.update(self.ops, adam, &mut self.parameters);
        self.ops.run(Clear { buffer: &mut learning.gradient });
        self.marks.push([from, self.ops.mark()]);
    }

    /// Adds the gathered gradient's squares, times `factor`, to `sums`; the gradient is zero afterwards.
    pub fn submit_squares(&mut self, factor: f64, sums: &mut B::Buffer) {
        let from = self.ops.mark();
        let learning = self.learning.as_mut().expect("an engine for training");
        self.ops.run(AddSquares { factor, gradient: &learning.gradient, sums });
        self.ops.run(Clear { buffer: &mut learning.gradient });
        self.marks.push([from, self.ops.mark()]);
    }

    /// Dampens the parameters by their importance to the forget and the retain set.
    pub fn submit_dampening(&mut self, dampening: Dampening, forget: &B::Buffer, retain: &B::Buffer) {
        let from = self.ops.mark();
        self.ops.run(Dampen { dampening, forget, retain, parameters: &mut self.parameters });
        self.marks.push([from, self.ops.mark()]);
    }

    /// Waits for what was submitted, and says what came of it.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn results(&mut self) -> Result<Results> {
        let coming = self.begin_results()?;
        self.ops.finish()?;
        self.await_results(coming)
    }

    /// Asks what comes of all that was submitted since the last time. More may be submitted before it is waited for.
    ///
    /// # Errors
    /// Where the device is known to have failed.
    pub fn begin_results(&mut self) -> Result<Coming<B>> {
        let marks = std::mem::take(&mut self.marks);
        let learning = self.learning.as_mut().expect("an engine for training");
        Ok(Coming { read: learning.begin_read(self.ops)?, marks })
    }

    /// Waits for it, and for nothing that was submitted since.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn await_results(&self, coming: Coming<B>) -> Result<Results> {
        let Coming { read, marks } = coming;
        let (grad_norm, losses) = read.wait(self.ops)?;
        let seconds = marks.iter().map(|[from, to]| self.ops.seconds(from, to)).sum();
        Ok(Results { losses, grad_norm, seconds })
    }

    /// Adds the gradient of `objective` over a batch to what the next update takes; returns the loss.
    ///
    /// # Errors
    /// As [`Self::submit`], and where the device fails.
    pub fn accumulate(
        &mut self,
        batch: &Batch,
        reference: &Reference,
        weights: LossWeights,
        objective: Objective<'_>,
    ) -> Result<LossValue> {
        self.put(batch, Some(reference))?;
        self.submit(weights, objective)?;
        Ok(*self.results()?.losses.last().expect("that of the batch"))
    }

    /// One optimiser step on the gathered gradient, which is zero afterwards. Returns the gradient's norm before
    /// the clip; where that is not finite, the parameters stay as they were.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn update(&mut self, adam: AdamStep) -> Result<f64> {
        self.submit_update(adam);
        Ok(self.results()?.grad_norm)
    }

    /// Moves the batch that was put into the room for its shape, which becomes `self.rooms[0]`; returns when.
    fn take_up(&mut self) -> Result<B::Mark> {
        let (shape, task) = self.waiting.batch().expect("a batch was put");
        self.make_room(shape, task)?;
        let from = self.ops.mark();
        self.waiting.take(self.ops, self.rooms[0].buffers.arrays());
        Ok(from)
    }
}
