//! A network at work on a device: batches from the host go in, images, losses and parameter updates come out.

use num_traits::Zero;

use crate::backend::{Backend, ImageShape, LabelNoise, LossShape, LossWeights, Memory, Purpose, Update};
use crate::batch::{Batch, Reference};
use crate::error::{Error, Result};
use crate::model::varnet::{Input, Mode, Workspace};
use crate::model::{Architecture, VarNet};
use crate::real::Real;

/// What a batch contributes to a step's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Factor of the loss: 1 descends, −1 ascends.
    pub weight: f64,
    pub noise: Option<LabelNoise>,
}

impl Objective {
    /// The loss as it is.
    pub const DESCENT: Self = Self { weight: 1.0, noise: None };
}

/// The loss of one batch and its parts, unweighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossValue {
    /// `ssim·(1 − SSIM) + l1·|output − target|` with the loss's weights.
    pub loss: f64,
    pub ssim_loss: f64,
    pub l1: f64,
}

/// What buffers are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Reconstruct,
    Learn {
        /// Height and width of the targets.
        target: [usize; 2],
        /// See [`Mode::Training`].
        recompute: bool,
    },
}

impl Task {
    fn mode(self) -> Mode {
        match self {
            Self::Reconstruct => Mode::Inference,
            Self::Learn { recompute, .. } => Mode::Training { recompute },
        }
    }
}

/// Buffers for one shape and task.
pub(crate) struct Buffers<B> {
    workspace: Workspace<B>,
    input: Input<B>,
    loss: LossShape,
    d_output: B,
    target: B,
    /// `[N]`: SSIM's data range.
    max_value: B,
    /// `[2]`: 1 − SSIM and the mean absolute error.
    losses: B,
}

/// Where batches of one shape are worked on.
struct Room<B: Backend> {
    shape: ImageShape,
    task: Task,
    buffers: Buffers<B::Buffer>,
    /// What the room repeats, for each set of scalars that it was asked to.
    passes: Vec<Pass<B::Tape>>,
}

/// A forward pass, or forward, loss and backward, with the scalars that are fixed in it.
struct Pass<T> {
    weights: LossWeights,
    scale: f64,
    tape: T,
}

/// Adam's moments, and the gradient that an update will take.
pub(crate) struct Learning<B> {
    gradient: B,
    first_moment: B,
    second_moment: B,
    /// `[1]`: the gradient's norm.
    norm: B,
}

