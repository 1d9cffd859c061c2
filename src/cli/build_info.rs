//! `kerase info` without options: what this build computes with, on this machine.

use serde::Serialize;

use crate::cuda::driver::cudarc::nccl;
use crate::cuda::driver::fatbins::{CUDA_BUILD, CudaBuild};
use crate::cuda::driver::gpus;
use crate::device::{DeviceChoice, cpu_simd};
use crate::provenance::{self, VERSION};

/// This build and its machine.
#[derive(Serialize)]
pub struct Build {
    version: &'static str,
    /// With "+" after it where files had changed since; null where it is not known.
    commit: Option<String>,
    platform: String,
    simd: &'static str,
    threads: usize,
    kernels: Kernels,
    driver: Driver,
    gpus: Vec<Gpu>,
    /// Its version, or why several GPUs cannot be used together.
    nccl: String,
    /// What `--device auto` is.
    auto: String,
}

/// The GPU's kernels in this build.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kernels {
    Compiled { nvcc: &'static str, architectures: &'static [&'static str] },
    Absent(&'static str),
}

/// NVIDIA's driver.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Driver {
    /// The newest CUDA that it understands.
    Cuda(String),
    Absent(String),
}

#[derive(Serialize)]
struct Gpu {
    device: String,
    name: String,
    compute_capability: String,
    memory_bytes: usize,
    /// Why kerase cannot compute on it; null where it can.
    unusable: Option<String>,
    #[serde(skip)]
    text: String,
}

impl Build {
    pub fn this() -> Self {
        let kernels = match CUDA_BUILD {
            CudaBuild::Compiled { nvcc, architectures, .. } => Kernels::Compiled { nvcc, architectures },
            CudaBuild::Absent { reason } => Kernels::Absent(reason),
        };
        let (driver, gpus) = match gpus::describe() {
            Err(reason) => (Driver::Absent(reason), Vec::new()),
            Ok(found) => (
                Driver::Cuda(found.driver.to_string()),
                found.devices.iter().map(|device| Gpu::new(found.driver, device)).collect(),
            ),
        };
        Self {
            version: VERSION,
            commit: provenance::commit(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            simd: cpu_simd(),
            threads: rayon::current_num_threads(),
            kernels,
            driver,
            gpus,
            nccl: nccl::found().unwrap_or_else(|why| why),
            auto: DeviceChoice::Auto.resolve().map_or_else(|e| e.to_string(), |device| device.to_string()),
        }
    }

    /// What it is called, and what it is.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit},"));
        let mut lines = vec![
            ("kerase", format!("{}{} for {}", self.version, commit, self.platform)),
            ("CPU", format!("{} threads, SIMD: {}", self.threads, self.simd)),
            (
                "GPU kernels",
                match &self.kernels {
                    Kernels::Compiled { nvcc, architectures } => {
                        format!("{} by nvcc {nvcc}", architectures.join(", "))
                    }
                    Kernels::Absent(reason) => format!("none: {reason}"),
                },
            ),
            (
                "NVIDIA driver",
                match &self.driver {
                    Driver::Cuda(version) => format!("for CUDA {version}"),
                    Driver::Absent(reason) => format!("none: {reason}"),
                },
            ),
        ];
        for gpu in &self.gpus {
            let but = gpu.unusable.as_ref().map_or(String::new(), |why| format!("; unusable: {why}"));
            lines.push(("GPU", format!("{}{but}", gpu.text)));
        }
        let nccl = match self.nccl.starts_with(char::is_numeric) {
            true => self.nccl.clone(),
            false => format!("none: {}", self.nccl),
        };
        lines.push(("NCCL", nccl));
        lines.push(("--device auto", self.auto.clone()));
        lines
    }
}

impl Gpu {
    fn new(driver: gpus::Version, device: &gpus::DeviceInfo) -> Self {
        Self {
            device: format!("cuda:{}", device.ordinal),
            name: device.name.clone(),
            compute_capability: device.compute_capability.to_string(),
            memory_bytes: device.memory,
            unusable: gpus::can_run(&CUDA_BUILD, driver, device).err(),
            text: device.to_string(),
        }
    }
}
