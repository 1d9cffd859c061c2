//! The batch that is brought to the device while it still works on the one before.

use crate::backend::{Backend, CopyPart, ImageShape};
use crate::batch::{Batch, Reference};
use crate::engine::arrays::{ARRAYS, Arrays, lens};
use crate::engine::transfer::singles;
use crate::engine::workload::Workload;
use crate::error::Result;
use crate::real::Real;

pub struct Waiting<B: Backend> {
    arrays: Arrays<B::Buffer>,
    /// What the arrays have room for.
    room: [usize; ARRAYS],
    /// What waits, if anything does.
    batch: Option<(ImageShape, Workload)>,
    /// The device had taken what waited before.
    taken: B::Mark,
    /// Reals of another width than the batch's are made here.
    host: Vec<B::Real>,
}

impl<B: Backend> Waiting<B> {
    pub fn new(ops: &B) -> Self {
        let room = [0; ARRAYS];
        let arrays = Arrays::new(ops, room);
        Self { arrays, room, batch: None, taken: ops.mark(), host: Vec::new() }
    }

    /// Makes room for batches of a shape, beside those it has room for already.
    ///
    /// # Errors
    /// Where the device has not enough memory; nothing waits then.
    pub fn hold(&mut self, ops: &B, beside: usize, shape: ImageShape, task: Workload) -> Result<()> {
        let lens = lens(shape, task);
        if lens.iter().zip(self.room).all(|(&len, room)| len <= room) {
            return Ok(());
        }
        let room: [usize; ARRAYS] = std::array::from_fn(|i| lens[i].max(self.room[i]));
        (self.room, self.batch) = ([0; ARRAYS], None);
        self.arrays = Arrays::new(ops, self.room);
        self.arrays = ops.in_one_block(beside, || Ok(Arrays::new(ops, room)))?;
        (self.room, self.taken) = (room, ops.mark());
        Ok(())
    }

    /// Sends a batch on its way. There must be room for it.
    pub fn put(&mut self, ops: &B, batch: &Batch, reference: Option<&Reference>, task: Workload) {
        let Self { arrays: Arrays([kspace, mask, centre, target, max_value]), taken, host, .. } = self;
        let mut send = |from: &[f32], to: &mut B::Buffer| {
            if !from.is_empty() {
                ops.upload_after(taken, singles(host, from), to);
            }
        };
        send(bytemuck::cast_slice(&batch.kspace), kspace);
        let columns =
            |flags: &[bool]| flags.iter().map(|&flag| f32::from(u8::from(flag))).collect::<Vec<_>>();
        send(&columns(&batch.mask), mask);
        send(&columns(&batch.centre), centre);
        if let Some(reference) = reference {
            send(&reference.images, target);
            host.clear();
            host.extend(reference.max_value.iter().map(|&value| B::Real::real(value)));
            ops.upload_after(taken, host, max_value);
        }
        self.batch = Some((batch.shape, task));
    }

    pub fn batch(&self) -> Option<(ImageShape, Workload)> {
        self.batch
    }

    /// Hands the arrays of what waits over: from then on another batch may be put here.
    pub fn take(&mut self, ops: &B, to: [&mut B::Buffer; ARRAYS]) {
        let (shape, task) = self.batch.take().expect("a batch that waits");
        for ((from, to), len) in self.arrays.0.iter().zip(to).zip(lens(shape, task)) {
            if len > 0 {
                ops.run(CopyPart { from, from_offset: 0, to, to_offset: 0, len });
            }
        }
        self.taken = ops.mark();
    }
}
