//! A network at work on a device: batches from the host go in, images, losses and parameter updates come out.
//!
//! What is asked for is not waited for: a batch is put ([`Engine::put`]), taken up, and while the device works on it
//! the next can be put. [`Engine::results`] and [`Engine::images`] wait; [`Engine::begin_results`] leaves what it asks
//! for to be waited for when the device has more to do already. Whoever has no next batch calls
//! [`Engine::accumulate`], [`Engine::update`] and [`Engine::reconstruct`], which do all of it.

mod learning;
mod room;
mod transfer;
mod waiting;

use crate::backend::{Backend, Dampening, ImageShape, LabelNoise, LossWeights, Purpose, Update};
use crate::batch::{Batch, Reference};
use crate::error::{Error, Result};
use crate::model::{Architecture, VarNet};
use crate::ranks::Ranks;
use crate::real::Real;
pub(crate) use learning::Learning;
use learning::Read;
pub(crate) use room::Buffers;
pub use room::Task;
use room::{Room, Scalars};
use transfer::{download, read, singles, sum};
use waiting::Waiting;
pub(crate) use waiting::{Arrays, lens};

/// What a batch contributes to a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective<'n> {
    /// Factor of the loss: 1 descends, −1 ascends.
    pub weight: f64,
    /// Whose image is the target, in place of the batch's: a number that [`Engine::add_teacher`] returned.
    pub teacher: Option<usize>,
    /// On the targets, whosever they are: that of each slice, or none.
    pub noise: &'n [LabelNoise],
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

pub struct Engine<'a, B: Backend> {
    ops: &'a B,
    net: VarNet,
    parameters: B::Buffer,
    learning: Option<Learning<B::Buffer>>,
    /// Parameters of other networks of this architecture.
    teachers: Vec<B::Buffer>,
    recompute: bool,
    /// Most recently used first.
    rooms: Vec<Room<B>>,
    waiting: Waiting<B>,
    /// Before and after each thing that was submitted.
    marks: Vec<[B::Mark; 2]>,
    host: Vec<B::Real>,
}

impl<'a, B: Backend> Engine<'a, B> {
    /// An engine that reconstructs.
    ///
    /// # Errors
    /// Where the architecture is impossible or the number of parameters is not its own.
    pub fn new(ops: &'a B, architecture: Architecture, parameters: &[f32]) -> Result<Self> {
        let net = VarNet::new(architecture)?;
        if parameters.len() != net.layout.len() {
            return Err(Error::input(format!(
                "a VarNet of {architecture} has {} parameters, got {}",
                net.layout.len(),
                parameters.len()
            )));
        }
        let buffer = ops.in_one_block(|| Ok(ops.zeros(Purpose::Parameters, parameters.len())))?;
        let mut engine = Self {
            ops,
            net,
            parameters: buffer,
            learning: None,
            teachers: Vec::new(),
            recompute: false,
            rooms: Vec::new(),
            waiting: Waiting::new(ops),
            marks: Vec::new(),
            host: Vec::new(),
        };
        engine.set_parameters(parameters);
        Ok(engine)
    }

