//! Options of commands that go through a set more than once.

use clap::Args;

use crate::data::loader::LoaderOptions;

/// How files are read.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct LoaderArgs {
    /// Host memory for slices that were read, in GiB: as many as fit are not read again. It pays where files are
    /// compressed, a disk is slow, or coils are made virtual; each of several processes has its own
    #[arg(long, value_name = "GIB", default_value_t = 0.0, value_parser = gib)]
    pub cache_gib: f64,
}

impl LoaderArgs {
    pub fn options(&self) -> LoaderOptions {
        LoaderOptions { cache: (self.cache_gib * f64::from(1 << 30)) as u64, ..LoaderOptions::default() }
    }
}

fn gib(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|gib| (0.0..=1e6).contains(gib))
        .ok_or_else(|| "expected a number from 0 to 1000000, in GiB".into())
}
