//! Which GPUs there are, and whether this build's kernels run on them.

use std::sync::OnceLock;

use ::cudarc::driver::result::{self, DriverError, device};
use ::cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use super::fatbins::{CUDA_BUILD, CudaBuild};
use crate::error::{Error, Result};

/// CUDA's version, or a GPU's compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// As the driver gives it: 12040 for 12.4.
    pub const fn of_driver(number: i32) -> Self {
        let number = number.unsigned_abs();
        Self::new(number / 1000, number % 1000 / 10)
    }

    /// Of an architecture's digits: "90a" is 9.0. The letter says that it runs there only.
    fn of_architecture(digits: &str) -> Option<(Self, bool)> {
        let plain = digits.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let number: u32 = plain.parse().ok()?;
        Some((Self::new(number / 10, number % 10), plain.len() < digits.len()))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// As in build/architectures.rs.
const OLDEST: Version = Version::new(8, 0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// N of `cuda:N`.
    pub ordinal: usize,
    pub name: String,
    pub compute_capability: Version,
    /// All of its memory, in bytes.
    pub memory: usize,
}

impl std::fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ordinal, name, compute_capability, memory } = self;
        write!(
            f,
            "cuda:{ordinal} ({name}), compute capability {compute_capability}, {}",
            crate::memory::size(*memory)
        )
    }
}

/// The driver and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpus {
    /// The newest CUDA that the driver understands.
    pub driver: Version,
    pub devices: Vec<DeviceInfo>,
}

/// The GPU `cuda:ordinal`, on which this build's kernels run.
///
/// # Errors
/// [`Error::Input`] where there is no such GPU, driver or kernel for it, with the remedy.
pub fn find(ordinal: usize) -> Result<DeviceInfo> {
    let input = |why: String| Error::input(format!("--device cuda:{ordinal}: {why}"));
    // What this build lacks comes first: no machine can mend it.
    if let CudaBuild::Absent { reason } = CUDA_BUILD {
        return Err(input(no_kernels(reason)));
    }
    let found = describe().map_err(input)?;
    let info = found.devices.get(ordinal).ok_or_else(|| input(no_such_device(&found.devices)))?;
    can_run(&CUDA_BUILD, found.driver, info).map_err(input)?;
    Ok(info.clone())
}

/// How many GPUs this process sees.
pub fn count() -> usize {
    devices().map_or(0, |devices| devices.len())
}

/// The first GPU on which this build's kernels run.
pub fn first() -> Option<usize> {
    let found = describe().ok()?;
    found.devices.iter().position(|device| can_run(&CUDA_BUILD, found.driver, device).is_ok())
}

/// Why the first GPU is not used, where there are some and kernels run on none.
pub fn passed_over() -> Option<String> {
    let found = describe().ok()?;
    let reason = |device| can_run(&CUDA_BUILD, found.driver, device).err();
    let reasons: Option<Vec<String>> = found.devices.iter().map(reason).collect();
    Some(format!("{}: {}", found.devices.first()?, reasons?.first()?))
}

/// # Errors
/// The reason why no GPU can be asked, which reads on from "cuda: ".
pub fn describe() -> std::result::Result<Gpus, String> {
    let driver = driver()?;
    let count = device::get_count().map_err(super::faults::text)?;
    let devices = (0..count).map(|n| info(n).map_err(|e| format!("cuda:{n}: {}", super::faults::text(e))));
    Ok(Gpus { driver, devices: devices.collect::<std::result::Result<_, _>>()? })
}

/// The GPUs of this machine, in the driver's order.
///
/// # Errors
/// The reason why there are none.
pub fn devices() -> std::result::Result<Vec<DeviceInfo>, String> {
    describe().map(|gpus| gpus.devices)
}

/// Initialises the driver, once, and says which CUDA it understands.
pub(super) fn driver() -> std::result::Result<Version, String> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: loads the driver's library, whose initialisers are made for that; every later call needs it loaded.
    if !*PRESENT.get_or_init(|| unsafe { sys::is_culib_present() }) {
        return Err(NO_LIBRARY.into());
    }
    let mut number = 0;
    // SAFETY: writes one integer, and is allowed before cuInit.
    unsafe { sys::cuDriverGetVersion(&raw mut number) }.result().map_err(no_driver)?;
    result::init().map_err(no_driver)?;
    Ok(Version::of_driver(number))
}

