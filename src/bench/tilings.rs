//! The convolutions of a pass that have several tilings, and a file with tilings for them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Mode;
use super::sample::Sample;
use crate::cuda::Cuda;
use crate::cuda::conv::{problem::Problem, tilings::Tilings};
use crate::cuda::driver::dry::Dry;
use crate::error::{Error, Result};
use crate::meter::Metered;
use crate::precision::Precision;

/// How often a pass has each problem.
pub(super) fn calls(sample: &Sample, mode: Mode, precision: Precision) -> Result<BTreeMap<Problem, usize>> {
    let dry = Cuda::new(Dry::default()).with_precision(precision);
    let metered = Metered::counting(&dry, precision);
    sample.trial(&metered, mode, false)?.run()?;
    let mut calls = BTreeMap::new();
    for problem in metered.take()?.announced().iter().flat_map(Problem::of) {
        *calls.entry(problem).or_default() += 1;
    }
    Ok(calls)
}

/// A file of tilings that is used.
#[derive(Clone, Debug, Serialize)]
pub struct FromFile {
    #[serde(rename = "tilings")]
    file: PathBuf,
    /// How many it has in this precision, and of convolutions of this pass.
    #[serde(rename = "tilings_in_file")]
    all: usize,
    #[serde(rename = "tilings_of_this_pass")]
    of_this_pass: usize,
}

impl FromFile {
    /// # Errors
    /// A file with nothing for this precision, network and slice.
    pub fn new(
        file: &Path,
        tilings: &Tilings,
        sample: &Sample,
        mode: Mode,
        precision: Precision,
    ) -> Result<Self> {
        let all = tilings.len(precision);
        if all == 0 {
            return Err(Error::input(format!("{} has no tilings of {precision}", file.display())));
        }
        let calls = calls(sample, mode, precision)?;
        let of_this_pass = tilings.of(precision).filter(|problem| calls.contains_key(problem)).count();
        if of_this_pass == 0 {
            return Err(Error::input(format!(
                "{} has {all} tilings of {precision}, none of them of a convolution of this pass: give the network, slice and \
                 mode that --tune had, or leave --tilings out",
                file.display()
            )));
        }
        Ok(Self { file: file.to_path_buf(), all, of_this_pass })
    }
}

impl fmt::Display for FromFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, all, of_this_pass } = self;
        write!(f, "{of_this_pass} of {all} tilings of {} are of this pass's convolutions", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Sizes;
    use crate::cuda::conv::problem::{Kind, Makes};

    #[test]
    fn a_step_has_every_convolution_of_the_network() {
        let sample = Sample::new(Sizes::default()).unwrap();
        let calls = calls(&sample, Mode::Train, Precision::Tf32).unwrap();
        let of = |kind: Kind| -> usize {
            calls.iter().filter(|(problem, _)| problem.kind == kind).map(|(_, calls)| calls).sum()
        };
        // 12 cascades and four groups of coils, with 18 convolutions and 4 transposed ones each. Nobody asks for the
        // gradient of coil images.
        assert_eq!(of(Kind::Conv3x3(Makes::Output)), 288);
        assert_eq!(of(Kind::Conv3x3(Makes::InputGradients)), 284);
        assert_eq!(of(Kind::Filters), 288);
        assert_eq!(of(Kind::Transposed(Makes::Output)), 64);
        assert_eq!(of(Kind::Transposed(Makes::InputGradients)), 64);
    }
}
