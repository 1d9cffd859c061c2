//! Where to compute: the names that `--device` takes, and what this build can do of them.

use std::str::FromStr;

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::Cuda;
use crate::cuda::conv::tilings::Tilings;
use crate::cuda::driver::emulated::Emulated;
use crate::cuda::driver::{Driver, gpus};
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::provenance::{self, Provenance};
use crate::ranks::{ALONE, Ranks};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The best that this build has on this machine.
    #[default]
    Auto,
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The GPU's kernels, run on the CPU.
    Emulated,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "emulated" => Ok(Self::Emulated),
            "cuda" => Ok(Self::Cuda(0)),
            _ => name.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(|| {
                Error::input(format!("unknown device '{name}': expected auto, cpu, cuda:N or emulated"))
            }),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(number) => f.pad(&format!("cuda:{number}")),
            Self::Emulated => f.pad("emulated"),
        }
    }
}

/// A device that this build can compute on, as far as that is known before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(usize, Precision),
    Emulated(Precision),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(number, _) => f.pad(&format!("cuda:{number}")),
            Self::Emulated(_) => f.pad("emulated"),
        }
    }
}

/// What is to be done on a device, whichever it is: a closure cannot be generic over the backend.
pub trait Work {
    type Output: Send;

    fn run<B: Backend<Real = f32>>(self, ops: &B) -> Self::Output;
}

/// What is to be done with the kernels themselves, of a GPU or the emulated device.
pub(crate) trait CudaWork {
    type Output: Send;

    fn run<D: Driver>(self, cuda: &Cuda<D>) -> Self::Output;
}

/// [`Work`] on kernels.
struct Operations<W>(W);

impl<W: Work> CudaWork for Operations<W> {
    type Output = W::Output;

    fn run<D: Driver>(self, cuda: &Cuda<D>) -> W::Output {
        self.0.run(cuda)
    }
}

impl Device {
    /// What convolutions round the operands of their products to, and what feature maps are stored as.
    pub fn precision(self) -> Precision {
        match self {
            Self::Cpu => Precision::Fp32,
            Self::Cuda(_, precision) | Self::Emulated(precision) => precision,
        }
    }

    /// The device, with its precision where that is not float32: what results are recorded with.
    pub fn described(self) -> String {
        match self.precision() {
            Precision::Fp32 => self.to_string(),
            precision => format!("{self}, {precision}"),
        }
    }

    /// What a measurement was made on: which GPU, or with how many threads.
    pub fn in_words(self) -> String {
        let gpu = match self {
            Self::Cuda(number, _) => gpus::find(number).ok(),
            _ => None,
        };
        gpu.map_or_else(|| format!("{self}, {} threads", rayon::current_num_threads()), |gpu| gpu.to_string())
    }

    /// The same device with another precision.
    ///
    /// # Errors
    /// [`Error::Input`] for a precision that it does not have.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        match self {
            Self::Cpu if precision != Precision::Fp32 => Err(Error::input(format!(
                "--precision {precision}: the CPU computes in fp32 only; {precision} needs --device cuda:N, or \
                 emulated to try it out"
            ))),
            Self::Cpu => Ok(self),
            Self::Cuda(number, _) => Ok(Self::Cuda(number, precision)),
            Self::Emulated(_) => Ok(Self::Emulated(precision)),
        }
    }

    /// Does `work` with the device's operations.
    ///
    /// # Errors
    /// Where the device cannot be opened; what comes of the work is in its output.
    pub fn run<W: Work + Send>(self, work: W) -> Result<W::Output> {
        self.run_with(&ALONE, work)
    }

    /// As [`Self::run`], on the devices of several ranks.
    ///
    /// # Errors
    /// Also where they cannot be connected.
    pub fn run_with<W: Work + Send>(self, ranks: &Ranks, work: W) -> Result<W::Output> {
        self.run_on(ranks, Tilings::built_in(), work)
    }

    /// As [`Self::run`], with other tilings than kerase is built with; the CPU has none.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_tiled<W: Work + Send>(self, tilings: Tilings, work: W) -> Result<W::Output> {
        self.run_on(&ALONE, tilings, work)
    }

    fn run_on<W: Work + Send>(self, ranks: &Ranks, tilings: Tilings, work: W) -> Result<W::Output> {
        if self != Self::Cpu {
            return self.run_cuda(ranks, tilings, Operations(work));
        }
        self.agree(ranks)?;
        let cpu = Cpu::from_environment()?;
        Ok(in_the_pool(|| work.run(&cpu)))
    }

    /// As [`Self::run_with`] and [`Self::run_tiled`], for work with kernels.
    ///
    /// # Errors
    /// As [`Self::run_with`]; [`Error::Input`] of the CPU, which has no kernels.
    pub(crate) fn run_cuda<W: CudaWork + Send>(
        self,
        ranks: &Ranks,
        tilings: Tilings,
        work: W,
    ) -> Result<W::Output> {
        self.agree(ranks)?;
        match self {
            Self::Cpu => Err(Error::input("the CPU has no kernels: expected cuda:N or emulated")),
            Self::Cuda(number, precision) => {
                let gpu = prepared(Cuda::open(number)?, precision, tilings, ranks)?;
                Ok(work.run(&gpu))
            }
            Self::Emulated(precision) => {
                let device = Cuda::new(Emulated::from_environment()?);
                let device = prepared(device, precision, tilings, ranks)?;
                Ok(in_the_pool(|| work.run(&device)))
            }
        }
    }

    /// Makes sure that all ranks have such a device.
    fn agree(self, ranks: &Ranks) -> Result<()> {
        let kind = match self {
            Self::Cpu => "cpu",
            Self::Cuda(..) => "cuda",
            Self::Emulated(_) => "emulated",
        };
        ranks.agree(&[("a device or precision", format!("{kind}, {}", self.precision()))])
    }
}

