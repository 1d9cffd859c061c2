//! Whether a run can work with its data: found out before anything is written, not when their turn comes.

use std::collections::BTreeSet;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::backend::{Backend, LossWeights, SSIM_WINDOW as WINDOW};
use crate::batch::image_shape;
use crate::crop::smaller;
use crate::data::digest::file_sample;
use crate::data::set::VolumeSet;
use crate::data::volume::SliceId;
use crate::data::volume::VolumeFile;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::VarNet;
use crate::run::schedule::PlannedStep;
use crate::run::share::{self, Part};
use crate::run::{Run, RunState, Start};
use crate::sha256::hex;

impl Run<'_> {
    /// Refuses data that cannot be learnt from, a resumed run whose data have changed, and batches for which the device
    /// has no memory. Nothing is written before.
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
        let steps = self.schedule.epoch(state.epoch);
        let first = self.schedule.preparation();
        if let Some([what, remedy]) = idle_ranks(&self.set, &steps, self.session.ranks.size()) {
            // A run that goes on keeps its batch, on whatever there is to go on with.
            match self.session.start {
                Start::Resume if self.session.ranks.is_first() => {
                    eprintln!("warning: {what}: the run goes on with ranks that have nothing to do");
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

/// Refuses a set that holds volumes without a target, without a data range, or of a size that network or loss have no
/// use for; the first is named.
///
/// # Errors
/// As said.
pub fn learnable(set: &VolumeSet, net: &VarNet, loss: LossWeights) -> Result<()> {
    for volume in set.volumes() {
        target(volume)?;
        max_value(volume)?;
        fits(volume, net)?;
        if loss.ssim != 0.0 {
            window_fits(volume, ", or use --loss l1")?;
        }
    }
    Ok(())
}

/// Refuses a set that networks of this kind cannot be measured on; the first volume is named.
///
/// # Errors
/// As said.
pub fn measurable(set: &VolumeSet, net: &VarNet) -> Result<()> {
    set.volumes().iter().try_for_each(|volume| {
        fits(volume, net)?;
        window_fits(volume, "")
    })
}

fn fits(volume: &VolumeFile, net: &VarNet) -> Result<()> {
    net.check(image_shape(volume, 1)).map_err(|e| named(volume, &e.to_string()))
}

/// SSIM's window. `remedy` is what there is to do but for leaving the volume out.
fn window_fits(volume: &VolumeFile, remedy: &str) -> Result<()> {
    let [height, width] = smaller(volume.matrix, target(volume)?);
    if height.min(width) >= WINDOW {
        return Ok(());
    }
    Err(named(
        volume,
        &format!(
            "k-space and target have {height} x {width} pixels in common, SSIM needs {WINDOW} x {WINDOW}: leave the \
             volume out{remedy}"
        ),
    ))
}

/// What is wrong where there are more ranks than there is work for, and what would be right for a run that begins. The work
/// gets done all the same: some ranks have no part in it.
pub fn idle_ranks(set: &VolumeSet, steps: &[PlannedStep], ranks: usize) -> Option<[String; 2]> {
    if ranks == 1 {
        return None;
    }
    let volumes = set.volumes().len();
    if ranks > volumes {
        let what = format!("{ranks} ranks for {volumes} volumes of {}", set.source().display());
        return Some([what, "start as many as there are volumes, or fewer".into()]);
    }
    let most = steps.iter().map(share::slices).max().unwrap_or(ranks);
    (ranks > most).then(|| {
        let what = format!("{ranks} ranks, but no step has more than {most} slices to share");
        [what, format!("start {most} ranks, or give a larger --batch")]
    })
}

/// Height and width of a volume's target.
///
/// # Errors
/// Where there is none.
pub fn target(volume: &VolumeFile) -> Result<[usize; 2]> {
    volume.target.ok_or_else(|| {
        named(
            volume,
            "there is no reconstruction_rss to learn from; training needs fully sampled volumes, not test files",
        )
    })
}

/// A volume's data range in the loss.
///
/// # Errors
/// Where it is missing or no range.
pub fn max_value(volume: &VolumeFile) -> Result<f64> {
    let needs = "the loss needs the volume's largest value there";
    match volume.max {
        Some(max) if max > 0.0 && max.is_finite() => Ok(max),
        Some(max) => Err(named(volume, &format!("the attribute max is {max}; {needs}"))),
        None => Err(named(
            volume,
            &format!(
                "the attribute max is missing, or no number; {needs}: write it with h5py,  \
                 file.attrs[\"max\"] = file[\"reconstruction_rss\"][()].max()"
            ),
        )),
    }
}

fn named(volume: &VolumeFile, what: &str) -> Error {
    Error::input(format!("{}: {what}", volume.path.display()))
}

/// A digest of what a set's steps follow from: names, slices, sizes and ranges, in order, and samples of the files. A run
/// that is resumed on other data would go on with steps that the interrupted one had not planned.
pub fn fingerprint(set: &VolumeSet) -> String {
    let mut hash = Sha256::new();
    // What cannot be read now is complained about when it has to be.
    let sample = |volume: &VolumeFile| file_sample(&volume.path).unwrap_or_default();
    let samples: Vec<[u8; 32]> = set.volumes().par_iter().map(sample).collect();
    for (index, (volume, sample)) in set.volumes().iter().zip(samples).enumerate() {
        let slices = set.slices_of(index);
        let max = volume.max.map(f64::to_bits);
        hash.update(format!("{}\0{slices:?}\0{}\0{max:?}\n", volume.name, set.shape(index)));
        hash.update(sample);
    }
    hex(hash)
}