const NO_LIBRARY: &str = "the NVIDIA driver's library (libcuda.so.1) was not found on this machine; install the \
                          driver, or in a container start it with the GPU (docker run --gpus all)";

fn no_driver(error: DriverError) -> String {
    match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => "the NVIDIA driver finds no GPU on this machine (or \
                                           CUDA_VISIBLE_DEVICES hides it); nvidia-smi lists those that there are"
            .into(),
        _ => format!(
            "the NVIDIA driver does not start: {}; nvidia-smi says whether it works at all",
            super::faults::text(error)
        ),
    }
}

fn info(ordinal: i32) -> std::result::Result<DeviceInfo, DriverError> {
    let device = device::get(ordinal)?;
    let attribute = |which| {
        // SAFETY: the device is one that the driver has just named.
        unsafe { device::get_attribute(device, which) }.map(i32::unsigned_abs)
    };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(DeviceInfo {
        ordinal: ordinal.unsigned_abs() as usize,
        name: device::get_name(device)?,
        compute_capability: Version::new(major, minor),
        // SAFETY: as above.
        memory: unsafe { device::total_mem(device) }?,
    })
}

/// Whether a driver and a GPU can run what this build has.
///
/// # Errors
/// The reason why not, with the remedy.
pub fn can_run(build: &CudaBuild, driver: Version, device: &DeviceInfo) -> std::result::Result<(), String> {
    let (nvcc, toolkit, architectures) = match *build {
        CudaBuild::Absent { reason } => return Err(no_kernels(reason)),
        CudaBuild::Compiled { nvcc, version: (major, minor), architectures } => {
            (nvcc, Version::new(major, minor), architectures)
        }
    };
    // Machine code runs with every driver of its own major version; PTX needs one as new as the compiler.
    if driver.major < toolkit.major {
        let release = match toolkit.major {
            12 => " (release 525 or newer)",
            13 => " (release 580 or newer)",
            _ => "",
        };
        return Err(format!(
            "the driver is for CUDA {driver}, and the kernels were compiled by nvcc {nvcc}, which needs one for CUDA \
             {}.0{release}: update the driver, or build kerase with NVCC naming a CUDA {} toolkit's compiler",
            toolkit.major, driver.major
        ));
    }
    let capability = device.compute_capability;
    let has = |kind: &str, fits: &dyn Fn(Version, bool) -> bool| {
        architectures
            .iter()
            .filter_map(|a| Version::of_architecture(a.strip_prefix(kind)?))
            .any(|(version, only_there)| fits(version, only_there))
    };
    let machine_code = has("sm_", &|made_for, only_there| {
        made_for == capability
            || !only_there && made_for.major == capability.major && made_for.minor < capability.minor
    });
    let ptx = has("compute_", &|made_for, _| made_for <= capability);
    if !machine_code && !ptx {
        return Err(no_architecture(capability, architectures));
    }
    if !machine_code && driver < toolkit {
        return Err(format!(
            "the GPU (compute capability {capability}) needs kernels compiled from PTX, which a driver for CUDA {driver} \
             does not do for nvcc {nvcc}: update the driver, or build kerase with CUDA_COMPUTE_CAP={}{}",
            capability.major, capability.minor
        ));
    }
    Ok(())
}

fn no_such_device(devices: &[DeviceInfo]) -> String {
    let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    match devices.len() {
        0 => "there is no such GPU: the driver shows none; nvidia-smi lists those that there are".into(),
        1 => format!("there is no such GPU: the only one is {}", names[0]),
        count => format!("there is no such GPU: there are {count}, {}", names.join("; ")),
    }
}

pub(super) fn no_kernels(reason: &str) -> String {
    format!(
        "this kerase was built without GPU kernels: {reason}; run scripts/install-nvcc.sh (or install a CUDA \
         toolkit) and build again with KERASE_CUDA=require"
    )
}

