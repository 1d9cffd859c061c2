//! Who computed something, and on what: for records that are read long after.

use serde::{Deserialize, Serialize};

use crate::cuda::driver::gpus;
use crate::device::Device;

/// This version of kerase.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with "+" after it where files had changed since; where that is known.
pub fn commit() -> Option<String> {
    option_env!("KERASE_COMMIT").map(String::from)
}

/// A build of kerase and the hardware that it computed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub kerase: String,
    /// As [`commit`] has it.
    pub commit: Option<String>,
    /// "cpu", "cuda:0".
    pub device: String,
    /// The GPU, if there is one, and the CPU: "NVIDIA H100; Intel(R) Xeon(R) Processor".
    pub machine: String,
    pub precision: String,
}

impl Provenance {
    pub fn of(device: Device) -> Self {
        Self {
            kerase: VERSION.into(),
            commit: commit(),
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
