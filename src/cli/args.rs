//! Groups of options that several commands share.

use std::str::FromStr;

use clap::Args;

use crate::batch::{MaskSeeding, Sampler, Sampling, center_fraction};
use crate::cuda::driver::gpus;
use crate::data::mask::MaskKind;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::precision::Precision;
use crate::progress::is_silent;
use crate::ranks::LOCAL_SIZE;

/// How many coils the network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coils {
    All,
    Virtual(usize),
}

impl FromStr for Coils {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse::<u16>() {
            Ok(count) if count > 0 => Ok(Self::Virtual(count.into())),
            _ if text == "all" => Ok(Self::All),
            _ => Err("expected a number from 1, such as 8, or all".into()),
        }
    }
}

/// How k-space is undersampled.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Which columns are kept: random, equispaced, equispaced_fraction, magic or magic_fraction, as fastMRI names
    /// them [default: as the network was trained, by the config.toml beside it; otherwise equispaced]
    #[arg(long, value_name = "KIND")]
    pub mask: Option<MaskKind>,

    /// One column in N is kept outside the centre; with several, each mask draws one of them [default:
    /// as the network was trained; otherwise 8]
    #[arg(long, value_name = "N[,N…]", value_delimiter = ',')]
    pub acceleration: Vec<u32>,

    /// Share of columns kept in the centre, one for each acceleration [default: with --acceleration 0.32 / N, which is 0.08
    /// at 4 and 0.04 at 8; as the network was trained; otherwise 0.04]
    #[arg(long, value_name = "F[,F…]", value_delimiter = ',')]
    pub center_fraction: Vec<f64>,

    /// Compress the scanner's coils to K virtual ones before the network sees them, by the principal components of each
    /// volume's calibration lines; volumes with K coils or fewer stay as they are [default: as the network was trained;
    /// otherwise all]
    #[arg(long, value_name = "K|all")]
    pub virtual_coils: Option<Coils>,

    /// Where masks come from [default: filename where networks are measured; in training and unlearning random, or as the
    /// network was trained]
    #[arg(long, value_enum, value_name = "SEED")]
    pub mask_seed: Option<MaskSeeding>,
}

impl SamplingArgs {
    /// The sampling that was asked for, and that of `base` where nothing was said of it.
    ///
    /// # Errors
    /// [`Error::Input`] for lists of different length and numbers that no mask can have.
    pub fn over(&self, base: Sampling) -> Result<Sampling> {
        let center_fractions = match (&self.center_fraction[..], &self.acceleration[..]) {
            ([], []) => base.center_fractions,
            ([], accelerations) => accelerations.iter().copied().map(center_fraction).collect(),
            (fractions, _) => fractions.to_vec(),
        };
        let sampling = Sampling {
            mask: self.mask.unwrap_or(base.mask),
            accelerations: match &self.acceleration[..] {
                [] => base.accelerations,
                accelerations => accelerations.to_vec(),
            },
            center_fractions,
            mask_seed: self.mask_seed.unwrap_or(base.mask_seed),
            virtual_coils: match self.virtual_coils {
                None => base.virtual_coils,
                Some(Coils::All) => None,
                Some(Coils::Virtual(count)) => Some(count),
            },
        };
        Sampler::new(&sampling, 0)?;
        Ok(sampling)
    }

    /// Whether any of the options was given.
    pub fn any(&self) -> bool {
        self.mask.is_some()
            || !self.acceleration.is_empty()
            || !self.center_fraction.is_empty()
            || self.mask_seed.is_some()
            || self.virtual_coils.is_some()
    }
}

/// The network; the defaults are the paper's.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Unrolled iterations [default: 12]
    #[arg(long, value_name = "N")]
    pub cascades: Option<usize>,

    /// Channels of the cascades' U-Nets at full size [default: 18]
    #[arg(long, value_name = "N")]
    pub chans: Option<usize>,

    /// Poolings of the cascades' U-Nets [default: 4]
    #[arg(long, value_name = "N")]
    pub pools: Option<usize>,

    /// Channels of the sensitivity network's U-Net at full size [default: 8]
    #[arg(long, value_name = "N")]
    pub sens_chans: Option<usize>,

    /// Poolings of the sensitivity network's U-Net [default: 4]
    #[arg(long, value_name = "N")]
    pub sens_pools: Option<usize>,
}

impl NetworkArgs {
    /// Whether any of the options was given.
    pub fn any(&self) -> bool {
        [self.cascades, self.chans, self.pools, self.sens_chans, self.sens_pools].iter().any(Option::is_some)
    }

    /// The network that was asked for, `default` where it was not.
    ///
    /// # Errors
    /// As [`Architecture::check`].
    pub fn architecture(&self, default: Architecture) -> Result<Architecture> {
        let architecture = Architecture {
            cascades: self.cascades.unwrap_or(default.cascades),
            chans: self.chans.unwrap_or(default.chans),
            pools: self.pools.unwrap_or(default.pools),
            sens_chans: self.sens_chans.unwrap_or(default.sens_chans),
            sens_pools: self.sens_pools.unwrap_or(default.sens_pools),
        };
        architecture.check()?;
        Ok(architecture)
    }
}

