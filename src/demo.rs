//! The whole story on simulated data: learn two organs, learn one (the oracle), forget the other, compare.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::backend::Backend;
use crate::batch::{Sampler, Sampling};
use crate::cpu::Cpu;
use crate::crop::center_crop;
use crate::data::fraction::FractionOf;
use crate::data::mask::MaskKind;
use crate::data::set::VolumeSet;
use crate::data::write::write_volume;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::json;
use crate::metrics::{Images, Scores, evaluate as score};
use crate::model::{Architecture, Weights};
use crate::picture::comparison::{Candidate, comparison};
use crate::picture::panel::Panel;
use crate::precision::Precision;
use crate::progress::Progress;
use crate::reconstruct::reconstruct_set;
use crate::report::evaluation::{Entry, Evaluation};
use crate::run::keep_best::KeepBest;
use crate::run::optimisation::Optimisation;
use crate::run::{Outcome, Session, Start};
use crate::simulate::{Anatomy, SimulateConfig, file_name, simulate_volume};
use crate::train::{TrainConfig, Training};
use crate::unlearn::{Hyperparameters, OptimizerState, Recipe, UnlearnConfig, Unlearning, paper};

/// Small enough for minutes on two cores, large enough to show the effect.
const NETWORK: Architecture = Architecture { cascades: 4, chans: 8, pools: 3, sens_chans: 4, sens_pools: 3 };
const MATRIX: [usize; 2] = [128, 96];
const RECON: [usize; 2] = [96, 96];
const COILS: usize = 4;
const SLICES: usize = 6;
const SEED: u64 = 42;

/// One of the demo's sets: anatomy, folder, subjects. Subjects do not repeat.
const SETS: [(Anatomy, &str, std::ops::Range<u64>); 4] = [
    (Anatomy::Brain, "brain/train", 1..17),
    (Anatomy::Knee, "knee/train", 1..5),
    (Anatomy::Brain, "brain/test", 101..105),
    (Anatomy::Knee, "knee/test", 101..105),
];

/// Half the paper's acceleration, for the small images: a quarter of all columns, the centre among them.
fn sampling() -> Sampling {
    Sampling {
        mask: MaskKind::EquispacedFraction,
        accelerations: vec![4],
        center_fractions: vec![0.08],
        ..Sampling::default()
    }
}

fn optimisation(precision: Precision, epochs: u64) -> Optimisation {
    Optimisation { epochs: Some(epochs), precision, seed: SEED, ..Optimisation::default() }
}

/// Epochs of training, and of unlearning: a fifth, where the paper has a tenth of many more.
const TRAIN_EPOCHS: u64 = 10;
const UNLEARN_EPOCHS: u64 = 2;

/// λ of the demo. The paper's 1e-5, a hundredth of an image's maximum, acts over hundreds of steps on knees; here there
/// are 48, and it needs to be stronger to show.
const NOISE: f64 = 4e-5;

/// Of the brains; the paper's tenth would be ten slices.
const RETAIN_FRACTION: f64 = 0.5;

/// Test volumes that a panel shows.
const PANEL_ROWS: usize = 2;

pub struct Demo<'d> {
    pub out: &'d Path,
    pub stop: &'d AtomicBool,
    /// That of the device, to be recorded.
    pub precision: Precision,
}

/// What the demo leaves to look at.
pub struct Results {
    pub evaluation: Evaluation,
    pub panels: Vec<PathBuf>,
}