pub struct Engine<'a, B: Backend> {
    ops: &'a B,
    net: VarNet,
    parameters: B::Buffer,
    learning: Option<Learning<B::Buffer>>,
    recompute: bool,
    /// Most recently used first.
    rooms: Vec<Room<B>>,
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
            recompute: false,
            rooms: Vec::new(),
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
        upload_singles(self.ops, &mut self.host, parameters, &mut self.parameters);
    }

    pub fn parameters(&mut self) -> Vec<f32> {
        download(self.ops, &mut self.host, &self.parameters, self.net.layout.len())
    }

    /// Adam's first and second moment.
    pub fn moments(&mut self) -> [Vec<f32>; 2] {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        [&learning.first_moment, &learning.second_moment].map(|m| download(self.ops, &mut self.host, m, len))
    }

    pub fn set_moments(&mut self, [first, second]: [&[f32]; 2]) {
        let learning = self.learning.as_mut().expect("an engine for training");
        upload_singles(self.ops, &mut self.host, first, &mut learning.first_moment);
        upload_singles(self.ops, &mut self.host, second, &mut learning.second_moment);
    }

    /// The gradient gathered since the last update.
    pub fn gradient(&mut self) -> Vec<f64> {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        read(self.ops, &mut self.host, &learning.gradient, len).iter().map(|x| x.as_f64()).collect()
    }

    /// Images `[N, rows, columns]` of a batch.
    ///
    /// # Errors
    /// Where the images are too small for the network, or the device fails.
    pub fn reconstruct(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.load(batch, Task::Reconstruct)?;
        let Self { ops, net, parameters, rooms, host, .. } = self;
        let room = &mut rooms[0];
        let (mut tape, pass) = room.take_pass(LossWeights { ssim: 0.0, l1: 0.0 }, 1.0);
        let buffers = &mut room.buffers;
        ops.repeat(&mut tape, || buffers.reconstruct(*ops, net, parameters));
        room.passes[pass].tape = tape;
        let images =
            download(*ops, host, &room.buffers.workspace.output, batch.shape.n * batch.shape.pixels());
        ops.finish()?;
        Ok(images)
    }

    /// Adds the gradient of `objective` over a batch to what the next update takes.
    ///
    /// # Errors
    /// Where the images are too small for the network or for the loss, or the device fails.
    pub fn accumulate(
        &mut self,
        batch: &Batch,
        reference: &Reference,
        weights: LossWeights,
        objective: Objective,
    ) -> Result<LossValue> {
        LossShape::new(batch.shape, reference.size).check(weights)?;
        self.load(batch, self.learning_task(reference.size))?;
        let Self { ops, net, parameters, learning, rooms, host, .. } = self;
        let learning = learning.as_mut().expect("an engine for training");
        let room = &mut rooms[0];
        let (mut tape, pass) = room.take_pass(weights, objective.weight);
        let buffers = &mut room.buffers;
        upload_singles(*ops, host, &reference.images, &mut buffers.target);
        upload(*ops, host, reference.max_value.iter().copied(), &mut buffers.max_value);
        if let Some(noise) = objective.noise {
            ops.label_noise(noise, reference.images.len(), &mut buffers.target);
        }
        ops.repeat(&mut tape, || {
            buffers.learn(*ops, net, parameters, &mut learning.gradient, weights, objective.weight);
        });
        let losses = read(*ops, host, &buffers.losses, 2);
        room.passes[pass].tape = tape;
        ops.finish()?;
        let [ssim_loss, l1] = [losses[0], losses[1]].map(|x| x.as_f64());
        Ok(LossValue { loss: weights.ssim * ssim_loss + weights.l1 * l1, ssim_loss, l1 })
    }

    /// One optimiser step on the gathered gradient, which is zero afterwards. Returns the gradient's norm before
    /// the clip; where that is not finite, the parameters stay as they were.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn update(&mut self, update: Update) -> Result<f64> {
        let learning = self.learning.as_mut().expect("an engine for training");
        learning.update(self.ops, update, &mut self.parameters);
        self.ops.clear(&mut learning.gradient);
        let norm = read(self.ops, &mut self.host, &learning.norm, 1)[0].as_f64();
        self.ops.finish()?;
        Ok(norm)
    }

    /// Takes the memory for batches of a shape, unless it is there: whoever asks before a long task learns in time
    /// whether it fits.
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

    /// Brings a batch to the device, into the room for its shape, which becomes `self.rooms[0]`.
    fn load(&mut self, batch: &Batch, task: Task) -> Result<()> {
        self.make_room(batch.shape, task)?;
        let input = &mut self.rooms[0].buffers.input;
        let columns = |flags: &[bool]| flags.iter().map(|&flag| f64::from(flag)).collect::<Vec<_>>();
        upload_singles(self.ops, &mut self.host, bytemuck::cast_slice(&batch.kspace), &mut input.kspace);
        upload(self.ops, &mut self.host, columns(&batch.mask).into_iter(), &mut input.mask);
        upload(self.ops, &mut self.host, columns(&batch.centre).into_iter(), &mut input.centre);
        Ok(())
    }
}

impl<B> Learning<B> {
    pub(crate) fn new<M: Memory<Buffer = B>>(ops: &M, parameters: usize) -> Self {
        let zeros = || ops.zeros(Purpose::Optimiser, parameters);
        Self {
            gradient: zeros(),
            first_moment: zeros(),
            second_moment: zeros(),
            norm: ops.zeros(Purpose::Optimiser, 1),
        }
    }

    fn update<O: Backend<Buffer = B>>(&mut self, ops: &O, update: Update, parameters: &mut B) {
        let Self { gradient, first_moment, second_moment, norm } = self;
        ops.update(update, parameters, gradient, first_moment, second_moment, norm);
    }
}

