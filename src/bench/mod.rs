//! How long a training step and an inference take on a device: whole, operation by operation, or with other tilings of
//! their convolutions; and whether slices are read as quickly as steps take them. Each file has its report, which is JSON
//! or text.

mod loader;
pub mod operations;
pub mod rates;
pub mod sample;
pub mod step;
pub mod tilings;
pub mod tune;

use serde::Serialize;

use crate::cuda::driver::gpus;
use crate::device::Device;
use crate::precision::Precision;
use crate::provenance;
use sample::{Sample, Sizes};
use tilings::FromFile;

/// What is timed. Where one pass stands for both, it is the training step, which has all that an inference has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Train,
    Inference,
    Both,
}

/// What measured or counted.
#[derive(Clone, Debug, Serialize)]
struct Build {
    program: String,
    commit: Option<String>,
}

impl Build {
    fn this() -> Self {
        Self { program: format!("kerase {}", provenance::VERSION), commit: provenance::commit() }
    }
}

/// What was measured or counted, and on which device.
#[derive(Clone, Debug, Serialize)]
struct Subject {
    device: String,
    /// The newest CUDA that the driver of a GPU understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    precision: Precision,
    #[serde(flatten)]
    sizes: Sizes,
    /// None: those that are built in.
    #[serde(flatten)]
    tilings: Option<FromFile>,
}

impl Subject {
    fn new(sample: &Sample, device: Device, tilings: Option<FromFile>) -> Self {
        let driver = match device {
            Device::Cuda(..) => gpus::describe().ok().map(|found| format!("for CUDA {}", found.driver)),
            Device::Cpu | Device::Emulated(_) => None,
        };
        Self {
            device: device.in_words(),
            driver,
            precision: device.precision(),
            sizes: sample.sizes(),
            tilings,
        }
    }
}