fn prepared<D: Driver>(
    cuda: Cuda<D>,
    precision: Precision,
    tilings: Tilings,
    ranks: &Ranks,
) -> Result<Cuda<D>> {
    let cuda = cuda.with_precision(precision).with_tilings(tilings);
    if ranks.connects_gpus() {
        cuda.connect(ranks)?;
    }
    Ok(cuda)
}

/// On one of the threads that operations are spread over: from outside of the pool every operation would wake a thread and
/// wait for it.
fn in_the_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

impl DeviceChoice {
    /// The device that the choice stands for, with the precision that it has unless another is asked for: TF32 on a
    /// GPU, as it is made for, otherwise float32.
    ///
    /// # Errors
    /// [`Error::Input`] for a device that this build does not support.
    pub fn resolve(self) -> Result<Device> {
        match self {
            Self::Auto => {
                Ok(gpus::first().map_or(Device::Cpu, |number| Device::Cuda(number, Precision::Tf32)))
            }
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => gpus::find(number).map(|_| Device::Cuda(number, Precision::Tf32)),
            Self::Emulated => Ok(Device::Emulated(Precision::Fp32)),
        }
    }
}

/// The SIMD instructions that the CPU's operations use on this machine.
pub fn cpu_simd() -> &'static str {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    match pulp::Arch::new() {
        pulp::Arch::V4(_) => "AVX-512",
        pulp::Arch::V3(_) => "AVX2 and FMA",
        _ => "none",
    }
    #[cfg(target_arch = "aarch64")]
    match pulp::Arch::new() {
        pulp::Arch::Scalar => "none",
        _ => "NEON",
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    "none"
}

impl Provenance {
    pub fn of(device: Device) -> Self {
        Self {
            kerase: provenance::VERSION.into(),
            commit: provenance::commit(),
            device: device.to_string(),
            machine: machine(device),
            precision: device.precision().to_string(),
        }
    }
}

fn machine(device: Device) -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = model.map_or("a CPU", |(_, name)| name.trim());
    match device {
        Device::Cuda(number, _) => {
            let gpu = gpus::find(number).map_or_else(|_| "a GPU".to_string(), |info| info.name);
            format!("{gpu}; {cpu}")
        }
        Device::Cpu | Device::Emulated(_) => cpu.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3), DeviceChoice::Emulated] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", ""] {
            let message = name.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains(&format!("'{name}'")) && message.contains("cuda:N"), "{message}");
        }
    }

    #[test]
    fn the_cpu_has_one_precision() {
        let cpu = Device::Cpu;
        assert_eq!(cpu.with_precision(Precision::Fp32).unwrap(), cpu);
        let message = cpu.with_precision(Precision::Bf16).unwrap_err().to_string();
        assert!(message.contains("--precision bf16") && message.contains("fp32 only"), "{message}");
        let emulated = DeviceChoice::Emulated.resolve().unwrap();
        assert_eq!(emulated.precision(), Precision::Fp32);
        assert_eq!(emulated.with_precision(Precision::Tf32).unwrap().precision(), Precision::Tf32);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let message = DeviceChoice::Cuda(4096).resolve().unwrap_err().to_string();
        assert!(message.contains("cuda:4096"), "{message}");
    }
}
