//! The noise on the targets of a term: a function of the seed, the epoch and the slice.

use sha2::{Digest, Sha256};

use crate::backend::NoiseSource;
use crate::data::volume::SliceId;
use crate::run::job::Run;
use crate::run::schedule::{TargetNoise, Term};
use crate::run::state::RunState;

impl Run<'_> {
    /// The noise on the targets of a term's slices.
    pub(super) fn noise(&self, state: &RunState, term: &Term, slices: &[SliceId]) -> Vec<NoiseSource> {
        let Some(TargetNoise { lambda, absolute }) = term.noise else { return Vec::new() };
        let of = |&(volume, slice): &SliceId| NoiseSource {
            lambda,
            absolute,
            key: self.optimisation.seed,
            stream: noise_stream(state.epoch, &self.set.volumes()[volume].name, slice),
        };
        slices.iter().map(of).collect()
    }
}

/// The noise generator's stream for a slice in an epoch: no two epochs share noise, nor slices of volumes that are
/// called otherwise, and neither the order of steps nor the number of ranks changes it.
fn noise_stream(epoch: u64, volume: &str, slice: usize) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"kerase label noise");
    hash.update(epoch.to_le_bytes());
    hash.update((slice as u64).to_le_bytes());
    hash.update(volume.as_bytes());
    u64::from_le_bytes(hash.finalize()[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_epochs_slices_or_volumes_share_noise() {
        let streams = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 256)];
        let streams: std::collections::BTreeSet<u64> =
            streams.into_iter().map(|(epoch, volume, slice)| noise_stream(epoch, volume, slice)).collect();
        assert_eq!(streams.len(), 5);
        assert_eq!(noise_stream(1, "a", 2), noise_stream(1, "a", 2));
    }
}
