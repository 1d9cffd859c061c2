//! `kerase reconstruct`: images from undersampled k-space, as fastMRI's leaderboard files and as figures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::args::{DeviceArgs, SamplingArgs};
use super::labelled::{Labelled, labelled_weights};
use super::output::{Compressed, OutputDirectory, OwnMask, compressed, own_masks, print};
use super::stop;
use super::trained_with::sampling_to_measure_with;
use super::volume_figure::{Row, chosen, figure};
use crate::atomic;
use crate::backend::Backend;
use crate::batch::{Sampler, Sampling};
use crate::cpu::Cpu;
use crate::crop::{center_crop, smaller};
use crate::data::set::{VolumeSet, own_masks_summary};
use crate::data::volume::VolumeFile;
use crate::data::write::write_reconstruction;
use crate::device::{Device, Work};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{Comparison, VolumeResult};
use crate::json;
use crate::model::Weights;
use crate::progress::{Progress, say};
use crate::provenance::Provenance;
use crate::reconstruct::{ReconstructedSlice, ZERO_FILLED, crop_for_leaderboard, reconstruct_set};
use crate::report::evaluation::{Entry, Evaluation};
use crate::table::Style;

const EXAMPLE: &str = "\
Example:
  kerase reconstruct --model run --data knee/test --out images

writes images/NAME.h5 with a dataset 'reconstruction' for every volume, images/panels/NAME.png
with some of its slices, and images/metrics.json. Volumes with a mask of their own, such as those
of fastMRI's test sets, are taken as they are.";

/// Reconstructs volumes: leaderboard files, figures, and measures where there are targets
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Weights to reconstruct with, or the run that left them
    #[arg(long, value_name = "[NAME=]FILE", value_parser = labelled_weights)]
    model: Labelled,

    /// A directory, file or manifest of volumes
    #[arg(long, value_name = "[NAME=]SET")]
    data: Labelled,

    /// Directory that the results go to; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Slices of each volume that are drawn; 0 for no figures
    #[arg(long, value_name = "N", default_value_t = 3)]
    panels: usize,

    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Everything that was asked for, checked and opened.
struct Plan {
    device: Device,
    sampling: Sampling,
    model: Labelled,
    weights: Weights,
    data: Labelled,
    set: Arc<VolumeSet>,
    /// Where the results of each volume go.
    files: Vec<VolumeFiles>,
    metrics: PathBuf,
    panels: usize,
    out: OutputDirectory,
}

struct VolumeFiles {
    images: PathBuf,
    figure: PathBuf,
}

/// The content of metrics.json; [`Evaluation::read`] reads its tables.
#[derive(Serialize)]
struct Metrics<'a> {
    #[serde(flatten)]
    by: Provenance,
    /// Of all volumes but those of `own_masks`.
    sampling: &'a Sampling,
    model: &'a Path,
    data: &'a Path,
    files: Vec<&'a Path>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    own_masks: Vec<OwnMask<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    virtual_coils: Vec<Compressed<'a>>,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

impl Args {
    /// # Errors
    /// Bad input before anything is computed or written; later a slice that cannot be read or reconstructed, or a full
    /// disk: then the volumes before it are whole, and the one it happened in has no files.
    pub fn run(self) -> Result<()> {
        stop::leaving_nothing_half_written();
        let plan = self.plan()?;
        plan.device.run(plan)?
    }

    fn plan(self) -> Result<Plan> {
        if self.model.name == ZERO_FILLED {
            return Err(Error::input(format!(
                "a row without a network is called {ZERO_FILLED}, and --model has that name: give it another, NAME=FILE"
            )));
        }
        let device = self.device.start()?;
        let weights = Weights::read(&self.model.path)?;
        let set = VolumeSet::open(&self.data.path)?;
        check_names(&set)?;
        let sampling = sampling_to_measure_with([self.model.path.as_path()], [&set], &self.sampling)?;
        if let Some(summary) = own_masks_summary([&set]) {
            say(&summary);
        }
        let set = Arc::new(Sampler::new(&sampling, 0)?.compressed(set)?);
        let out = OutputDirectory::create(&self.out)?;
        let files = set.volumes().iter().map(|volume| {
            let images = out.path().join(&volume.name);
            if same_file(&images, &volume.path) {
                return Err(Error::input(format!(
                    "{} would be replaced by its own reconstruction: name another --out",
                    volume.path.display()
                )));
            }
            // Not in place of the extension: volumes may differ in it alone.
            let png = format!("{}.png", volume.name.strip_suffix(".h5").unwrap_or(&volume.name));
            Ok(VolumeFiles {
                images: out.file(&volume.name, self.overwrite)?,
                figure: out.file(Path::new("panels").join(png), self.overwrite)?,
            })
        });
        Ok(Plan {
            device,
            sampling,
            weights,
            model: self.model,
            data: self.data,
            files: files.collect::<Result<_>>()?,
            metrics: out.file("metrics.json", self.overwrite)?,
            set,
            panels: self.panels,
            out,
        })
    }
}

