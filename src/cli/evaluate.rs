//! `kerase evaluate`: PSNR, SSIM and NMSE of one or several networks on one or several sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::args::{DeviceArgs, SamplingArgs};
use super::labelled::{Labelled, check_distinct, labelled_weights};
use super::output::{Compressed, OwnMask, check_files, compressed, own_masks, print};
use super::rank_args::RankArgs;
use super::trained_with::sampling_to_measure_with;
use crate::atomic;
use crate::backend::Backend;
use crate::batch::{Sampler, Sampling};
use crate::data::digest::fingerprint;
use crate::data::set::{VolumeSet, own_masks_summary};
use crate::device::{Device, Work};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{VolumeResult, check_targets, evaluate_together, own_slices};
use crate::json;
use crate::metrics::Scores;
use crate::model::{VarNet, Weights};
use crate::progress::{Progress, say};
use crate::provenance::Provenance;
use crate::ranks::Ranks;
use crate::reconstruct::{Reconstructor, ZERO_FILLED, ZeroFilled};
use crate::report::evaluation::{Entry, Evaluation};
use crate::run::usable::measurable;
use crate::sha256;
use crate::table::{Style, csv};

const EXAMPLE: &str = "\
Example:
  kerase evaluate --model run --data brain=brain/test --data knee=knee/test --out metrics.json
  kerase evaluate --model run --data brain/test --acceleration 4      at another acceleration than it was trained at

Several models come as the rows of one table:
  kerase evaluate --model original=a.safetensors --model unlearned=b.safetensors --data knee/test";

/// Measures PSNR, SSIM and NMSE on sets with targets, as fastMRI does
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Weights to evaluate, or the run that left them; may be given several times
    #[arg(long, required_unless_present = "zero_filled", value_name = "[NAME=]FILE", value_parser = labelled_weights)]
    model: Vec<Labelled>,

    /// Score images without a network too, as the first row: those of k-space whose unmeasured columns are zero
    #[arg(long)]
    zero_filled: bool,

    /// A directory, file or manifest of volumes with targets; may be given several times
    #[arg(long, required = true, value_name = "[NAME=]SET")]
    data: Vec<Labelled>,

    /// Where the results go as JSON: means and deviations, volumes, slices, and the settings
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Where one line a volume goes as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Where one line a slice goes as CSV
    #[arg(long, value_name = "FILE")]
    csv_slices: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    ranks: RankArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Everything that was asked for, checked and opened.
struct Plan<'r> {
    /// Each evaluates a part of the volumes; the first writes.
    ranks: &'r Ranks,
    device: Device,
    sampling: Sampling,
    sampler: Sampler,
    models: Vec<(Labelled, Weights)>,
    zero_filled: bool,
    sets: Vec<(Labelled, Arc<VolumeSet>)>,
    out: Option<PathBuf>,
    csv: Option<PathBuf>,
    csv_slices: Option<PathBuf>,
}

/// The content of the metrics file; [`Evaluation::read`] reads its tables.
#[derive(Serialize)]
struct Metrics<'a> {
    #[serde(flatten)]
    by: Provenance,
    /// Of all volumes but those of `own_masks`.
    sampling: &'a Sampling,
    models: Vec<Source<'a>>,
    sets: Vec<Source<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    own_masks: Vec<OwnMask<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    virtual_coils: Vec<Compressed<'a>>,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    slices: &'a [SliceEntry],
}

#[derive(Serialize)]
struct Source<'a> {
    name: &'a str,
    path: &'a Path,
}

/// One slice scored for one model, within its volume's range.
#[derive(Serialize)]
struct SliceEntry {
    set: String,
    model: String,
    volume: String,
    slice: usize,
    #[serde(flatten)]
    scores: Scores,
}

impl Args {
    /// # Errors
    /// Bad input before anything is computed; later a slice that cannot be read or reconstructed, or a full disk.
    pub fn run(self) -> Result<()> {
        let ranks = self.ranks.join(None)?;
        ranks.together(|ranks| {
            let plan = self.plan(ranks)?;
            plan.device.run_with(ranks, plan)?
        })
    }

    fn plan(self, ranks: &Ranks) -> Result<Plan<'_>> {
        check_distinct("--model", self.model.iter().map(Labelled::parts))?;
        if self.zero_filled && self.model.iter().any(|model| model.name == ZERO_FILLED) {
            return Err(Error::input(format!(
                "--zero-filled adds a row called {ZERO_FILLED}, and a --model has that name: give it another"
            )));
        }
        check_distinct("--data", self.data.iter().map(Labelled::parts))?;
        let files = [("--out", &self.out), ("--csv", &self.csv), ("--csv-slices", &self.csv_slices)];
        check_files(files, self.overwrite)?;
        let device = self.ranks.device(&self.device, ranks)?.start()?;
        let models = self.model.into_iter().map(|model| {
            let weights = Weights::read(&model.path)?;
            Ok((model, weights))
        });
        let models: Vec<(Labelled, Weights)> = models.collect::<Result<_>>()?;
        let opened = self.data.into_iter().map(|data| {
            let set = VolumeSet::open(&data.path)?;
            check_targets(&set)?;
            Ok((data, set))
        });
        let opened: Vec<(Labelled, VolumeSet)> = opened.collect::<Result<_>>()?;
        for (_, weights) in &models {
            let net = VarNet::new(weights.architecture)?;
            opened.iter().try_for_each(|(_, set)| measurable(set, &net))?;
        }
        let uncompressed = || opened.iter().map(|(_, set)| set);
        let paths = models.iter().map(|(model, _)| model.path.as_path());
        let sampling = sampling_to_measure_with(paths, uncompressed(), &self.sampling)?;
        let sampler = Sampler::new(&sampling, 0)?;
        if let Some(summary) = own_masks_summary(uncompressed()) {
            say(&summary);
        }
        let sets = opened.into_iter().map(|(data, set)| Ok((data, Arc::new(sampler.compressed(set)?))));
        let sets = sets.collect::<Result<_>>()?;
        Ok(Plan {
            ranks,
            device,
            sampler,
            sampling,
            models,
            zero_filled: self.zero_filled,
            sets,
            out: self.out,
            csv: self.csv,
            csv_slices: self.csv_slices,
        })
    }
}

