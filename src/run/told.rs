//! Who is told of an epoch's steps: the log, TensorBoard, and whoever looks at the progress bar.

use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::engine::Engine;
use crate::error::Result;
use crate::progress::Progress;
use crate::run::board::{Board, Pace};
use crate::run::metrics_log::{Line, MetricsLog};

pub(super) struct Told<'t> {
    log: &'t mut MetricsLog,
    board: &'t mut Board,
    progress: Progress,
    started: Instant,
    slices: usize,
}

impl<'t> Told<'t> {
    /// Of an epoch with so many steps left.
    pub fn of(steps: usize, title: &str, log: &'t mut MetricsLog, board: &'t mut Board) -> Self {
        let progress = Progress::new(steps as u64, title);
        Self { log, board, progress, started: Instant::now(), slices: 0 }
    }

    /// A step over so many slices was taken. `waited`: for data, since the epoch began.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn step<B: Backend>(
        &mut self,
        line: &Line,
        slices: usize,
        waited: Duration,
        engine: &Engine<'_, B>,
    ) -> Result<()> {
        self.slices += slices;
        let elapsed = self.started.elapsed().as_secs_f64();
        let pace = Pace {
            slices_per_second: self.slices as f64 / elapsed,
            waiting: waited.as_secs_f64() / elapsed,
            memory: engine.device_memory(),
        };
        if let Line::Step { loss, grad_norm, .. } = line {
            self.progress.step(&format!("loss {loss:.4}, gradient {grad_norm:.3}, {pace}"));
        }
        self.log.write(line)?;
        self.board.show(line, pace)
    }

    pub fn log(&self) -> &MetricsLog {
        self.log
    }

    pub fn finish(self) {
        self.progress.finish();
    }
}
