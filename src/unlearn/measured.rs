//! What the networks before and after unlearning are measured on, and what was measured of them. It is kept in the run's
//! directory: a run that is taken back while it measures goes on with what is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::batch::Sampler;
use crate::data::digest::fingerprint;
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{evaluate_together_until, own_slices, summary};
use crate::json;
use crate::metrics::ScoreSummary;
use crate::progress::Progress;
use crate::ranks::{Ranks, tag};
use crate::run::{RunDirectory, Start};
use crate::sha256;

/// A network's scores on a set; none where its images are not finite, or nothing is measured.
pub(super) type Scores = Option<ScoreSummary>;

/// Scores of one set before and after.
#[derive(Clone, Debug, Serialize)]
pub struct BeforeAfter {
    pub set: String,
    pub volumes: usize,
    pub before: Option<ScoreSummary>,
    pub after: Option<ScoreSummary>,
}

/// One network's scores on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    set: String,
    /// Digests of the set and of the network's parameters.
    data: String,
    weights: String,
    scores: Scores,
}

/// A set to measure on.
struct Subject<'s> {
    name: &'s str,
    set: &'s Arc<VolumeSet>,
    /// Digest of the set.
    data: String,
}

pub(super) struct Measurements<'s> {
    subjects: Vec<Subject<'s>>,
    sampler: Sampler,
    ranks: &'s Ranks,
    stop: &'s AtomicBool,
    /// Whether there is anything to do.
    wanted: bool,
    path: PathBuf,
    /// All that was measured.
    kept: Vec<Measured>,
}

impl<'s> Measurements<'s> {
    /// With what a run that goes on has measured; the same on all ranks. `sampler`: the masks of every measurement.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn new(
        sets: &'s [(String, Arc<VolumeSet>)],
        wanted: bool,
        sampler: Sampler,
        (directory, start): (&RunDirectory, Start),
        ranks: &'s Ranks,
        stop: &'s AtomicBool,
    ) -> Result<Self> {
        let subject =
            |(name, set): &'s (String, Arc<VolumeSet>)| Subject { name, set, data: fingerprint(set) };
        let path = directory.scores();
        let own = match start {
            Start::Resume if ranks.is_first() => std::fs::read(&path).unwrap_or_default(),
            _ => Vec::new(),
        };
        // As rank 0 sees it: where one measures, all do.
        let first = ranks.gather(tag("measured"), &own)?.swap_remove(0);
        // What cannot be read is measured again.
        let kept = serde_json::from_slice(&first).unwrap_or_default();
        Ok(Self { subjects: sets.iter().map(subject).collect(), sampler, ranks, stop, wanted, path, kept })
    }

    /// Scores after a run; where an image is not finite none, with what is wrong. That is what the run led to: for its record, no
    /// error.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_of_result<B: Backend>(
        &mut self,
        engine: &mut Engine<'_, B>,
    ) -> Result<(Option<Vec<Scores>>, Option<String>)> {
        match self.take(engine, "after") {
            Err(Error::NotFinite(message)) => Ok((Some(self.nothing()), Some(message))),
            scores => Ok((scores?, None)),
        }
    }

    /// Scores on each set, in their order; what is known already is not measured again. None where a stop was asked for:
    /// what was measured by then is kept. `when` is for people.
    ///
    /// # Errors
    /// As [`evaluate_together_until`], and where the disk refuses.
    pub fn take<B: Backend>(
        &mut self,
        engine: &mut Engine<'_, B>,
        when: &str,
    ) -> Result<Option<Vec<Scores>>> {
        if !self.wanted {
            return Ok(Some(self.nothing()));
        }
        let weights = sha256::of_parameters(&engine.parameters()?);
        let known: Vec<Option<Scores>> = self.subjects.iter().map(|of| self.known(of, &weights)).collect();
        let missing = self.subjects.iter().zip(&known).filter(|(_, known)| known.is_none());
        let slices: usize = missing.map(|(of, _)| own_slices(self.ranks, of.set)).sum();
        let mut progress = Progress::new(slices as u64, &format!("measuring {when}"));
        let mut scores = Vec::new();
        for (i, known) in known.into_iter().enumerate() {
            if let Some(known) = known {
                scores.push(known);
                continue;
            }
            let set = self.subjects[i].set;
            let step = || progress.step("");
            let results =
                evaluate_together_until(Some(self.stop), self.ranks, engine, set, &self.sampler, step)?;
            let Some(results) = results else { return Ok(None) };
            scores.push(summary(&results));
            self.keep(i, &weights, summary(&results))?;
        }
        progress.finish();
        Ok(Some(scores))
    }

    /// What there is where nothing was measured.
    pub fn nothing(&self) -> Vec<Scores> {
        vec![None; self.subjects.len()]
    }

    fn known(&self, of: &Subject<'_>, weights: &str) -> Option<Scores> {
        let same = |m: &&Measured| (&*m.set, &*m.data, &*m.weights) == (of.name, &*of.data, weights);
        self.kept.iter().find(same).map(|measured| measured.scores)
    }

    /// On disk at once.
    fn keep(&mut self, subject: usize, weights: &str, scores: Scores) -> Result<()> {
        let Subject { name, data, .. } = &self.subjects[subject];
        let (set, data, weights) = (name.to_string(), data.clone(), weights.to_string());
        self.kept.push(Measured { set, data, weights, scores });
        if !self.ranks.is_first() {
            return Ok(());
        }
        json::write(&self.path, &self.kept)
    }
}
