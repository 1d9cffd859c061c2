//! What was measured of networks before and after unlearning, kept in the run's directory: a run that is taken back while
//! it measures goes on with what is left.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::Result;
use crate::metrics::ScoreSummary;
use crate::ranks::{Ranks, tag};
use crate::run::{RunDirectory, Start};

/// One network's scores on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    set: String,
    /// Digests of the set and of the network's parameters.
    data: String,
    weights: String,
    scores: Option<ScoreSummary>,
}

/// All that was measured.
pub struct Kept<'r> {
    path: PathBuf,
    ranks: &'r Ranks,
    measured: Vec<Measured>,
}

impl<'r> Kept<'r> {
    /// What a run that goes on has measured; the same on all ranks.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn read(directory: &RunDirectory, start: Start, ranks: &'r Ranks) -> Result<Self> {
        let path = directory.scores();
        let own = match start {
            Start::Resume if ranks.is_first() => std::fs::read(&path).unwrap_or_default(),
            _ => Vec::new(),
        };
        // As rank 0 sees it: where one measures, all do.
        let first = ranks.gather(tag("measured"), &own)?.swap_remove(0);
        // What cannot be read is measured again.
        Ok(Self { path, ranks, measured: serde_json::from_slice(&first).unwrap_or_default() })
    }

    /// A network's scores on a set that were measured already; none of a network whose images are not finite. `data` is the
    /// set's [`fingerprint`](crate::run::check::fingerprint), `weights` the digest of the parameters.
    pub fn of(&self, name: &str, data: &str, weights: &str) -> Option<Option<ScoreSummary>> {
        let same = |m: &&Measured| (&*m.set, &*m.data, &*m.weights) == (name, data, weights);
        self.measured.iter().find(same).map(|measured| measured.scores)
    }

    /// Keeps what was measured, on disk at once.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn add(&mut self, name: &str, data: &str, weights: &str, scores: Option<ScoreSummary>) -> Result<()> {
        self.measured.push(Measured {
            set: name.to_string(),
            data: data.to_string(),
            weights: weights.to_string(),
            scores,
        });
        if !self.ranks.is_first() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&self.measured).expect("plain data");
        atomic::write_bytes(&self.path, format!("{text}\n").as_bytes())
    }
}
