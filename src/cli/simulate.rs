//! `kerase simulate`: synthetic volumes as fastMRI files.

use std::ops::Range;
use std::path::PathBuf;

use super::args::ThreadArgs;
use super::output::{OutputDirectory, print};
use super::stop;
use crate::data::set::VolumeSet;
use crate::data::write::write_volume;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::simulate::{Anatomy, SimulateConfig, file_name, simulate_volume};

const EXAMPLE: &str = "\
Example:
  kerase simulate --anatomy brain --volumes 20 --out brain/train
  kerase simulate --anatomy brain --volumes 5 --first 21 --out brain/test
  kerase simulate --anatomy knee --volumes 4 --fastmri --out knee

A subject follows from seed, anatomy and number: --first makes other subjects of the same kind.";

/// Subject numbers have six digits in the names of knee volumes.
const MOST_SUBJECTS: u64 = 1_000_000;

/// Simulates multi-coil brain or knee volumes, in fastMRI's file format
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Directory that the volumes go to; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// What is simulated
    #[arg(long, value_enum)]
    anatomy: Anatomy,

    /// Number of volumes, each of another subject
    #[arg(long, value_name = "N", default_value_t = 4)]
    volumes: u64,

    /// Number of the first subject
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,

    /// Start from the sizes of fastMRI's data (640 x 320 or 640 x 368, 320 x 320 images) instead of small ones
    #[arg(long)]
    fastmri: bool,

    /// Slices of each volume [default: 16, fastMRI's knee 32]
    #[arg(long, value_name = "N")]
    slices: Option<usize>,

    /// Receiver coils, 1 to 64 [default: 8, fastMRI's brain 16, knee 15]
    #[arg(long, value_name = "N")]
    coils: Option<usize>,

    /// k-space matrix: readout, oversampled twofold, and phase encoding [default: 256 128]
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"])]
    matrix: Option<Vec<usize>>,

    /// Size of the reference image [default: square, half the rows or all of the columns, whichever is less]
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    recon: Option<Vec<usize>>,

    /// Columns that are measured, round the centre; the others are zero padding [default: all, fastMRI's knee 322]
    #[arg(long, value_name = "N")]
    acquired_lines: Option<usize>,

    /// Standard deviation of the noise, relative to bright tissue [default: brain 0.008, knee 0.014]
    #[arg(long, value_name = "SIGMA")]
    noise: Option<f64>,

    /// What all subjects are drawn from
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    threads: ThreadArgs,
}

/// Everything that was asked for, checked.
struct Plan {
    config: SimulateConfig,
    /// Number of each subject and its file.
    subjects: Vec<(u64, PathBuf)>,
    out: OutputDirectory,
}

impl Args {
    /// # Errors
    /// Settings that cannot be simulated and files that exist, before anything is written; later a full disk: then the
    /// volumes before it are whole, and the one it happened in has no file.
    pub fn run(self) -> Result<()> {
        stop::leaving_nothing_half_written();
        self.plan()?.run()
    }

    fn plan(self) -> Result<Plan> {
        let config = self.config();
        config.validate()?;
        let subjects = self.subjects()?;
        self.threads.start()?;
        let out = OutputDirectory::create(&self.out)?;
        let subjects = subjects
            .map(|subject| Ok((subject, out.file(file_name(config.anatomy, subject), self.overwrite)?)));
        Ok(Plan { subjects: subjects.collect::<Result<_>>()?, config, out })
    }

    fn subjects(&self) -> Result<Range<u64>> {
        let end = self.first.saturating_add(self.volumes);
        if self.volumes == 0 || end > MOST_SUBJECTS {
            return Err(Error::input(format!(
                "--first {} --volumes {}: expected at least one volume, and numbers up to {}",
                self.first,
                self.volumes,
                MOST_SUBJECTS - 1
            )));
        }
        Ok(self.first..end)
    }

    fn config(&self) -> SimulateConfig {
        let base = if self.fastmri { SimulateConfig::fastmri } else { SimulateConfig::new };
        let base = base(self.anatomy);
        // clap has made sure that there are two.
        let pair = |values: &Option<Vec<usize>>| values.as_ref().map(|values| [values[0], values[1]]);
        let matrix = pair(&self.matrix);
        let recon = matrix.map_or(base.recon, |[rows, columns]| [(rows / 2).min(columns); 2]);
        SimulateConfig {
            matrix: matrix.unwrap_or(base.matrix),
            recon: pair(&self.recon).unwrap_or(recon),
            slices: self.slices.unwrap_or(base.slices),
            coils: self.coils.unwrap_or(base.coils),
            noise: self.noise.unwrap_or(base.noise),
            // What fastMRI measures of its own matrix says nothing of another.
            acquired_lines: self.acquired_lines.or(base.acquired_lines.filter(|_| matrix.is_none())),
            seed: self.seed,
            ..base
        }
    }
}

impl Plan {
    fn run(self) -> Result<()> {
        let mut progress = Progress::new(self.subjects.len() as u64, "simulating");
        for (subject, path) in &self.subjects {
            write_volume(path, &simulate_volume(&self.config, *subject)?)?;
            progress.step("");
        }
        progress.finish();
        let set = VolumeSet::open(self.out.path())?;
        print(format_args!("{}: {}", self.out.path().display(), set.summary()))
    }
}