impl Work for Plan {
    type Output = Result<()>;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output {
        let sampler = Sampler::new(&self.sampling, 0)?;
        let mut engine = Engine::new(ops, self.weights.architecture, &self.weights.parameters)?;
        let cpu = Cpu::default();
        let mut progress = Progress::new(self.set.slice_count() as u64, "reconstructing");
        let mut entries = Vec::new();
        let mut volume = VolumeWork::default();
        reconstruct_set(&mut engine, &self.set, &sampler, |slice| {
            let (file, index) = (slice.file, slice.volume);
            let slices = self.set.slices_of(index);
            let drawn = chosen(slices, self.panels).contains(&slice.slice);
            volume.add(slice, &cpu, drawn);
            if volume.count == slices.len() {
                let scores = std::mem::take(&mut volume).write(file, &self.files[index])?;
                entries.extend(scores.map(|scores| self.entries(scores)).into_iter().flatten());
            }
            progress.step("");
            Ok(())
        })?;
        progress.finish();
        // Volume by volume is how they were made; model by model is how they are read.
        entries.sort_by_key(|entry: &Entry| entry.model != ZERO_FILLED);
        self.finish(&Evaluation::new(entries))
    }
}

impl Plan {
    fn entries(&self, [zero_filled, network]: [VolumeResult; 2]) -> [Entry; 2] {
        let entry = |model, result| Entry::new(&self.data.name, model, result);
        [entry(ZERO_FILLED, zero_filled), entry(&self.model.name, network)]
    }

    fn finish(&self, evaluation: &Evaluation) -> Result<()> {
        let metrics = Metrics {
            by: Provenance::of(self.device),
            sampling: &self.sampling,
            model: &self.model.path,
            data: &self.data.path,
            files: self.files.iter().map(|files| files.images.as_path()).collect(),
            own_masks: own_masks(&self.data.name, &self.set).collect(),
            virtual_coils: compressed(&self.data.name, &self.set).collect(),
            evaluation,
        };
        json::write(&self.metrics, &metrics)?;
        if !evaluation.volumes.is_empty() {
            print(evaluation.summary_table(Style::Terminal))?;
        }
        print(format_args!("reconstructed {} volumes into {}", self.files.len(), self.out.path().display()))
    }
}

/// What is gathered of one volume until all of its slices are there.
#[derive(Default)]
struct VolumeWork {
    count: usize,
    /// For the leaderboard file.
    images: Vec<f32>,
    size: [usize; 2],
    rows: Vec<Row>,
    zero_filled: Comparison,
    network: Comparison,
}

impl VolumeWork {
    fn add(&mut self, slice: &ReconstructedSlice<'_>, cpu: &Cpu<f32>, drawn: bool) {
        let matrix = slice.file.matrix;
        let (image, size) = crop_for_leaderboard(&slice.image, slice.file);
        self.count += 1;
        self.images.extend(&image);
        self.size = size;
        let target = slice.target.as_deref().zip(slice.file.target);
        if target.is_none() && !drawn {
            return;
        }
        let zero_filled = slice.zero_filled(cpu);
        if let Some((target, of)) = target {
            self.zero_filled.add(slice.slice, &zero_filled, matrix, target, of);
            self.network.add(slice.slice, &slice.image, matrix, target, of);
        }
        if drawn {
            let size = target.map_or(size, |(_, of)| smaller(matrix, of));
            self.rows.push(Row {
                slice: slice.slice,
                size,
                target: target.map(|(target, of)| center_crop(target, of, size)),
                zero_filled: center_crop(&zero_filled, matrix, size),
                image: center_crop(&slice.image, matrix, size),
                scores: None,
            });
        }
    }

    /// Writes the volume's files. Scores of the zero-filled images and of the network's where there are targets.
    fn write(mut self, file: &VolumeFile, files: &VolumeFiles) -> Result<Option<[VolumeResult; 2]>> {
        let scores = match file.target {
            Some(_) => Some([self.zero_filled.score(file)?, self.network.score(file)?]),
            None => None,
        };
        for row in &mut self.rows {
            let of_slice = |result: &VolumeResult| {
                let at = result.slices.iter().position(|&slice| slice == row.slice)?;
                Some(result.scores.slices[at])
            };
            row.scores = scores
                .as_ref()
                .and_then(|[zero_filled, network]| Some([of_slice(zero_filled)?, of_slice(network)?]));
        }
        write_reconstruction(&files.images, &self.images, [self.count, self.size[0], self.size[1]])?;
        if !self.rows.is_empty() {
            let png = figure(&file.name, &self.rows).draw()?.png()?;
            if let Some(parent) = files.figure.parent() {
                std::fs::create_dir_all(parent).map_err(|source| Error::io("create", parent, source))?;
            }
            atomic::write_bytes(&files.figure, &png)?;
        }
        Ok(scores)
    }
}

/// Two volumes of one name would write to one file.
fn check_names(set: &VolumeSet) -> Result<()> {
    let mut seen = HashMap::new();
    for volume in set.volumes() {
        if let Some(other) = seen.insert(&volume.name, &volume.path) {
            return Err(Error::input(format!(
                "{} and {} have one name, and so would their reconstructions: reconstruct them into two directories",
                other.display(),
                volume.path.display()
            )));
        }
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
