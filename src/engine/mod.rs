//! A network at work on a device: batches from the host go in, images, losses and parameter updates come out.
//!
//! What is asked for is not waited for: a batch is put ([`Engine::put`]), taken up, and while the device works on it
//! the next can be put. [`Engine::results`] and [`Engine::images`] wait; [`Engine::begin_results`] leaves what it asks
//! for to be waited for when the device has more to do already. Whoever has no next batch calls
//! [`Engine::accumulate`], [`Engine::update`] and [`Engine::reconstruct`], which do all of it.
//!
//! Here: an engine, and room for the shapes that it meets. What it is asked to do: submit.rs. What it keeps for every
//! parameter: values.rs.

mod arrays;
mod learning;
mod room;
mod submit;
mod transfer;
mod values;
mod waiting;
mod workload;

use crate::backend::{Backend, ImageShape, Launches, Purpose};
use crate::error::{Error, Result};
use crate::model::{Architecture, VarNet};
pub(crate) use arrays::{Arrays, lens};
pub(crate) use learning::Learning;
pub(crate) use room::Buffers;
use room::Room;
pub use submit::{Coming, LossValue, Objective, Results};
use waiting::Waiting;
pub use workload::Workload;

/// Copies of the parameters that saving a training makes: they and both moments, each read by way of `host`.
const SAVED: usize = 4;

/// See [`Engine::beside`].
pub fn beside(learns: bool, parameters: usize) -> usize {
    if learns { SAVED * size_of::<f32>() * parameters } else { 0 }
}

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
    /// Where the architecture is impossible or the number of parameters is not its own; where there is not enough memory.
    pub fn new(ops: &'a B, architecture: Architecture, parameters: &[f32]) -> Result<Self> {
        Self::with_parameters(Self::empty(ops, architecture, false)?, parameters)
    }

    /// An engine that learns: it keeps a gradient and Adam's moments.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_training(ops: &'a B, architecture: Architecture, parameters: &[f32]) -> Result<Self> {
        Self::with_parameters(Self::empty(ops, architecture, true)?, parameters)
    }

    /// The same with parameters that are made once there is memory for all of this.
    ///
    /// # Errors
    /// As [`Self::new`], and as `parameters`.
    pub fn for_training_with(
        ops: &'a B,
        architecture: Architecture,
        parameters: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<Self> {
        Self::with_parameters(Self::empty(ops, architecture, true)?, &parameters()?)
    }

    fn empty(ops: &'a B, architecture: Architecture, learns: bool) -> Result<Self> {
        let net = VarNet::new(architecture)?;
        let len = net.layout.len();
        let (parameters, learning) = ops.in_one_block(beside(learns, len), || {
            let parameters = ops.zeros(Purpose::Parameters, len);
            Ok((parameters, learns.then(|| Learning::new(ops, len))))
        })?;
        Ok(Self {
            ops,
            net,
            parameters,
            learning,
            teachers: Vec::new(),
            recompute: false,
            rooms: Vec::new(),
            waiting: Waiting::new(ops),
            marks: Vec::new(),
            host: Vec::new(),
        })
    }

    /// Bytes of the host's memory that are needed now and then beside the buffers.
    fn beside(&self) -> usize {
        beside(self.learning.is_some(), self.net.layout.len())
    }

    fn with_parameters(mut self, parameters: &[f32]) -> Result<Self> {
        if parameters.len() != self.net.layout.len() {
            return Err(Error::input(format!(
                "a VarNet of {} has {} parameters, got {}",
                self.net.architecture,
                self.net.layout.len(),
                parameters.len()
            )));
        }
        self.set_parameters(parameters);
        Ok(self)
    }

    /// Whether gradients are computed with little memory, feature maps being made again where the backward pass needs
    /// them. The results are the same bits.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// What [`Self::accumulate`] does with targets of this height and width.
    pub fn learning_task(&self, target: [usize; 2]) -> Workload {
        Workload::Learn { target, recompute: self.recompute }
    }

    pub fn architecture(&self) -> Architecture {
        self.net.architecture
    }

    pub fn net(&self) -> &VarNet {
        &self.net
    }

    /// Bytes in use of the device's memory, if it has its own.
    pub fn device_memory(&self) -> Option<usize> {
        self.ops.memory_in_use()
    }

    /// How the device launched kernels so far, where they are.
    pub fn launches(&self) -> Option<Launches> {
        self.ops.launches()
    }

    /// Whether the device works while the host does something else.
    pub fn works_beside(&self) -> bool {
        self.ops.works_beside()
    }

    /// Takes the memory for batches of a shape, unless it is there: whoever asks before a long task learns in time
    /// whether it fits. A batch that was put before may be lost.
    ///
    /// # Errors
    /// Where the images are too small for the network or too large for the device, or the device has not enough
    /// memory.
    pub fn make_room(&mut self, shape: ImageShape, task: Workload) -> Result<()> {
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

    fn new_room(&mut self, shape: ImageShape, task: Workload) -> Result<Room<B>> {
        let beside = self.beside();
        let Self { ops, net, parameters, learning, .. } = self;
        self.waiting.hold(*ops, beside, shape, task)?;
        let mut room = Room::new(*ops, net, beside, shape, task)?;
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
}
