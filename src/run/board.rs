//! What a run shows while it lasts, in TensorBoard: `tensorboard/` in its directory.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::picture::comparison::{Candidate, comparison};
use crate::picture::panel::Panel;
use crate::run::directory::RunDirectory;
use crate::run::metrics_log::Line;
use crate::run::state::RunState;
use crate::run::validation::Picture;
use crate::tensorboard::EventFile;

/// Steps may take milliseconds: of those in between none is shown.
const PAUSE: Duration = Duration::from_secs(1);

/// What a step's line does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Over all ranks, since the epoch began.
    pub slices_per_second: f64,
    /// Share of the time that this rank waited for data.
    pub waiting: f64,
    /// Of a GPU, in bytes.
    pub memory: Option<usize>,
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { slices_per_second, waiting, .. } = self;
        write!(f, "{slices_per_second:.1} slices/s, {:.0} % waiting for data", 100.0 * waiting)
    }
}

/// Where numbers and pictures of a run go, if anywhere.
pub struct Board {
    events: Option<EventFile>,
    last: Option<Instant>,
}

impl Board {
    /// One that shows nothing.
    pub fn none() -> Self {
        Self { events: None, last: None }
    }

    /// For a run that goes on from `state`, in an epoch of so many steps.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn open(directory: &RunDirectory, state: &RunState, steps: usize) -> Result<Self> {
        // An epoch that is complete but not closed is closed again: its end is an event of the state's own step.
        // So is the end of a run within an epoch that now goes on.
        let again = state.step_in_epoch == steps || (state.finished && state.step_in_epoch > 0);
        let first = if again { state.step } else { state.step + 1 };
        let events = EventFile::create(&directory.tensorboard(), first)?;
        Ok(Self { events: Some(events), last: None })
    }

    /// # Errors
    /// Where the disk refuses.
    pub fn show(&mut self, line: &Line, pace: Pace) -> Result<()> {
        let Some(events) = &mut self.events else { return Ok(()) };
        match line {
            Line::Step { step, loss, retain_loss, forget_loss, lr, grad_norm, seconds, .. } => {
                let now = Instant::now();
                if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
                    return Ok(());
                }
                self.last = Some(now);
                let mut values = vec![
                    ("loss/step", *loss),
                    ("optimiser/learning_rate", *lr),
                    ("optimiser/gradient_norm", *grad_norm),
                    ("pace/step_seconds", *seconds),
                    ("pace/slices_per_second", pace.slices_per_second),
                    ("pace/share_waiting_for_data", pace.waiting),
                ];
                values.extend(retain_loss.map(|loss| ("loss/retain", loss)));
                values.extend(forget_loss.map(|loss| ("loss/forget", loss)));
                values.extend(
                    pace.memory.map(|bytes| ("pace/gpu_memory_gib", bytes as f64 / f64::from(1 << 30))),
                );
                events.scalars(*step, &values)?;
            }
            Line::Epoch { step, mean_loss, .. } => events.scalars(*step, &[("loss/epoch", *mean_loss)])?,
            Line::Validation { step, psnr, ssim, nmse, .. } => {
                let values =
                    [("validation/psnr", *psnr), ("validation/ssim", *ssim), ("validation/nmse", *nmse)];
                events.scalars(*step, &values)?;
            }
        }
        events.flush()
    }

    /// The target, what the network makes of it, and the error.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn picture(&mut self, step: u64, picture: &Picture) -> Result<()> {
        let Some(events) = &mut self.events else { return Ok(()) };
        let Picture { name, shape, target, image, scores } = picture;
        let candidate = Candidate { name: "Network", image, scores: Some(*scores), with_error: true };
        let rows = vec![comparison(target, *shape, &[candidate])];
        let canvas = Panel { title: Some(name.clone()), row_labels: Vec::new(), rows }.draw()?;
        events.image(step, "validation/slice", [canvas.width(), canvas.height()], canvas.png()?)?;
        events.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::directory::Start;
    use crate::tensorboard::void_from;

    /// Steps that a checkpoint has are shown by what was written before it, and by nothing else.
    #[test]
    fn a_run_that_goes_on_voids_what_it_shows_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::check(folder.path(), Start::New).unwrap();
        let at =
            |step, step_in_epoch, finished| RunState { step, step_in_epoch, finished, ..RunState::new(1.0) };
        let states = [at(0, 0, false), at(3, 3, false), at(6, 6, false), at(6, 0, false), at(7, 1, true)];
        for state in states {
            Board::open(&directory, &state, 6).unwrap();
        }
        assert_eq!(void_from(&directory.tensorboard()), [1, 4, 6, 7, 7]);
    }
}