impl<B> Buffers<B> {
    pub(crate) fn new<M: Memory<Buffer = B>>(
        ops: &M,
        net: &VarNet,
        shape: ImageShape,
        task: Task,
    ) -> Result<Self> {
        let (learns, [height, width]) = match task {
            Task::Reconstruct => (false, [0, 0]),
            Task::Learn { target, .. } => (true, target),
        };
        let if_it_learns = |len| if learns { len } else { 0 };
        let input = |len| ops.zeros(Purpose::Input, len);
        Ok(Self {
            workspace: net.workspace(ops, shape, task.mode())?,
            input: Input {
                shape,
                kspace: input(shape.multicoil()),
                mask: input(shape.n * shape.columns),
                centre: input(shape.n * shape.columns),
            },
            loss: LossShape::new(shape, [height, width]),
            d_output: ops.zeros(Purpose::Images, if_it_learns(shape.n * shape.pixels())),
            target: input(shape.n * height * width),
            max_value: input(if_it_learns(shape.n)),
            losses: ops.zeros(Purpose::Images, if_it_learns(2)),
        })
    }

    /// Takes what the operations of the task use within themselves.
    pub(crate) fn prepare<O: Backend<Buffer = B>>(
        &mut self,
        ops: &O,
        net: &VarNet,
        task: Task,
        parameters: &mut B,
        learning: Option<&mut Learning<B>>,
    ) -> Result<()> {
        ops.prepare(|| match (task, learning) {
            (Task::Learn { .. }, Some(learning)) => {
                // The scalars decide nothing about memory.
                let weights = LossWeights { ssim: 1.0, l1: 1.0 };
                self.learn(ops, net, parameters, &mut learning.gradient, weights, 1.0);
                let (clip, l1) = (Some(1.0), 1.0);
                let update = Update { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, step: 1, clip, l1 };
                learning.update(ops, update, parameters);
            }
            _ => self.reconstruct(ops, net, parameters),
        })
    }

    fn reconstruct<O: Backend<Buffer = B>>(&mut self, ops: &O, net: &VarNet, parameters: &B) {
        net.forward(ops, parameters, &self.input, &mut self.workspace);
    }

    /// Forward, loss and backward.
    fn learn<O: Backend<Buffer = B>>(
        &mut self,
        ops: &O,
        net: &VarNet,
        parameters: &B,
        d_parameters: &mut B,
        weights: LossWeights,
        scale: f64,
    ) {
        let Self { workspace, input, loss, d_output, target, max_value, losses } = self;
        net.forward(ops, parameters, input, workspace);
        ops.image_loss(*loss, weights, scale, &workspace.output, target, max_value, losses, d_output);
        net.backward(ops, parameters, input, workspace, d_output, d_parameters);
    }
}

impl<B: Backend> Room<B> {
    fn new(ops: &B, net: &VarNet, shape: ImageShape, task: Task) -> Result<Self> {
        let buffers = ops.in_one_block(|| Buffers::new(ops, net, shape, task))?;
        Ok(Self { shape, task, buffers, passes: Vec::new() })
    }

    /// The tape of the pass with these scalars, to be put back where the number says.
    fn take_pass(&mut self, weights: LossWeights, scale: f64) -> (B::Tape, usize) {
        let known = self.passes.iter().position(|p| (p.weights, p.scale) == (weights, scale));
        let at = known.unwrap_or_else(|| {
            self.passes.push(Pass { weights, scale, tape: B::Tape::default() });
            self.passes.len() - 1
        });
        (std::mem::take(&mut self.passes[at].tape), at)
    }
}

fn upload<B: Backend>(
    ops: &B,
    host: &mut Vec<B::Real>,
    values: impl Iterator<Item = f64>,
    buffer: &mut B::Buffer,
) {
    host.clear();
    host.extend(values.map(B::Real::real));
    ops.upload(host, buffer);
}

fn upload_singles<B: Backend>(ops: &B, host: &mut Vec<B::Real>, values: &[f32], buffer: &mut B::Buffer) {
    // Reals are f32 or f64: those of the same size are the same.
    if size_of::<B::Real>() == size_of::<f32>() {
        ops.upload(bytemuck::cast_slice(values), buffer);
    } else {
        upload(ops, host, values.iter().map(|&x| f64::from(x)), buffer);
    }
}

fn read<'h, B: Backend>(
    ops: &B,
    host: &'h mut Vec<B::Real>,
    buffer: &B::Buffer,
    len: usize,
) -> &'h [B::Real] {
    host.resize(len.max(host.len()), B::Real::zero());
    ops.download(buffer, &mut host[..len]);
    &host[..len]
}

fn download<B: Backend>(ops: &B, host: &mut Vec<B::Real>, buffer: &B::Buffer, len: usize) -> Vec<f32> {
    read(ops, host, buffer, len).iter().map(|x| x.as_f64() as f32).collect()
}
