//! A training's validation: after every epoch the scores on a set, a slice to look at, and the best network kept.

use std::sync::Arc;

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::crop::center_crop;
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::Result;
use crate::evaluate::{VolumeResult, evaluate_together, own_slices, summary};
use crate::metrics::ScoreSummary;
use crate::progress::Progress;
use crate::reconstruct::reconstruct_set;
use crate::run::keep_best::KeepBest;
use crate::run::validation::Validation;
use crate::run::{Best, Picture, RunDirectory, RunState, Schedule, Session};

pub(super) struct Validating<'v> {
    pub set: &'v Arc<VolumeSet>,
    /// The masks of every measurement.
    pub sampler: Sampler,
    pub keep_best: KeepBest,
    pub directory: &'v RunDirectory,
    pub session: &'v Session<'v>,
}

impl Validating<'_> {
    /// Measures the network after an epoch, and keeps it where it is the best so far. With the scores that it has.
    ///
    /// # Errors
    /// As [`evaluate_together`], and where the disk refuses.
    pub fn after_epoch<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        schedule: &dyn Schedule,
    ) -> Result<Option<(ScoreSummary, Validation)>> {
        let Some((scores, picture)) = self.measure(engine)? else { return Ok(None) };
        let [psnr, ssim, nmse] = [scores.psnr, scores.ssim, scores.nmse].map(|spread| spread.mean);
        if self.session.ranks.is_first() && !self.keep_best.is_none() {
            let (by, epoch, step) = (self.keep_best, state.epoch, state.step);
            let complete = state.step_in_epoch == schedule.epoch(epoch).len();
            let measured = Best { by, epoch, step, psnr, ssim, nmse };
            self.session.ranks.excused(|| self.directory.keep_best(&measured, complete))?;
        }
        Ok(Some((scores, Validation { volumes: self.set.volumes().len(), psnr, ssim, nmse, picture })))
    }

    /// The scores alone.
    ///
    /// # Errors
    /// As [`evaluate_together`].
    pub fn scores<B: Backend>(&self, engine: &mut Engine<'_, B>) -> Result<Option<ScoreSummary>> {
        Ok(self.measure(engine)?.map(|(scores, _)| scores))
    }

    fn measure<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
    ) -> Result<Option<(ScoreSummary, Option<Picture>)>> {
        let Self { set, sampler, session: Session { ranks, shown, .. }, .. } = self;
        let mut progress = Progress::new(own_slices(ranks, set) as u64, "validating");
        let results = evaluate_together(ranks, engine, set, sampler, || progress.step(""))?;
        progress.finish();
        let picture = match *shown && ranks.is_first() {
            true => picture(engine, set, sampler, &results[0])?,
            false => None,
        };
        Ok(summary(&results).map(|scores| (scores, picture)))
    }
}

/// The middle slice of a volume, as the network reconstructs it.
fn picture<B: Backend>(
    engine: &mut Engine<'_, B>,
    set: &VolumeSet,
    sampler: &Sampler,
    of: &VolumeResult,
) -> Result<Option<Picture>> {
    let middle = of.slices.len() / 2;
    let slice = of.slices[middle];
    let volume = set.volumes().iter().position(|volume| volume.path == of.path).expect("it was measured");
    let one = Arc::new(set.only(&[(volume, slice)]));
    let mut picture = None;
    reconstruct_set(engine, &one, sampler, |shown| {
        if let (Some(target), Some(size)) = (&shown.target, shown.file.target) {
            picture = Some(Picture {
                name: format!("{}, slice {slice}", of.volume),
                shape: of.size,
                target: center_crop(target, size, of.size),
                image: center_crop(&shown.image, shown.file.matrix, of.size),
                scores: of.scores.slices[middle],
            });
        }
        Ok(())
    })?;
    Ok(picture)
}