    /// An engine that learns: it keeps a gradient and Adam's moments.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_training(ops: &'a B, architecture: Architecture, parameters: &[f32]) -> Result<Self> {
        let mut engine = Self::new(ops, architecture, parameters)?;
        engine.learning = Some(ops.in_one_block(|| Ok(Learning::new(ops, parameters.len())))?);
        Ok(engine)
    }

    /// Whether gradients are computed with little memory, feature maps being made again where the backward pass needs
    /// them. The results are the same bits.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// What [`Self::accumulate`] does with targets of this height and width.
    pub fn learning_task(&self, target: [usize; 2]) -> Task {
        Task::Learn { target, recompute: self.recompute }
    }

    pub fn architecture(&self) -> Architecture {
        self.net.architecture
    }

    pub fn net(&self) -> &VarNet {
        &self.net
    }

    pub fn set_parameters(&mut self, parameters: &[f32]) {
        self.ops.upload(singles(&mut self.host, parameters), &mut self.parameters);
    }

    pub fn parameters(&mut self) -> Vec<f32> {
        download(self.ops, &mut self.host, &self.parameters, self.net.layout.len())
    }

    /// Bytes in use of the device's memory, if it has its own.
    pub fn device_memory(&self) -> Option<usize> {
        self.ops.memory_in_use()
    }

    /// Adam's first and second moment.
    pub fn moments(&mut self) -> [Vec<f32>; 2] {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        [&learning.first_moment, &learning.second_moment].map(|m| download(self.ops, &mut self.host, m, len))
    }

    pub fn set_moments(&mut self, [first, second]: [&[f32]; 2]) {
        let learning = self.learning.as_mut().expect("an engine for training");
        self.ops.upload(singles(&mut self.host, first), &mut learning.first_moment);
        self.ops.upload(singles(&mut self.host, second), &mut learning.second_moment);
    }

    /// The gradient gathered since the last update.
    pub fn gradient(&mut self) -> Vec<f64> {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        read(self.ops, &mut self.host, &learning.gradient, len).iter().map(|x| x.as_f64()).collect()
    }

    /// Takes in another network of this architecture, whose images may be targets; returns its number.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    ///
    /// # Panics
    /// Where the number of parameters is not the architecture's.
    pub fn add_teacher(&mut self, parameters: &[f32]) -> Result<usize> {
        assert_eq!(parameters.len(), self.net.layout.len(), "parameters of another network");
        let mut teacher = self.as_parameters(Purpose::Parameters)?;
        self.ops.upload(singles(&mut self.host, parameters), &mut teacher);
        self.teachers.push(teacher);
        Ok(self.teachers.len() - 1)
    }

    /// From now on updates leave the parameters alone for which `trained` is false, with their moments, and their
    /// gradient is no part of the norm.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    ///
    /// # Panics
    /// Where their number is not the architecture's.
    pub fn freeze(&mut self, trained: &[bool]) -> Result<()> {
        assert_eq!(trained.len(), self.net.layout.len(), "a flag for every parameter");
        let flags: Vec<f32> = trained.iter().map(|&flag| f32::from(u8::from(flag))).collect();
        let learning = self.learning.as_mut().expect("an engine for training");
        let mut mask = match learning.mask.take() {
            Some(mask) => mask,
            None => self.as_parameters(Purpose::Optimiser)?,
        };
        self.ops.upload(singles(&mut self.host, &flags), &mut mask);
        self.learning.as_mut().expect("an engine for training").mask = Some(mask);
        Ok(())
    }

    /// A zero for every parameter.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn as_parameters(&self, purpose: Purpose) -> Result<B::Buffer> {
        self.ops.in_one_block(|| Ok(self.ops.zeros(purpose, self.net.layout.len())))
    }

    /// Numbers on the device, one for every parameter.
    pub fn read(&mut self, values: &B::Buffer) -> Vec<f64> {
        read(self.ops, &mut self.host, values, self.net.layout.len()).iter().map(|x| x.as_f64()).collect()
    }

    /// Adds the gathered gradient's squares, times `factor`, to `sums`; the gradient is zero afterwards.
    pub fn submit_squares(&mut self, factor: f64, sums: &mut B::Buffer) {
        let from = self.ops.mark();
        let learning = self.learning.as_mut().expect("an engine for training");
        self.ops.add_squares(factor, &learning.gradient, sums);
        self.ops.clear(&mut learning.gradient);
        self.marks.push([from, self.ops.mark()]);
    }

    /// Dampens the parameters by their importance to the forget and the retain set.
    pub fn submit_dampening(&mut self, dampening: Dampening, forget: &B::Buffer, retain: &B::Buffer) {
        let from = self.ops.mark();
        self.ops.dampen(dampening, forget, retain, &mut self.parameters);
        self.marks.push([from, self.ops.mark()]);
    }

    /// Forgets the gathered gradient.
    pub fn clear_gradient(&mut self) {
        self.ops.clear(&mut self.learning.as_mut().expect("an engine for training").gradient);
    }

    /// Sends a batch to the device, which may be at work: it is the next that is submitted, with its reference to be
    /// learnt from, without to be reconstructed.
    ///
    /// # Errors
    /// Where the device has not enough memory, or fails.
    pub fn put(&mut self, batch: &Batch, reference: Option<&Reference>) -> Result<()> {
        let task = reference.map_or(Task::Reconstruct, |reference| self.learning_task(reference.size));
        self.waiting.hold(self.ops, batch.shape, task)?;
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
        let images = download(self.ops, &mut self.host, &room.buffers.workspace.output, pixels);
        self.ops.finish()?;
        Ok(images)
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
            ops.label_noise(noise, slice * height * width, height * width, &mut room.buffers.target);
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

    /// Sums numbers on the devices of the ranks, one for every parameter.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn sum(&mut self, ranks: &Ranks, values: &mut B::Buffer) -> Result<()> {
        sum(self.ops, ranks, &mut self.host, values, self.net.layout.len())
    }

    /// Asks for an optimiser step on the gathered gradient, which is zero afterwards. Where its norm is not finite, the
    /// parameters stay as they are.
    pub fn submit_update(&mut self, update: Update) {
        let from = self.ops.mark();
        let learning = self.learning.as_mut().expect("an engine for training");
        learning.update(self.ops, update, &mut self.parameters);
        self.ops.clear(&mut learning.gradient);
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

    /// Whether the device works while the host does something else.
    pub fn works_beside(&self) -> bool {
        self.ops.works_beside()
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
    pub fn update(&mut self, update: Update) -> Result<f64> {
        self.submit_update(update);
        Ok(self.results()?.grad_norm)
    }

    /// Takes the memory for batches of a shape, unless it is there: whoever asks before a long task learns in time
    /// whether it fits. A batch that was put before may be lost.
    ///
    /// # Errors
    /// Where the images are too small for the network or too large for the device, or the device has not enough
    /// memory.
    pub fn make_room(&mut self, shape: ImageShape, task: Task) -> Result<()> {
        match self.rooms.iter().position(|room| (room.shape, room.task) == (shape, task)) {
            Some(at) => self.rooms[..=at].rotate_right(1),
            None => {
                self.ops.check(shape)?;
                self.leave_room(1);
                let room = loop {
                    match self.new_room(shape, task) {
                        // An older one makes way.
                        Err(Error::NoMemory(_)) if self.rooms.pop().is_some() => {}
                        made => break made?,
                    }
                };
                self.rooms.insert(0, room);
                self.leave_room(0);
            }
        }
        Ok(())
    }

    fn new_room(&mut self, shape: ImageShape, task: Task) -> Result<Room<B>> {
        let Self { ops, net, parameters, learning, .. } = self;
        self.waiting.hold(*ops, shape, task)?;
        let mut room = Room::new(*ops, net, shape, task)?;
        room.buffers.prepare(*ops, net, task, parameters, learning.as_mut())?;
        Ok(room)
    }

    /// Gives up the rooms that were longest not used, as long as there are more than the device keeps beside `others`;
    /// the latest stays.
    fn leave_room(&mut self, others: usize) {
        while self.rooms.len() > 1 && !self.ops.keeps(self.rooms.len() + others) {
            self.rooms.pop();
        }
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