impl Work for Plan<'_> {
    type Output = Result<()>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        self.agree()?;
        let slices: usize = self.sets.iter().map(|(_, set)| own_slices(self.ranks, set)).sum();
        let rows = self.models.len() + usize::from(self.zero_filled);
        let mut progress = Progress::new((slices * rows) as u64, "evaluating");
        let mut found = Found::default();
        if self.zero_filled {
            self.score(ZERO_FILLED, &mut ZeroFilled::default(), &mut progress, &mut found)?;
        }
        for (model, weights) in &self.models {
            let mut engine = Engine::new(ops, weights.architecture, &weights.parameters)?;
            self.score(&model.name, &mut engine, &mut progress, &mut found)?;
        }
        progress.finish();
        if !self.ranks.is_first() {
            return Ok(());
        }
        self.write(&Evaluation::new(found.volumes), &found.slices)
    }
}

/// Scores by model and set.
#[derive(Default)]
struct Found {
    volumes: Vec<Entry>,
    slices: Vec<SliceEntry>,
}

impl Plan<'_> {
    /// Scores one row of the table on all sets.
    fn score(
        &self,
        name: &str,
        reconstructor: &mut impl Reconstructor,
        progress: &mut Progress,
        found: &mut Found,
    ) -> Result<()> {
        for (data, set) in &self.sets {
            let step = || progress.step("");
            for result in evaluate_together(self.ranks, reconstructor, set, &self.sampler, step)? {
                found.slices.extend(slice_entries(&data.name, name, &result));
                found.volumes.push(Entry::new(&data.name, name, result));
            }
        }
        Ok(())
    }

    /// Makes sure that all ranks measure the same.
    fn agree(&self) -> Result<()> {
        let models = self.models.iter().map(|(_, weights)| sha256::of_parameters(&weights.parameters));
        let sets = self.sets.iter().map(|(_, set)| fingerprint(set));
        self.ranks.agree(&[
            ("settings", json::text(&(&self.sampling, self.zero_filled))?),
            ("weights", models.collect::<String>()),
            ("data", sets.collect::<String>()),
        ])
    }

    fn write(&self, evaluation: &Evaluation, slices: &[SliceEntry]) -> Result<()> {
        if let Some(path) = &self.out {
            let metrics = Metrics {
                by: Provenance::of(self.device),
                sampling: &self.sampling,
                models: self.models.iter().map(|(model, _)| source(model)).collect(),
                sets: self.sets.iter().map(|(data, _)| source(data)).collect(),
                own_masks: self.sets.iter().flat_map(|(data, set)| own_masks(&data.name, set)).collect(),
                virtual_coils: self.sets.iter().flat_map(|(data, set)| compressed(&data.name, set)).collect(),
                evaluation,
                slices,
            };
            json::write(path, &metrics)?;
        }
        if let Some(path) = &self.csv {
            atomic::write_bytes(path, evaluation.volume_csv()?.as_bytes())?;
        }
        if let Some(path) = &self.csv_slices {
            atomic::write_bytes(path, slice_csv(slices)?.as_bytes())?;
        }
        if evaluation.volumes.len() <= 20 {
            print(evaluation.volume_table(Style::Terminal) + "\n")?;
        }
        print(evaluation.summary_table(Style::Terminal))
    }
}

fn source(labelled: &Labelled) -> Source<'_> {
    Source { name: &labelled.name, path: &labelled.path }
}

fn slice_entries(set: &str, model: &str, result: &VolumeResult) -> Vec<SliceEntry> {
    let slices = result.slices.iter().zip(&result.scores.slices);
    slices
        .map(|(&slice, &scores)| SliceEntry {
            set: set.into(),
            model: model.into(),
            volume: result.volume.clone(),
            slice,
            scores,
        })
        .collect()
}

/// One line a slice, with every digit: set, model, volume, slice, psnr, ssim, nmse.
fn slice_csv(slices: &[SliceEntry]) -> Result<String> {
    let header = ["set", "model", "volume", "slice", "psnr", "ssim", "nmse"];
    csv(
        &header,
        slices.iter().map(|e| {
            let Scores { psnr, ssim, nmse } = e.scores;
            let mut record = vec![e.set.clone(), e.model.clone(), e.volume.clone(), e.slice.to_string()];
            record.extend([psnr, ssim, nmse].map(|v| v.to_string()));
            record
        }),
    )
}