/// How many threads the process computes with.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Device")]
pub struct ThreadArgs {
    /// CPU threads [default: one for each core, shared with the other ranks of --ranks or torchrun, or RAYON_NUM_THREADS]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl ThreadArgs {
    /// Starts the threads that all of the process computes with: call it once, before anything is computed.
    ///
    /// # Errors
    /// [`Error::Input`] for more threads than the system gives.
    pub fn start(&self) -> Result<()> {
        let Some(threads) = self.threads.map(usize::from).or_else(share_of_cores) else { return Ok(()) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global()
            .map_err(|error| Error::input(format!("--threads {threads}: cannot start them: {error}")))
    }
}

/// The threads of a rank beside others that torchrun or kerase itself started on this machine: they leave each all cores.
fn share_of_cores() -> Option<usize> {
    if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return None;
    }
    let ranks: usize = std::env::var(LOCAL_SIZE).ok()?.parse().ok().filter(|&ranks| ranks > 1)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Some((cores / ranks).max(1))
}

/// Where the command computes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda:N (cuda is cuda:0) or emulated
    #[arg(long, default_value_t)]
    pub device: DeviceChoice,

    /// What 3×3 and transposed convolutions round their operands to: fp32 (nothing), tf32 (11 bits) or bf16 (8 bits,
    /// which feature maps and their gradients are stored with too, in half the memory); sums and all else stay float32
    /// [default: tf32 on a GPU, otherwise fp32, which is all that the CPU has]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,

    #[command(flatten)]
    pub threads: ThreadArgs,
}

impl DeviceArgs {
    /// Chooses the device and starts the threads: call it once, before anything is computed.
    ///
    /// # Errors
    /// [`Error::Input`] for a device that this build does not support, or that lacks the precision; as
    /// [`ThreadArgs::start`].
    pub fn start(&self) -> Result<Device> {
        let mut device = self.device.resolve()?;
        if let Some(precision) = self.precision {
            device = device.with_precision(precision)?;
        }
        if let (DeviceChoice::Auto, Some(why)) = (self.device, gpus::passed_over())
            && !is_silent()
        {
            eprintln!("computing on the CPU, not on {why}");
        }
        self.threads.start()?;
        Ok(device)
    }

    /// The same for a run that is resumed, which goes on in the precision that it had unless another is asked for.
    ///
    /// # Errors
    /// As [`Self::start`], with the remedy where the device lacks the run's precision.
    pub fn resume(&self, recorded: Precision) -> Result<Device> {
        if self.precision.is_none()
            && let Err(error) = self.device.resolve()?.with_precision(recorded)
        {
            return Err(Error::input(format!(
                "{error}. The run was computed in {recorded}: --precision fp32 goes on with it in float32"
            )));
        }
        let precision = self.precision.or(Some(recorded));
        Self { precision, ..self.clone() }.start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(acceleration: &[u32], center_fraction: &[f64]) -> SamplingArgs {
        SamplingArgs {
            acceleration: acceleration.to_vec(),
            center_fraction: center_fraction.to_vec(),
            ..SamplingArgs::default()
        }
    }

    #[test]
    fn defaults_are_the_papers() {
        let sampling = SamplingArgs::default().over(Sampling::default()).unwrap();
        assert_eq!(sampling, Sampling::default());
        let Sampling { mask, accelerations, center_fractions, mask_seed, virtual_coils } = sampling;
        assert_eq!((mask.name(), mask_seed, virtual_coils), ("equispaced", MaskSeeding::Random, None));
        assert_eq!((&accelerations[..], &center_fractions[..]), (&[8][..], &[0.04][..]));
    }

    #[test]
    fn center_fractions_follow_accelerations() {
        let base = Sampling { mask_seed: MaskSeeding::Filename, ..Sampling::default() };
        let sampling = args(&[4, 8], &[]).over(base).unwrap();
        assert_eq!(sampling.center_fractions, [0.08, 0.04]);
        assert_eq!(sampling.mask_seed, MaskSeeding::Filename);
    }

    #[test]
    fn what_is_not_said_is_as_before() {
        let base = Sampling {
            mask: MaskKind::Random,
            accelerations: vec![6],
            center_fractions: vec![0.1],
            mask_seed: MaskSeeding::Random,
            virtual_coils: Some(4),
        };
        assert_eq!(SamplingArgs::default().over(base.clone()).unwrap(), base);
        let center = args(&[], &[0.2]).over(base.clone()).unwrap();
        assert_eq!(center, Sampling { center_fractions: vec![0.2], ..base.clone() });
        let eight = args(&[8], &[]).over(base.clone()).unwrap();
        assert_eq!(eight, Sampling { accelerations: vec![8], center_fractions: vec![0.04], ..base.clone() });
        let coils = |text: &str| {
            let virtual_coils = Some(text.parse().unwrap());
            SamplingArgs { virtual_coils, ..SamplingArgs::default() }
                .over(base.clone())
                .unwrap()
                .virtual_coils
        };
        assert_eq!((coils("all"), coils("8")), (None, Some(8)));
        for wrong in ["0", "none", "-1", "65536"] {
            assert!(wrong.parse::<Coils>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn impossible_sampling_is_refused() {
        for (acceleration, fraction) in
            [(&[4, 8][..], &[0.1][..]), (&[0], &[]), (&[4], &[1.5]), (&[4], &[f64::NAN])]
        {
            assert!(args(acceleration, fraction).over(Sampling::default()).is_err());
        }
    }
}
