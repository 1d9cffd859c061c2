//! What is asked of the emulated device, and when it is carried out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rayon::prelude::*;

use super::{Kernel, Schedule};
use crate::cuda::driver::Launch;

/// Bytes of all arguments of a kernel, at most.
pub(super) const MOST_BYTES: usize = 4096;

/// Memory of the host, aligned as a GPU's.
pub struct Block {
    pub(super) lines: Vec<Line>,
    pub(super) work: Arc<Work>,
}

#[derive(Clone, Copy)]
#[repr(C, align(256))]
pub(super) struct Line(pub(super) [u8; 256]);

impl Drop for Block {
    fn drop(&mut self) {
        // In a recording nothing is carried out, and whoever replays it keeps alive what it touches.
        if self.work.recording().is_none() {
            self.work.catch_up(u64::MAX);
        }
        self.work.used.fetch_sub(self.lines.len() * size_of::<Line>(), Ordering::Relaxed);
    }
}

/// One thing that a graph does.
pub(super) enum Task {
    Launch { kernel: Kernel, launch: Launch, arguments: Vec<Vec<u8>> },
    Copy { from: u64, to: u64, bytes: usize },
    Zero { at: u64, bytes: usize },
}

/// What was recorded, in order.
pub struct Graph(pub(super) Vec<Task>);

/// What is asked of the device. It outlives the device where there are blocks.
pub(super) struct Work {
    pub(super) schedule: Schedule,
    /// Bytes of all blocks.
    pub(super) used: AtomicUsize,
    recording: Mutex<Option<Vec<Task>>>,
    /// Launches beside others that were not awaited yet.
    pub(super) late: Mutex<VecDeque<(u64, Task)>>,
    pub(super) launched_beside: AtomicU64,
}

/// An argument's value, aligned for any type that a kernel takes.
#[repr(C, align(16))]
struct Value([u8; MOST_BYTES]);

impl Work {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            used: AtomicUsize::default(),
            recording: Mutex::default(),
            late: Mutex::default(),
            launched_beside: AtomicU64::default(),
        }
    }

    pub(super) fn recording(&self) -> MutexGuard<'_, Option<Vec<Task>>> {
        self.recording.lock().expect("nothing panics while it holds this")
    }

    /// Carries a task out, or keeps it for later.
    pub(super) fn now_or_later(&self, task: Task) {
        match &mut *self.recording() {
            Some(tasks) => tasks.push(task),
            None => self.carry_out(&task),
        }
    }

    /// Carries out, or records, what was launched beside others up to this number.
    pub(super) fn catch_up(&self, number: u64) {
        let mut late = self.late.lock().expect("nothing panics while it holds this");
        let due = late.partition_point(|&(launch, _)| launch <= number);
        late.drain(..due).for_each(|(_, task)| self.now_or_later(task));
    }

    pub(super) fn carry_out(&self, task: &Task) {
        match task {
            Task::Launch { kernel, launch, arguments } => self.run(*kernel, *launch, arguments),
            // SAFETY: whoever asked for it promised that both are alive and apart (`Driver::copy`, `Driver::replay`).
            &Task::Copy { from, to, bytes } => unsafe {
                std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes);
            },
            // SAFETY: likewise (`Driver::zero`, `Driver::replay`).
            &Task::Zero { at, bytes } => unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) },
        }
    }

    fn run(&self, kernel: Kernel, launch: Launch, arguments: &[Vec<u8>]) {
        let values: Vec<Value> = arguments
            .iter()
            .map(|bytes| {
                let mut value = Value([0; MOST_BYTES]);
                value.0[..bytes.len()].copy_from_slice(bytes);
                value
            })
            .collect();
        let addresses: Vec<usize> = values.iter().map(|value| std::ptr::from_ref(value) as usize).collect();
        let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
        let run = |first, end| {
            // SAFETY: the arguments are those of the kernel's signature and point to memory that is alive
            // (`Driver::launch`, `Driver::launch_beside`, `Driver::replay`); blocks write apart from each other, as they must on a GPU.
            unsafe { kernel.run(&addresses, launch, self.schedule, [first, end]) };
        };
        // A sanitizer sees no order in what rayon's threads do; to it, one thread runs all.
        let workers = if cfg!(kerase_sanitized) { 1 } else { rayon::current_num_threads() as u64 };
        let part = blocks.div_ceil(4 * workers);
        if workers == 1 || blocks == 1 {
            run(0, blocks);
        } else {
            (0..blocks.div_ceil(part))
                .into_par_iter()
                .for_each(|i| run(i * part, ((i + 1) * part).min(blocks)));
        }
    }
}
