//! Options of commands that compute with a slice that is made up for a network.

use clap::Args;

use super::args::NetworkArgs;
use crate::bench::sample::Sizes;
use crate::error::Result;

/// Network and slice; the defaults are the paper's network on a fastMRI brain slice.
#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Coils of the slice
    #[arg(long, value_name = "N", help_heading = "Slice", default_value_t = Sizes::default().coils)]
    coils: usize,

    /// Rows of k-space
    #[arg(long, value_name = "N", help_heading = "Slice", default_value_t = Sizes::default().height)]
    height: usize,

    /// Columns of k-space, which are undersampled
    #[arg(long, value_name = "N", help_heading = "Slice", default_value_t = Sizes::default().width)]
    width: usize,
}

impl SampleArgs {
    /// What was asked for.
    ///
    /// # Errors
    /// As [`NetworkArgs::architecture`].
    pub fn sizes(&self) -> Result<Sizes> {
        let &Self { coils, height, width, .. } = self;
        let architecture = self.network.architecture(Sizes::default().architecture)?;
        Ok(Sizes { architecture, coils, height, width })
    }
}
