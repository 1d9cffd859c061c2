//! What is measured: a network and one slice of noise for it.

use num_complex::Complex32;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backend::{AdamStep, Backend, ImageShape, LossWeights, SSIM_WINDOW};
use crate::batch::{Batch, Reference};
use crate::cli::plan::countable;
use crate::engine::{Engine, Objective};
use crate::error::{Error, Result};
use crate::memory;
use crate::model::{Architecture, VarNet};
use crate::simulate::{Anatomy, SimulateConfig, simulate_volume};

/// Network and slice; the defaults are the paper's network on a fastMRI brain slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Network and slice")]
pub struct Network {
    #[arg(long, default_value_t = Self::PAPER.cascades)]
    cascades: usize,
    #[arg(long, default_value_t = Self::PAPER.chans)]
    chans: usize,
    #[arg(long, default_value_t = Self::PAPER.pools)]
    pools: usize,
    #[arg(long, default_value_t = Self::PAPER.sens_chans)]
    sens_chans: usize,
    #[arg(long, default_value_t = Self::PAPER.sens_pools)]
    sens_pools: usize,
    #[arg(long, default_value_t = Self::PAPER.coils)]
    coils: usize,
    /// Rows of k-space
    #[arg(long, default_value_t = Self::PAPER.height)]
    height: usize,
    /// Columns of k-space, which are undersampled
    #[arg(long, default_value_t = Self::PAPER.width)]
    width: usize,
}

impl Network {
    pub const PAPER: Self = Self {
        cascades: 12,
        chans: 18,
        pools: 4,
        sens_chans: 8,
        sens_pools: 4,
        coils: 16,
        height: 640,
        width: 368,
    };

    /// # Errors
    /// As [`Architecture::check`].
    pub fn architecture(self) -> Result<Architecture> {
        let Self { cascades, chans, pools, sens_chans, sens_pools, .. } = self;
        let architecture = Architecture { cascades, chans, pools, sens_chans, sens_pools };
        architecture.check()?;
        Ok(architecture)
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
    match memory::of_machine() {
        Some(machine) if bytes > machine => Err(Error::NoMemory(format!(
            "the parameters of a VarNet of {architecture} and a slice take {} of the host's memory, this machine has {}: a \
             smaller network or slice needs less; 'kerase info --plan' counts what a device needs, whatever the size",
            memory::size(bytes),
            memory::size(machine)
        ))),
        _ => Ok(()),
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cascades, chans, pools, sens_chans, sens_pools, coils, height, width } = *self;
        let architecture = Architecture { cascades, chans, pools, sens_chans, sens_pools };
        write!(f, "{architecture}; {coils} coils, {height} x {width}")
    }
}

/// A network and one slice for it.
pub struct Problem {
    pub architecture: Architecture,
    pub batch: Batch,
    pub reference: Reference,
}

impl Problem {
    /// Noise, a mask of every 8th column and the centre, and a target: values do not change the time, but denormals and
    /// NaN would. The same slice as in scripts/bench_pytorch.py.
    ///
    /// # Errors
    /// Sizes that no slice or network has, and as [`check`].
    pub fn new(network: Network) -> Result<Self> {
        let architecture = network.architecture()?;
        let Network { coils, height, width, .. } = network;
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
    pub fn brain(network: Network) -> Result<Self> {
        let problem = Self::new(network)?;
        let ImageShape { coils, rows, columns, .. } = problem.batch.shape;
        let (matrix, recon) = ([rows, columns], problem.target());
        let config =
            SimulateConfig { matrix, recon, slices: 1, coils, ..SimulateConfig::new(Anatomy::Brain) };
        let volume = simulate_volume(&config, 1)?;
        let max = volume.reconstruction_rss.iter().copied().fold(0.0, f32::max);
        let reference = Reference {
            images: volume.reconstruction_rss,
            max_value: vec![f64::from(max)],
            ..problem.reference
        };
        Ok(Self { batch: Batch { kspace: volume.kspace, ..problem.batch }, reference, ..problem })
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

    /// Height and width of the target.
    pub fn target(&self) -> [usize; 2] {
        self.reference.size
    }

    /// An inference as in reconstructing a set, likewise.
    pub fn reconstruct<B: Backend>(&self, engine: &mut Engine<'_, B>) -> Result<()> {
        engine.submit_reconstruction()?;
        engine.put(&self.batch, None)?;
        engine.images().map(drop)
    }

    /// A whole step as in training, where the next batch is brought to the device meanwhile: the first must have been
    /// put.
    pub fn train<B: Backend>(&self, engine: &mut Engine<'_, B>) -> Result<()> {
        engine.submit(LossWeights { ssim: 1.0, l1: 1e-5 }, Objective::DESCENT)?;
        let update =
            AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1, clip: Some(0.5), l1: 0.0 };
        engine.submit_update(update);
        engine.put(&self.batch, Some(&self.reference))?;
        if engine.results()?.grad_norm.is_finite() {
            Ok(())
        } else {
            Err(Error::NotFinite("the gradient of the benchmark's step is not finite".into()))
        }
    }
}
