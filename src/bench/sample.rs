//! What is measured: a network with a slice that is made up for it, and the passes over both.

use std::fmt;
use std::time::Instant;

use num_complex::Complex32;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Mode;
use crate::backend::{AdamStep, Backend, ImageShape, Launches, LossWeights, SSIM_WINDOW};
use crate::batch::{Batch, Reference};
use crate::engine::{Engine, Objective, Workload};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::{Architecture, VarNet};
use crate::plan::countable;
use crate::simulate::{Anatomy, SimulateConfig, simulate_volume};

/// A network, and the slice that it is shown: rows and columns of k-space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    #[serde(flatten)]
    pub architecture: Architecture,
    pub coils: usize,
    pub height: usize,
    pub width: usize,
}

/// The paper's network on a fastMRI brain slice.
impl Default for Sizes {
    fn default() -> Self {
        Self { architecture: Architecture::default(), coils: 16, height: 640, width: 368 }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { architecture, coils, height, width } = self;
        write!(f, "{architecture}; {coils} coils, {height} x {width}")
    }
}

/// Finds out before anything is allocated whether the network takes such slices, and whether this machine has memory for
/// what the host holds of both, whatever device computes.
///
/// # Errors
/// Images that are too small for the network's depth; too little memory.
pub fn check(architecture: Architecture, shape: ImageShape) -> Result<()> {
    let net = VarNet::new(architecture)?;
    net.check(shape)?;
    // Each once to keep, and once on its way to the device.
    let bytes = 2 * size_of::<f32>() * (net.layout.len() + shape.multicoil());
    memory::check_host(
        bytes,
        &format!("the parameters of a VarNet of {architecture} and a slice"),
        "a smaller network or slice needs less; 'kerase info --plan' counts what a device needs, whatever the size",
    )
}

/// A network, and a slice that is made up for it, with its mask and target.
pub struct Sample {
    pub architecture: Architecture,
    pub batch: Batch,
    pub reference: Reference,
}

impl Sample {
    /// Noise, a mask of every 8th column and the centre, and a target: values do not change the time, but denormals and
    /// NaN would. The same slice as in scripts/bench_pytorch.py.
    ///
    /// # Errors
    /// Sizes that no slice or network has, and as [`check`].
    pub fn new(sizes: Sizes) -> Result<Self> {
        let Sizes { architecture, coils, height, width } = sizes;
        let shape = ImageShape { n: 1, coils, rows: height, columns: width };
        if !countable(shape) || height.min(width) < SSIM_WINDOW {
            return Err(Error::input(format!(
                "--coils {coils} --height {height} --width {width}: expected 1 to 256 coils and {SSIM_WINDOW} to 16384 rows \
                 and columns"
            )));
        }
        check(architecture, shape)?;
        let side = height.min(width).min(320);
        Ok(Self::of(architecture, shape, [side, side]))
    }

    /// As [`Self::new`], with a simulated brain: of noise, gradients cancel, so that little rounding turns them far.
    ///
    /// # Errors
    /// As [`Self::new`], and for images that are too small to simulate.
    pub fn brain(sizes: Sizes) -> Result<Self> {
        let noise = Self::new(sizes)?;
        let Sizes { coils, height, width, .. } = sizes;
        let (matrix, recon) = ([height, width], noise.reference.size);
        let config =
            SimulateConfig { matrix, recon, slices: 1, coils, ..SimulateConfig::new(Anatomy::Brain) };
        let volume = simulate_volume(&config, 1)?;
        let max = volume.reconstruction_rss.iter().copied().fold(0.0, f32::max);
        let reference = Reference {
            images: volume.reconstruction_rss,
            max_value: vec![f64::from(max)],
            ..noise.reference
        };
        Ok(Self { batch: Batch { kspace: volume.kspace, ..noise.batch }, reference, ..noise })
    }

    /// As [`Self::new`], for a batch of any shape.
    pub fn of(architecture: Architecture, shape: ImageShape, target: [usize; 2]) -> Self {
        let ImageShape { n, columns, .. } = shape;
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut noise = || 1e-4 * random.random_range(-1.0f32..1.0);
        let low = (0.04 * columns as f64).round().max(1.0) as usize;
        let start = (columns - low).div_ceil(2);
        let centre: Vec<bool> = (0..columns).map(|x| (start..start + low).contains(&x)).collect();
        let mask: Vec<bool> = centre.iter().enumerate().map(|(x, &low)| low || x % 8 == 0).collect();
        let kspace = (0..shape.multicoil() / 2).map(|_| Complex32::new(noise(), noise())).collect();
        let images: Vec<f32> = (0..n * target[0] * target[1]).map(|_| noise().abs()).collect();
        let max = images.iter().copied().fold(0.0, f32::max);
        Self {
            architecture,
            batch: Batch { shape, kspace, mask: mask.repeat(n), centre: centre.repeat(n) },
            reference: Reference { size: target, images, max_value: vec![f64::from(max); n] },
        }
    }

