//! Where batches of one shape are worked on: their buffers, and the passes that are replayed on them.

use crate::backend::*;
use crate::engine::arrays::{Arrays, lens};
use crate::engine::learning::Learning;
use crate::engine::workload::Workload;
use crate::error::Result;
use crate::model::VarNet;
use crate::model::varnet::{Input, Workspace};

/// Buffers for one shape and task.
pub(crate) struct Buffers<B> {
    pub(super) workspace: Workspace<B>,
    input: Input<B>,
    pub(super) loss: LossShape,
    d_output: B,
    pub(super) target: B,
    /// `[N]`: SSIM's data range.
    max_value: B,
    /// `[2]`: 1 − SSIM and the mean absolute error.
    pub(super) losses: B,
}

/// Where batches of one shape are worked on.
pub(super) struct Room<B: Backend> {
    pub shape: ImageShape,
    pub task: Workload,
    pub buffers: Buffers<B::Buffer>,
    /// What the room repeats, for each set of scalars that it was asked to.
    pub passes: Vec<Pass<B::Tape>>,
}

/// A forward pass, or forward, loss and backward.
pub(super) struct Pass<T> {
    scalars: Scalars,
    pub tape: T,
}

/// What is fixed in a pass.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Scalars {
    pub weights: LossWeights,
    pub scale: f64,
    /// Whose images are the targets, if not those of the batch.
    pub teacher: Option<usize>,
    /// Which part of it, where it is repeated part by part.
    pub part: Option<usize>,
}

impl<B> Buffers<B> {
    pub(crate) fn new<M: Memory<Buffer = B>>(
        ops: &M,
        net: &VarNet,
        shape: ImageShape,
        task: Workload,
    ) -> Result<Self> {
        let (learns, target_size) = match task {
            Workload::Reconstruct => (false, [0, 0]),
            Workload::Learn { target, .. } => (true, target),
        };
        let if_it_learns = |len| if learns { len } else { 0 };
        let workspace = net.workspace(ops, shape, task.mode())?;
        let Arrays([kspace, mask, centre, target, max_value]) = Arrays::new(ops, lens(shape, task));
        Ok(Self {
            workspace,
            input: Input { shape, kspace, mask, centre },
            loss: LossShape::new(shape, target_size),
            d_output: ops.zeros(Purpose::Images, if_it_learns(shape.n * shape.pixels())),
            target,
            max_value,
            losses: ops.zeros(Purpose::Images, if_it_learns(2)),
        })
    }

    /// What a batch is brought into, in the order of [`Arrays`].
    pub(super) fn arrays(&mut self) -> [&mut B; 5] {
        let Self { input: Input { kspace, mask, centre, .. }, target, max_value, .. } = self;
        [kspace, mask, centre, target, max_value]
    }

    /// Takes what the operations of the task use within themselves.
    pub(crate) fn prepare<O: Backend<Buffer = B>>(
        &mut self,
        ops: &O,
        net: &VarNet,
        task: Workload,
        parameters: &mut B,
        learning: Option<&mut Learning<B>>,
    ) -> Result<()> {
        ops.prepare(|| match (task, learning) {
            (Workload::Learn { .. }, Some(learning)) => {
                // The scalars decide nothing about memory.
                let weights = LossWeights { ssim: 1.0, l1: 1.0 };
                self.learn(ops, net, parameters, &mut learning.gradient, (weights, 1.0));
                let (clip, l1) = (Some(1.0), 1.0);
                let adam = AdamStep { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, step: 1, clip, l1 };
                learning.update(ops, adam, parameters);
            }
            _ => self.reconstruct(ops, net, parameters),
        })
    }

    pub(super) fn reconstruct<O: Backend<Buffer = B>>(&mut self, ops: &O, net: &VarNet, parameters: &B) {
        net.forward(ops, parameters, &self.input, &mut self.workspace);
    }

    /// Makes another network's images the targets.
    pub(super) fn teach<O: Backend<Buffer = B>>(&mut self, ops: &O, net: &VarNet, teacher: &B) {
        self.reconstruct(ops, net, teacher);
        ops.run(CropToTarget { shape: self.loss, output: &self.workspace.output, target: &mut self.target });
    }

    /// Forward, loss and backward.
    pub(super) fn learn<O: Backend<Buffer = B>>(
        &mut self,
        ops: &O,
        net: &VarNet,
        parameters: &B,
        d_parameters: &mut B,
        loss: (LossWeights, f64),
    ) {
        for part in 0..net.parts().len() {
            self.learn_part(part, ops, net, parameters, d_parameters, loss);
        }
    }

    /// What of [`Self::learn`] finishes the gradient of one of the network's parts; they come in their order.
    pub(super) fn learn_part<O: Backend<Buffer = B>>(
        &mut self,
        part: usize,
        ops: &O,
        net: &VarNet,
        parameters: &B,
        d_parameters: &mut B,
        (weights, scale): (LossWeights, f64),
    ) {
        let Self { workspace, input, loss, d_output, target, max_value, losses } = self;
        if part == 0 {
            net.forward(ops, parameters, input, workspace);
            ops.run(ImageLoss {
                shape: *loss,
                weights,
                scale,
                output: &workspace.output,
                target,
                max_value,
                losses,
                d_output,
            });
        }
        net.backward_part(part, ops, parameters, input, workspace, d_output, d_parameters);
    }
}

impl<B: Backend> Room<B> {
    pub fn new(ops: &B, net: &VarNet, beside: usize, shape: ImageShape, task: Workload) -> Result<Self> {
        let buffers = ops.in_one_block(beside, || Buffers::new(ops, net, shape, task))?;
        Ok(Self { shape, task, buffers, passes: Vec::new() })
    }

    /// The tape of the pass with these scalars, to be put back where the number says.
    pub fn take_pass(&mut self, scalars: Scalars) -> (B::Tape, usize) {
        let known = self.passes.iter().position(|pass| pass.scalars == scalars);
        let at = known.unwrap_or_else(|| {
            self.passes.push(Pass { scalars, tape: B::Tape::default() });
            self.passes.len() - 1
        });
        (std::mem::take(&mut self.passes[at].tape), at)
    }
}
