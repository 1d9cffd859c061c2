//! Reading ahead: worker threads read slices while the consumer computes, and hand them over in a fixed order.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::set::VolumeSet;
use super::volume::{Slice, SliceId};
use crate::error::Result;
use num_complex::Complex32;

/// A slice with where it came from.
#[derive(Clone, Debug)]
pub struct LoadedSlice {
    /// Index into [`VolumeSet::volumes`].
    pub volume: usize,
    pub slice: usize,
    pub data: Slice,
}

/// How far and with how many threads a [`Loader`] reads ahead, and what is not read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    pub threads: usize,
    /// The most slices in memory that the consumer has not taken yet, those being read included. A batch that
    /// is larger is still delivered: then the consumer waits for its last slices.
    pub depth: usize,
    /// Bytes of slices that a run's sets keep in memory once they were read, see [`VolumeSet::cached`].
    pub cache: u64,
}

impl Default for LoaderOptions {
    /// Up to four threads, which keep up with an NVMe disk, twice as many slices, and no cache.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        Self { threads, depth: 2 * threads, cache: 0 }
    }
}

/// Iterates over batches of slices in the order given, whatever the number of threads.
///
/// A batch with a slice that cannot be read comes as that slice's error, in its place; the batches after it
/// still come. Dropping the loader stops its threads as soon as each has finished the slice it is reading.
pub struct Loader {
    shared: Arc<Shared>,
    batches: std::vec::IntoIter<Vec<SliceId>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    set: Arc<VolumeSet>,
    order: Vec<SliceId>,
    depth: usize,
    state: Mutex<State>,
    /// A slice has been read.
    arrived: Condvar,
    /// A slice has been taken, so another may be read; or all is over.
    taken: Condvar,
}

#[derive(Default)]
struct State {
    /// Position in `order` of the next slice that a worker will read, and of the next that is handed over.
    next_read: usize,
    next_taken: usize,
    ready: HashMap<usize, std::thread::Result<Result<Slice>>>,
    stopped: bool,
    /// Memory for slices.
    spare: Vec<Vec<Complex32>>,
}

impl Loader {
    /// Starts reading `batches` (see [`epoch_order`](super::order::epoch_order)) of `set`.
    pub fn start(set: Arc<VolumeSet>, batches: Vec<Vec<SliceId>>, options: LoaderOptions) -> Self {
        let shared = Arc::new(Shared {
            set,
            order: batches.iter().flatten().copied().collect(),
            depth: options.depth.max(1),
            state: Mutex::default(),
            arrived: Condvar::new(),
            taken: Condvar::new(),
        });
        let count = options.threads.clamp(1, shared.order.len().max(1));
        let threads = (0..count)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.work())
            })
            .collect();
        Self { shared, batches: batches.into_iter(), threads }
    }
}

impl Loader {
    /// Takes back the memory of k-space that was worked with, for a slice to come: to ask the system for tens of
    /// megabytes takes as long as to read them.
    pub fn recycle(&mut self, kspace: Vec<Complex32>) {
        let mut state = self.shared.lock();
        if state.spare.len() < self.shared.depth {
            state.spare.push(kspace);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Vec<LoadedSlice>>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        // All slices of the batch are taken, even after a failed one, so that the next batch begins at its own.
        let slices: Vec<Result<LoadedSlice>> = batch
            .into_iter()
            .map(|(volume, slice)| self.shared.take().map(|data| LoadedSlice { volume, slice, data }))
            .collect();
        Some(slices.into_iter().collect())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.size_hint()
    }
}

impl ExactSizeIterator for Loader {}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.taken.notify_all();
        for thread in self.threads.drain(..) {
            // Panics while reading went to the consumer, see `take`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(position) = self.claim() {
            let id = self.order[position];
            let spare = self.lock().spare.pop().unwrap_or_default();
            let read = || self.set.read(id, spare);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            self.lock().ready.insert(position, result);
            self.arrived.notify_one();
        }
    }

    /// The next position to read, once there is room for its slice; `None` when there is nothing left to do.
    fn claim(&self) -> Option<usize> {
        let full = |state: &mut State| {
            !state.stopped
                && state.next_read < self.order.len()
                && state.next_read >= state.next_taken + self.depth
        };
        let waited = self.taken.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.stopped || state.next_read == self.order.len() {
            return None;
        }
        state.next_read += 1;
        Some(state.next_read - 1)
    }

    /// The next slice in order, waiting for it.
    fn take(&self) -> Result<Slice> {
        let mut state = self.lock();
        let position = state.next_taken;
        let result = loop {
            match state.ready.remove(&position) {
                Some(result) => break result,
                None => {
                    let waited = self.arrived.wait(state);
                    state = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        };
        state.next_taken += 1;
        drop(state);
        // Everyone: the last slice may end all workers at once.
        self.taken.notify_all();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
