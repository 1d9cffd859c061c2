//! The batches of an epoch on their way to the device: each is read, undersampled and brought there while the device
//! works on the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::batch::{Batch, Reference, Sampler};
use crate::data::loader::{LoadedSlice, Loader, LoaderOptions};
use crate::data::set::VolumeSet;
use crate::data::volume::SliceId;
use crate::engine::Engine;
use crate::error::Result;
use crate::run::usable::{max_value, target};

pub struct Feed<'f> {
    set: Arc<VolumeSet>,
    sampler: &'f Sampler,
    epoch: u64,
    loader: Loader,
    /// Whether the next batch is on the device.
    next: Option<Result<()>>,
    /// How long data were not there when they were asked for.
    waited: Duration,
}

impl<'f> Feed<'f> {
    pub fn start(
        set: &Arc<VolumeSet>,
        sampler: &'f Sampler,
        epoch: u64,
        batches: Vec<Vec<SliceId>>,
        options: LoaderOptions,
    ) -> Self {
        let loader = Loader::start(set.clone(), batches, options);
        Self { set: set.clone(), sampler, epoch, loader, next: None, waited: Duration::ZERO }
    }

    /// Brings the next batch to the device, if there is one and it is not there yet.
    ///
    /// What goes wrong is kept for [`Self::arrive`]: the step under way is not to suffer for it.
    pub fn put_next<B: Backend>(&mut self, engine: &mut Engine<'_, B>) {
        if self.next.is_some() {
            return;
        }
        let asked = Instant::now();
        let loaded = self.loader.next();
        self.waited += asked.elapsed();
        self.next = loaded.map(|loaded| loaded.and_then(|slices| self.put(engine, slices)));
    }

    /// How long data were not there when they were asked for.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Sees that the next batch is on the device.
    ///
    /// # Errors
    /// What the data or the device refuse.
    ///
    /// # Panics
    /// Where there are no more.
    pub fn arrive<B: Backend>(&mut self, engine: &mut Engine<'_, B>) -> Result<()> {
        self.put_next(engine);
        self.next.take().expect("a batch for every term")
    }

    fn put<B: Backend>(&mut self, engine: &mut Engine<'_, B>, slices: Vec<LoadedSlice>) -> Result<()> {
        let volume = |slice: &LoadedSlice| &self.set.volumes()[slice.volume];
        let first = volume(&slices[0]);
        let masks: Result<Vec<_>> =
            slices.iter().map(|slice| self.sampler.mask(volume(slice), slice.slice, self.epoch)).collect();
        let max_value = slices.iter().map(|slice| max_value(volume(slice))).collect::<Result<_>>()?;
        let mut images = Vec::new();
        let kspace = slices.into_iter().map(|slice| {
            images.extend(slice.data.target.expect("slices of one shape, which has a target"));
            slice.data.kspace
        });
        let batch = Batch::new(first, kspace.zip(masks?));
        let reference = Reference { size: target(first)?, images, max_value };
        engine.put(&batch, Some(&reference)).map_err(|error| error.of_file(&first.path))?;
        self.loader.recycle(batch.kspace);
        Ok(())
    }
}
