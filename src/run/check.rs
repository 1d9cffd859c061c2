//! Whether a run can work with its data: found out before anything is written, not when their turn comes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::backend::Backend;
use crate::batch::image_shape;
use crate::data::set::VolumeSet;
use crate::data::volume::SliceId;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::progress::warn;
use crate::run::directory::Start;
use crate::run::job::Run;
use crate::run::schedule::PlannedStep;
use crate::run::share::{self, Part};
use crate::run::state::RunState;
use crate::run::usable::{learnable, target};

impl Run<'_> {
    /// Refuses data that cannot be learnt from, a resumed run whose data or settings have changed, and batches for which the
    /// device has no memory. Nothing is written before.
    ///
    /// # Errors
    /// As said, naming the first volume.
    pub fn check<B: Backend>(&self, engine: &mut Engine<'_, B>, state: &mut RunState) -> Result<()> {
        learnable(&self.set, engine.net(), self.optimisation.loss.weights())?;
        if state.origin.is_empty() {
            state.origin.clone_from(&self.origin);
        }
        if state.origin != self.origin {
            return Err(Error::input(format!(
                "{}: the data or the weights that this run began with have changed since (volumes, their order, \
                 slices, sizes, max, or what files hold); bring them back, or start again with --overwrite",
                self.directory.path().display()
            )));
        }
        if state.settings.is_null() {
            state.settings.clone_from(&self.settings);
        }
        if let Some(key) = edited(&state.settings, &self.settings) {
            return Err(Error::input(format!(
                "{}: {key} in config.toml is not what the run began with, and its steps would be others from here on: bring it \
                 back, or begin another run with these settings",
                self.directory.path().display()
            )));
        }
        let steps = self.schedule.epoch(state.epoch);
        if state.step_in_epoch > steps.len() {
            return Err(Error::input(format!(
                "{}: {} steps into an epoch of {}: it is damaged; bring back a copy of it, or start again with --overwrite",
                self.directory.state().display(),
                state.step_in_epoch,
                steps.len()
            )));
        }
        let first = self.schedule.preparation();
        if let Some([what, remedy]) = idle_ranks(&self.set, &steps, self.session.ranks.size()) {
            // A run that goes on keeps its batch, on whatever there is to go on with.
            match self.session.start {
                Start::Resume if self.session.ranks.is_first() => {
                    warn(&format!("{what}: the run goes on with ranks that have nothing to do"));
                }
                Start::Resume => {}
                Start::New | Start::Overwrite => return Err(Error::input(format!("{what}: {remedy}"))),
            }
        }
        let parts: Vec<Part> = steps.iter().flat_map(|step| self.parts(step)).collect();
        let batches =
            self.own_terms(&first).map(|term| &term.batch).chain(parts.iter().map(|part| &part.batch));
        self.make_rooms(engine, batches)
    }

    /// Takes the memory for every shape of batch, that of the first last.
    fn make_rooms<'t, B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        batches: impl Iterator<Item = &'t Vec<SliceId>>,
    ) -> Result<()> {
        let mut made = BTreeSet::new();
        for batch in batches.collect::<Vec<_>>().into_iter().rev() {
            let (volume, _) = batch[0];
            if made.insert((self.set.shape(volume), batch.len())) {
                let file = &self.set.volumes()[volume];
                let task = engine.learning_task(target(file)?);
                engine
                    .make_room(image_shape(file, batch.len()), task)
                    .map_err(|error| error.of_file(&file.path))?;
            }
        }
        Ok(())
    }
}

/// The first setting that is another than it was, or gone. One that was not there may be a later version's.
fn edited(then: &Value, now: &Value) -> Option<String> {
    let (Value::Object(then), Value::Object(now)) = (then, now) else {
        return (then != now).then(String::new);
    };
    then.iter().find_map(|(key, then)| {
        let rest = edited(then, now.get(key).unwrap_or(&Value::Null))?;
        Some(if rest.is_empty() { key.clone() } else { format!("{key}.{rest}") })
    })
}

/// What is wrong where there are more ranks than there is work for, and what would be right for a run that begins. The work
/// gets done all the same: some ranks have no part in it.
pub fn idle_ranks(set: &VolumeSet, steps: &[PlannedStep], ranks: usize) -> Option<[String; 2]> {
    if ranks == 1 {
        return None;
    }
    let volumes = set.volumes().len();
    if ranks > volumes {
        let what = format!("{ranks} ranks for {volumes} volumes of {}", set.named());
        return Some([what, "start as many as there are volumes, or fewer".into()]);
    }
    let most = steps.iter().map(share::slices).max().unwrap_or(ranks);
    (ranks > most).then(|| {
        let what = format!("{ranks} ranks, but no step has more than {most} slices to share");
        [what, format!("start {most} ranks, or give a larger --batch")]
    })
}