impl Demo<'_> {
    /// # Errors
    /// A directory that is not empty, and what the steps return. `None` where it was stopped.
    pub fn run<B: Backend>(&self, ops: &B, say: impl Fn(&str) -> Result<()>) -> Result<Option<Results>> {
        if self.out.exists()
            && std::fs::read_dir(self.out).map_or(true, |mut entries| entries.next().is_some())
        {
            return Err(Error::input(format!(
                "{} exists and is not an empty directory: name another with --out, or remove it",
                self.out.display()
            )));
        }
        say("1 of 5: simulating brains and knees")?;
        for (anatomy, folder, subjects) in SETS {
            self.simulate(anatomy, folder, subjects)?;
        }
        let data = |folder: &str| self.out.join("data").join(folder);
        let both = vec![data("brain/train"), data("knee/train")];
        say("2 of 5: training the original network on both")?;
        if self.train(ops, both, "original")? == Outcome::Stopped {
            return Ok(None);
        }
        say("3 of 5: training the oracle on brains alone")?;
        if self.train(ops, vec![data("brain/train")], "oracle")? == Outcome::Stopped {
            return Ok(None);
        }
        say(&format!(
            "4 of 5: making the original forget knees (nl-ft; λ = {NOISE:e} and half of the brains, the paper has 1e-5 and a \
             tenth)"
        ))?;
        let config = UnlearnConfig {
            method: "nl-ft".into(),
            recipe: Recipe::Code,
            model: self.out.join("original/model.safetensors"),
            retain: vec![data("brain/train")],
            forget: vec![data("knee/train")],
            retain_fraction: RETAIN_FRACTION,
            fraction_of: FractionOf::Slices,
            forget_weight: paper::FORGET_WEIGHT,
            noise: NOISE,
            gamma: 0.0,
            hyperparameters: Hyperparameters::NONE,
            optimizer_state: OptimizerState::Resume,
            tests: Vec::new(),
            measure: true,
            sampling: sampling(),
            optimisation: optimisation(self.precision, UNLEARN_EPOCHS),
        };
        let out = self.out.join("unlearned");
        let unlearning =
            Unlearning { config, by: None, session: Session::alone(&out, Start::New, self.stop) };
        if unlearning.run(ops)?.0 == Outcome::Stopped {
            return Ok(None);
        }
        say("5 of 5: comparing the three")?;
        self.compare(ops).map(Some)
    }

    fn simulate(&self, anatomy: Anatomy, folder: &str, subjects: std::ops::Range<u64>) -> Result<()> {
        let directory = self.out.join("data").join(folder);
        std::fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        let config = SimulateConfig {
            matrix: MATRIX,
            recon: RECON,
            slices: SLICES,
            coils: COILS,
            seed: SEED,
            ..SimulateConfig::new(anatomy)
        };
        let mut progress = Progress::new(subjects.end - subjects.start, folder);
        for subject in subjects {
            let volume = simulate_volume(&config, subject)?;
            write_volume(directory.join(file_name(anatomy, subject)), &volume)?;
            progress.step("");
        }
        progress.finish();
        Ok(())
    }

    fn train<B: Backend>(&self, ops: &B, data: Vec<PathBuf>, name: &str) -> Result<Outcome> {
        let config = TrainConfig {
            data,
            validation: Vec::new(),
            keep_best: KeepBest::None,
            init: None,
            network: NETWORK,
            sampling: sampling(),
            optimisation: optimisation(self.precision, TRAIN_EPOCHS),
        };
        let out = self.out.join(name);
        Training { config, session: Session::alone(&out, Start::New, self.stop) }.run(ops)
    }

    /// Metrics of the three networks on both test sets, and a panel for each.
    fn compare<B: Backend>(&self, ops: &B) -> Result<Results> {
        let sampler = Sampler::fixed(&sampling())?;
        let mut engines = Vec::new();
        for model in ["original", "oracle", "unlearned"] {
            let weights = Weights::read(self.out.join(model).join("model.safetensors"))?;
            engines.push((model, Engine::new(ops, weights.architecture, &weights.parameters)?));
        }
        let (mut entries, mut panels) = (Vec::new(), Vec::new());
        for set in ["brain", "knee"] {
            let volumes = Arc::new(VolumeSet::open(self.out.join("data").join(set).join("test"))?);
            for (model, engine) in &mut engines {
                let results = evaluate(engine, &volumes, &sampler, || ())?;
                entries.extend(results.into_iter().map(|result| Entry::new(set, model, result)));
            }
            panels.push(self.panel(set, &volumes, &mut engines, &sampler)?);
        }
        let evaluation = Evaluation::new(entries);
        json::write(self.out.join("metrics.json"), &evaluation)?;
        Ok(Results { evaluation, panels })
    }

    /// The middle slices of some test volumes: target, zero-filled, and the three networks with their errors.
    fn panel<B: Backend>(
        &self,
        set: &str,
        volumes: &Arc<VolumeSet>,
        engines: &mut [(&str, Engine<'_, B>)],
        sampler: &Sampler,
    ) -> Result<PathBuf> {
        let cpu = Cpu::default();
        let middle = |volume: usize| volumes.slices_of(volume)[volumes.slices_of(volume).len() / 2];
        let mut targets: HashMap<usize, Vec<f32>> = HashMap::new();
        let mut images: HashMap<(usize, &str), Vec<f32>> = HashMap::new();
        for (model, engine) in engines {
            reconstruct_set(engine, volumes, sampler, |slice| {
                if slice.slice == middle(slice.volume) {
                    let size = slice.file.target.expect("a simulated volume has targets");
                    let crop = |image: &[f32]| center_crop(image, slice.file.matrix, size);
                    images.insert((slice.volume, *model), crop(&slice.image));
                    targets
                        .entry(slice.volume)
                        .or_insert_with(|| slice.target.clone().expect("so has a slice"));
                    images
                        .entry((slice.volume, "zero-filled"))
                        .or_insert_with(|| crop(&slice.zero_filled(&cpu)));
                }
                Ok(())
            })?;
        }
        let names = ["zero-filled", "original", "oracle", "unlearned"];
        let mut rows = Vec::new();
        for volume in 0..volumes.volumes().len().min(PANEL_ROWS) {
            let size = volumes.volumes()[volume].target.expect("checked above");
            let (target, max) = (&targets[&volume], volumes.volumes()[volume].max);
            let scores = |image: &[f32]| -> Result<Scores> {
                let shape = [1, size[0], size[1]];
                Ok(score(Images::new(target, shape)?, Images::new(image, shape)?, max)?.volume)
            };
            let mut candidates = Vec::new();
            for name in names {
                let image = &images[&(volume, name)];
                let with_error = name != "zero-filled";
                candidates.push(Candidate { name, image, scores: Some(scores(image)?), with_error });
            }
            rows.push(comparison(target, size, &candidates));
        }
        let title =
            format!("{set}: original (brain and knee), oracle (brain only), unlearned (knee forgotten)");
        let path = self.out.join(format!("{set}.png"));
        Panel { title: Some(title), row_labels: Vec::new(), rows }.write(&path)?;
        Ok(path)
    }
}
