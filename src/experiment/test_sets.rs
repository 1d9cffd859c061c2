//! The sets that a study's networks are measured on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::backend::Backend;
use crate::batch::{Sampler, Sampling};
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{VolumeResult, evaluate_together_until};
use crate::experiment::node_files::WorstSlice;
use crate::experiment::results::{Measured, NamedScores};
use crate::experiment::study_sets::SetPaths;
use crate::progress::Progress;
use crate::ranks::ALONE;

/// Those of BTA, KTA and UA, as the paper calls scores on them.
pub(super) struct TestSets {
    bta: Arc<VolumeSet>,
    kta: Arc<VolumeSet>,
    ua: Arc<VolumeSet>,
    sampler: Sampler,
}

impl TestSets {
    pub fn open(sets: &SetPaths, sampling: &Sampling) -> Result<Self> {
        let sampler = Sampler::fixed(sampling)?;
        let open = |path: &PathBuf| sampler.compressed(VolumeSet::open(path)?).map(Arc::new);
        Ok(Self {
            bta: open(&sets.retain_test)?,
            kta: open(&sets.forget_test)?,
            ua: open(&sets.forget)?,
            sampler,
        })
    }

    /// As [`Self::measure`], no scores where images are not finite: what a method does to a network is a result.
    pub fn measure_any<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        stop: &AtomicBool,
    ) -> Result<Option<(Option<Measured>, WorstSlice)>> {
        match self.measure(engine, stop) {
            Err(Error::NotFinite(_)) => Ok(Some((None, None))),
            measured => Ok(measured?.map(|(measured, worst)| (Some(measured), worst))),
        }
    }

    /// Scores on all sets, and the slice of BTA's volumes with the lowest SSIM; none where a stop was asked for meanwhile.
    pub fn measure<B: Backend>(
        &self,
        engine: &mut Engine<'_, B>,
        stop: &AtomicBool,
    ) -> Result<Option<(Measured, WorstSlice)>> {
        let sets = [&self.bta, &self.kta, &self.ua];
        let slices: usize = sets.iter().map(|set| set.slice_count()).sum();
        let mut progress = Progress::new(slices as u64, "measuring");
        let mut measured = Vec::new();
        for set in sets {
            let step = || progress.step("");
            let results = evaluate_together_until(Some(stop), &ALONE, engine, set, &self.sampler, step)?;
            let Some(results) = results else { return Ok(None) };
            measured.push(results);
        }
        progress.finish();
        let worst = worst_slice(&measured[0]);
        let scores = |results: Vec<VolumeResult>| -> Vec<NamedScores> {
            let of = |r: VolumeResult| NamedScores { volume: r.volume, scores: r.scores.volume };
            results.into_iter().map(of).collect()
        };
        let mut measured = measured.into_iter().map(scores);
        let mut next = || measured.next().expect("one for each set");
        Ok(Some((Measured { bta: next(), kta: next(), ua: next() }, worst)))
    }
}

fn worst_slice(results: &[VolumeResult]) -> WorstSlice {
    let slices = results.iter().flat_map(|result| {
        let scores = result.slices.iter().zip(&result.scores.slices);
        scores.map(|(&slice, scores)| (&result.volume, slice, scores.ssim))
    });
    slices.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(volume, slice, _)| (volume.clone(), slice))
}