    pub fn sizes(&self) -> Sizes {
        let ImageShape { coils, rows, columns, .. } = self.batch.shape;
        Sizes { architecture: self.architecture, coils, height: rows, width: columns }
    }

    /// What reconstructs the slice.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn reconstructor<'a, B: Backend>(&'a self, ops: &'a B) -> Result<Trial<'a, B>> {
        let parameters = self.architecture.initial_parameters(0);
        let mut engine = Engine::new(ops, self.architecture, &parameters)?;
        engine.put(&self.batch, None)?;
        Ok(Trial { sample: self, engine, task: Workload::Reconstruct, handed_over: 0.0 })
    }

    /// What takes training steps with the slice.
    ///
    /// # Errors
    /// As [`Self::reconstructor`].
    pub fn trainer<'a, B: Backend>(&'a self, ops: &'a B, low_memory: bool) -> Result<Trial<'a, B>> {
        let parameters = self.architecture.initial_parameters(0);
        let mut engine = Engine::for_training(ops, self.architecture, &parameters)?.recomputing(low_memory);
        engine.put(&self.batch, Some(&self.reference))?;
        let task = engine.learning_task(self.reference.size);
        Ok(Trial { sample: self, engine, task, handed_over: 0.0 })
    }

    /// One of the two.
    ///
    /// # Errors
    /// As [`Self::reconstructor`].
    pub fn trial<'a, B: Backend>(&'a self, ops: &'a B, mode: Mode, low_memory: bool) -> Result<Trial<'a, B>> {
        match mode {
            Mode::Inference => self.reconstructor(ops),
            Mode::Train | Mode::Both => self.trainer(ops, low_memory),
        }
    }
}

/// A network at work on a sample, over and over; the slice has been put.
pub struct Trial<'a, B: Backend> {
    sample: &'a Sample,
    engine: Engine<'a, B>,
    task: Workload,
    /// Seconds that the host was busy with it in the last pass.
    handed_over: f64,
}

impl<B: Backend> Trial<'_, B> {
    /// A whole pass as it is among others, where the next slice is brought to the device meanwhile.
    ///
    /// # Errors
    /// Where the device fails, or a gradient is not finite.
    pub fn run(&mut self) -> Result<()> {
        match self.task {
            Workload::Reconstruct => self.reconstruct(),
            Workload::Learn { .. } => self.train(),
        }
    }

    fn reconstruct(&mut self) -> Result<()> {
        self.engine.submit_reconstruction()?;
        self.hand_over(None)?;
        self.engine.images().map(drop)
    }

    /// Brings the next slice to the device, while it is at work.
    fn hand_over(&mut self, reference: Option<&Reference>) -> Result<()> {
        let start = Instant::now();
        self.engine.put(&self.sample.batch, reference)?;
        self.handed_over = start.elapsed().as_secs_f64();
        Ok(())
    }

    fn train(&mut self) -> Result<()> {
        self.engine.submit(LossWeights { ssim: 1.0, l1: 1e-5 }, Objective::DESCENT)?;
        self.engine.submit_update(AdamStep::new(1e-3, 1, Some(0.5)));
        self.hand_over(Some(&self.sample.reference))?;
        if self.engine.results()?.grad_norm.is_finite() {
            Ok(())
        } else {
            Err(Error::NotFinite("the gradient of the benchmark's step is not finite".into()))
        }
    }

    pub fn task(&self) -> Workload {
        self.task
    }

    /// Seconds that the host took to hand over the next slice in the last pass: a device that needs less waits for it.
    pub fn handed_over(&self) -> f64 {
        self.handed_over
    }

    pub fn launches(&self) -> Option<Launches> {
        self.engine.launches()
    }

    /// Bytes in use of the device's memory, if it has its own.
    pub fn device_memory(&self) -> Option<usize> {
        self.engine.device_memory()
    }
}
