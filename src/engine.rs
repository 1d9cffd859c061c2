//! A network at work on a device: batches from the host go in, images, losses and parameter updates come out.

use num_traits::Zero;

use crate::backend::{Backend, ImageShape, LabelNoise, LossShape, LossWeights, Update};
use crate::batch::{Batch, Reference};
use crate::error::{Error, Result};
use crate::model::varnet::{Input, Mode, Workspace};
use crate::model::{Architecture, VarNet};
use crate::real::Real;

/// Shapes whose buffers are kept at a time; a set of mixed shapes should find most of its slices' ready.
const ROOMS: usize = 2;

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

/// Buffers for one shape.
struct Room<B> {
    shape: ImageShape,
    mode: Mode,
    workspace: Workspace<B>,
    input: Input<B>,
    d_output: B,
    target: B,
    target_len: usize,
}

/// Adam's moments, and the gradient that an update will take.
struct Learning<B> {
    gradient: B,
    first_moment: B,
    second_moment: B,
}

pub struct Engine<'a, B: Backend> {
    ops: &'a B,
    net: VarNet,
    parameters: B::Buffer,
    learning: Option<Learning<B::Buffer>>,
    /// Most recently used first.
    rooms: Vec<Room<B::Buffer>>,
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
        let buffer = ops.zeros(parameters.len());
        let mut engine =
            Self { ops, net, parameters: buffer, learning: None, rooms: Vec::new(), host: Vec::new() };
        engine.set_parameters(parameters);
        Ok(engine)
    }

    /// An engine that learns: it keeps a gradient and Adam's moments.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_training(ops: &'a B, architecture: Architecture, parameters: &[f32]) -> Result<Self> {
        let mut engine = Self::new(ops, architecture, parameters)?;
        let zeros = || ops.zeros(parameters.len());
        engine.learning = Some(Learning { gradient: zeros(), first_moment: zeros(), second_moment: zeros() });
        Ok(engine)
    }

    pub fn architecture(&self) -> Architecture {
        self.net.architecture
    }

    pub fn net(&self) -> &VarNet {
        &self.net
    }

    pub fn set_parameters(&mut self, parameters: &[f32]) {
        upload(self.ops, &mut self.host, parameters.iter().map(|&x| f64::from(x)), &mut self.parameters);
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
        let single = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        upload(self.ops, &mut self.host, single(first).into_iter(), &mut learning.first_moment);
        upload(self.ops, &mut self.host, single(second).into_iter(), &mut learning.second_moment);
    }

    /// The gradient gathered since the last update.
    pub fn gradient(&mut self) -> Vec<f64> {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        self.host.resize(len.max(self.host.len()), B::Real::zero());
        self.ops.download(&learning.gradient, &mut self.host[..len]);
        self.host[..len].iter().map(|x| x.as_f64()).collect()
    }

    /// Images `[N, rows, columns]` of a batch.
    ///
    /// # Errors
    /// Where the images are too small for the network.
    pub fn reconstruct(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.load(batch, Mode::Inference)?;
        let room = &mut self.rooms[0];
        self.net.forward(self.ops, &self.parameters, &room.input, &mut room.workspace);
        let len = batch.shape.n * batch.shape.pixels();
        Ok(download(self.ops, &mut self.host, &room.workspace.output, len))
    }

    /// Adds the gradient of `objective` over a batch to what the next update takes.
    ///
    /// # Errors
    /// Where the images are too small for the network or for the loss.
    pub fn accumulate(
        &mut self,
        batch: &Batch,
        reference: &Reference,
        weights: LossWeights,
        objective: Objective,
    ) -> Result<LossValue> {
        self.load(batch, Mode::Training)?;
        let room = &mut self.rooms[0];
        let learning = self.learning.as_mut().expect("an engine for training");
        if room.target_len != reference.images.len() {
            room.target = self.ops.zeros(reference.images.len());
            room.target_len = reference.images.len();
        }
        let images = reference.images.iter().map(|&x| f64::from(x));
        upload(self.ops, &mut self.host, images, &mut room.target);
        if let Some(noise) = objective.noise {
            self.ops.label_noise(noise, reference.images.len(), &mut room.target);
        }

        self.net.forward(self.ops, &self.parameters, &room.input, &mut room.workspace);
        let shape = LossShape {
            n: batch.shape.n,
            output: [batch.shape.rows, batch.shape.columns],
            target: reference.size,
        };
        let [ssim_loss, l1] = self.ops.image_loss(
            shape,
            weights,
            objective.weight,
            &room.workspace.output,
            &room.target,
            &reference.max_value,
            &mut room.d_output,
        )?;
        self.net.backward(
            self.ops,
            &self.parameters,
            &room.input,
            &mut room.workspace,
            &room.d_output,
            &mut learning.gradient,
        );
        Ok(LossValue { loss: weights.ssim * ssim_loss + weights.l1 * l1, ssim_loss, l1 })
    }

    /// One optimiser step on the gathered gradient, which is zero afterwards. Returns the gradient's norm before
    /// the clip; where that is not finite, the parameters stay as they were.
    pub fn update(&mut self, update: Update) -> f64 {
        let learning = self.learning.as_mut().expect("an engine for training");
        let norm = self.ops.update(
            update,
            &mut self.parameters,
            &learning.gradient,
            &mut learning.first_moment,
            &mut learning.second_moment,
        );
        self.ops.clear(&mut learning.gradient);
        norm
    }

    /// Brings a batch to the device, into the room for its shape, which becomes `self.rooms[0]`.
    fn load(&mut self, batch: &Batch, mode: Mode) -> Result<()> {
        let shape = batch.shape;
        match self.rooms.iter().position(|room| (room.shape, room.mode) == (shape, mode)) {
            Some(at) => self.rooms[..=at].rotate_right(1),
            None => {
                // Make way first: two rooms of a large shape may not fit beside each other.
                self.rooms.truncate(ROOMS - 1);
                let zeros = |len| self.ops.zeros(len);
                let room = Room {
                    shape,
                    mode,
                    workspace: self.net.workspace(self.ops, shape, mode)?,
                    input: Input {
                        shape,
                        kspace: zeros(shape.multicoil()),
                        mask: zeros(shape.n * shape.columns),
                        centre: zeros(shape.n * shape.columns),
                    },
                    d_output: zeros(if mode == Mode::Training { shape.n * shape.pixels() } else { 0 }),
                    target: zeros(0),
                    target_len: 0,
                };
                self.rooms.insert(0, room);
            }
        }
        let input = &mut self.rooms[0].input;
        let kspace = batch.kspace.iter().flat_map(|z| [f64::from(z.re), f64::from(z.im)]);
        let columns = |flags: &[bool]| flags.iter().map(|&flag| f64::from(flag)).collect::<Vec<_>>();
        upload(self.ops, &mut self.host, kspace, &mut input.kspace);
        upload(self.ops, &mut self.host, columns(&batch.mask).into_iter(), &mut input.mask);
        upload(self.ops, &mut self.host, columns(&batch.centre).into_iter(), &mut input.centre);
        Ok(())
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

fn download<B: Backend>(ops: &B, host: &mut Vec<B::Real>, buffer: &B::Buffer, len: usize) -> Vec<f32> {
    host.resize(len.max(host.len()), B::Real::zero());
    ops.download(buffer, &mut host[..len]);
    host[..len].iter().map(|x| x.as_f64() as f32).collect()
}
