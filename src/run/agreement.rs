//! What the ranks of a run tell each other, so that they begin alike, log the same, stop together, and stay alike.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::backend::Backend;
use crate::data::digest::fingerprint;
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paths::absolute;
use crate::ranks::{Tag, tag};
use crate::run::directory::Lock;
use crate::run::job::Run;
use crate::run::state::RunState;
use crate::sha256;

impl Run<'_> {
    /// Takes the run's directory, for as long as what is returned lives; none on ranks that do not write. All ranks begin with
    /// the same settings, data, sets that are only measured, weights, and steps that were taken before.
    ///
    /// # Errors
    /// Those of [`RunDirectory::take`](crate::run::directory::RunDirectory::take), and where a rank has something else.
    pub fn take<'s, B: Backend>(
        &self,
        settings: &impl Serialize,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        measured: impl IntoIterator<Item = &'s Arc<VolumeSet>>,
    ) -> Result<Option<Lock>> {
        self.agree(settings, engine, state, measured)?;
        self.session.ranks.is_first().then(|| self.directory.take(self.session.start, settings)).transpose()
    }

    /// Makes sure that all ranks begin with the same: settings, data, sets that are only measured, weights, and steps
    /// that were taken before.
    ///
    /// # Errors
    /// [`Error::Input`] on all ranks, naming one and what it has different.
    fn agree<'s, B: Backend>(
        &self,
        settings: &impl Serialize,
        engine: &mut Engine<'_, B>,
        state: &RunState,
        measured: impl IntoIterator<Item = &'s Arc<VolumeSet>>,
    ) -> Result<()> {
        if self.session.ranks.is_alone() {
            return Ok(());
        }
        self.session.ranks.at_step(state.step);
        let text = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap_or_default();
        self.session.ranks.agree(&[
            ("--out", absolute(self.session.out).display().to_string()),
            ("run in --out, which all must share", format!("{:?}", self.session.start)),
            ("settings", text(&|| serde_json::to_string(settings))),
            ("data or first weights", self.origin.clone()),
            ("weights to begin with", sha256::of_parameters(&engine.parameters()?)),
            ("sets to measure", measured.into_iter().map(|set| fingerprint(set)).collect()),
            ("a saved state", text(&|| serde_json::to_string(&RunState { seconds: 0.0, ..state.clone() }))),
        ])
    }

    /// Whether any rank was asked to stop.
    pub(super) fn stopping(&self) -> Result<bool> {
        Ok(self.tell(tag("stop"), &[])?.1)
    }

    /// Adds up what the ranks say, in their order; with it, whether any of them was asked to stop.
    pub(super) fn tell(&self, what: Tag, values: &[f64]) -> Result<(Vec<f64>, bool)> {
        let stop = self.session.stop.load(Ordering::Relaxed);
        if self.session.ranks.is_alone() {
            return Ok((values.to_vec(), stop));
        }
        let mut said = vec![f64::from(u8::from(stop))];
        said.extend_from_slice(values);
        let mut sums = vec![0.0; said.len()];
        for theirs in self.session.ranks.gather(what, bytemuck::cast_slice(&said))? {
            let theirs = theirs.as_chunks::<8>().0.iter().map(|&bytes| f64::from_ne_bytes(bytes));
            sums.iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        }
        let stop = sums.remove(0) > 0.0;
        Ok((sums, stop))
    }

    /// Every rank took the same steps: none may have come to other weights.
    pub(super) fn compare(&self, parameters: &[f32], step: u64) -> Result<()> {
        if self.session.ranks.is_alone() {
            return Ok(());
        }
        let digests =
            self.session.ranks.gather(tag("weights"), sha256::of_parameters(parameters).as_bytes())?;
        match digests.iter().position(|digest| *digest != digests[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::Device(format!(
                "rank {rank} has come to other weights than rank 0 by step {step}: one of their devices computes \
                 wrongly, or they are not of one kind"
            ))),
        }
    }
}