pub(super) fn no_architecture(capability: Version, architectures: &[&str]) -> String {
    let Version { major, minor } = capability;
    let remedy = if capability < OLDEST {
        format!("kernels need {OLDEST} (A100) or newer")
    } else {
        format!("build it with CUDA_COMPUTE_CAP={major}{minor}")
    };
    format!(
        "the GPU has compute capability {capability}, and this kerase has kernels for {} only: {remedy}",
        architectures.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(architectures: &'static [&'static str]) -> CudaBuild {
        CudaBuild::Compiled { nvcc: "13.0.88", version: (13, 0), architectures }
    }

    fn device(major: u32, minor: u32) -> DeviceInfo {
        let compute_capability = Version::new(major, minor);
        DeviceInfo { ordinal: 1, name: "NVIDIA A100".into(), compute_capability, memory: 42_298_834_944 }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(Version::of_driver(12040), Version::new(12, 4));
        assert_eq!(Version::of_driver(13000), Version::new(13, 0));
        assert_eq!(Version::of_architecture("90a"), Some((Version::new(9, 0), true)));
        assert_eq!(Version::of_architecture("120"), Some((Version::new(12, 0), false)));
        assert_eq!(Version::of_architecture("a"), None);
        assert!(Version::new(12, 8) < Version::new(13, 0));
    }

    #[test]
    fn a_device_is_described() {
        let text = device(8, 0).to_string();
        assert_eq!(text, "cuda:1 (NVIDIA A100), compute capability 8.0, 39.4 GiB");
    }

    #[test]
    fn machine_code_runs_within_its_generation_and_ptx_from_its_own_on() {
        let driver = Version::new(13, 0);
        let runs = |architectures: &'static [&'static str], major, minor| {
            can_run(&build(architectures), driver, &device(major, minor)).is_ok()
        };
        assert!(runs(&["sm_80"], 8, 0) && runs(&["sm_80"], 8, 6) && !runs(&["sm_86"], 8, 0));
        assert!(!runs(&["sm_80"], 9, 0) && runs(&["sm_90a"], 9, 0) && !runs(&["sm_120a"], 12, 1));
        assert!(runs(&["sm_90a", "compute_80"], 12, 0) && !runs(&["sm_90a", "compute_80"], 7, 5));
    }

    #[test]
    fn what_keeps_kernels_from_running_is_said_with_the_remedy() {
        let refused = |build, driver, device: &DeviceInfo| can_run(&build, driver, device).unwrap_err();
        let message = refused(build(&["sm_90a", "compute_80"]), Version::new(12, 4), &device(9, 0));
        for part in ["CUDA 12.4", "13.0.88", "release 580", "NVCC"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let message = refused(build(&["sm_90a"]), Version::new(13, 1), &device(8, 6));
        for part in ["8.6", "sm_90a", "CUDA_COMPUTE_CAP=86"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let newer = CudaBuild::Compiled { nvcc: "13.2.1", version: (13, 2), architectures: &["compute_80"] };
        let message = refused(newer, Version::new(13, 0), &device(12, 0));
        assert!(message.contains("PTX") && message.contains("CUDA_COMPUTE_CAP=120"), "{message}");
        let absent = CudaBuild::Absent { reason: "no nvcc was found" };
        let message = refused(absent, Version::new(13, 0), &device(8, 0));
        for part in ["no nvcc was found", "install-nvcc.sh", "KERASE_CUDA=require"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_machine_without_a_driver_gets_a_reason() {
        match describe() {
            Ok(gpus) => assert!(gpus.driver >= Version::new(11, 0), "{gpus:?}"),
            Err(reason) => assert!(reason.contains("driver") && reason.contains(';'), "{reason}"),
        }
    }

    #[test]
    fn the_devices_that_there_are_are_named() {
        assert!(no_such_device(&[]).contains("shows none"));
        let message = no_such_device(&[device(8, 0)]);
        assert!(message.contains("the only one is cuda:1 (NVIDIA A100)"), "{message}");
        let message = no_such_device(&[device(8, 0), device(9, 0)]);
        assert!(message.contains("there are 2") && message.contains("capability 9.0"), "{message}");
    }
}
