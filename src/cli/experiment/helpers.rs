//! The processes of `--jobs`, which take part in a study beside the one that leads it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::Args;
use crate::cli::args::DeviceArgs;
use crate::cli::stop::Stop;
use crate::cuda::driver::gpus;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::ranks::why_killed;

pub struct Helpers(Vec<Child>);

/// How long until helpers are looked at again.
const LOOKING: Duration = Duration::from_millis(100);

impl Helpers {
    /// Starts as many as `--jobs` asks for beside this process, which computes `on` a device as `wanted` has it.
    ///
    /// # Errors
    /// Where the system starts none.
    pub fn start(args: &Args, wanted: &DeviceArgs, on: Device, out: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("find", "kerase itself", e))?;
        let helper = |number: usize| {
            let mut command = Command::new(&program);
            command.arg("experiment").arg(&args.file).arg("--out").arg(out).arg("--worker");
            command.arg("--device").arg(beside(on, number).to_string());
            command.arg("--precision").arg(on.precision().to_string());
            command.arg("--cache-gib").arg(args.loader.cache_gib.to_string());
            if let Some(threads) = wanted.threads.threads {
                command.arg("--threads").arg(threads.to_string());
            }
            // Ctrl-C is for this process, which hands it on.
            command.process_group(0);
            command.spawn().map_err(|e| Error::io("start", &program, e))
        };
        (1..usize::from(args.jobs)).map(helper).collect::<Result<_>>().map(Self)
    }

    /// Waits for them, and asks them to stop before if a stop was asked for or `failed` says that there is no use in going
    /// on. One that failed has said why.
    ///
    /// # Errors
    /// Where one ended otherwise than it was asked to.
    pub fn join(mut self, stop: &Stop, failed: bool) -> Result<()> {
        let mut outcome = Ok(());
        let mut told = false;
        while !self.0.is_empty() {
            let stopping = failed || stop.load(Ordering::Relaxed);
            if stopping && !told {
                for helper in &self.0 {
                    // It may have ended by itself.
                    let _ = kill_process(Pid::from_child(helper), Signal::TERM);
                }
                told = true;
            }
            let mut left = Vec::new();
            for mut helper in self.0 {
                match helper.try_wait().map_err(|e| Error::io("wait for", "a process of --jobs", e))? {
                    None => left.push(helper),
                    Some(status) if !status.success() && !stopping && !stop.load(Ordering::Relaxed) => {
                        let why = match why_killed(status) {
                            "" => "; what it said is above",
                            why => why,
                        };
                        outcome = Err(Error::Device(format!("a process of --jobs ended with {status}{why}")));
                    }
                    Some(_) => {}
                }
            }
            self.0 = left;
            if !self.0.is_empty() {
                std::thread::sleep(LOOKING);
            }
        }
        outcome
    }
}

/// For a helper: without the process that waits for it, it would go on unseen. Where that cannot be had, it does.
pub fn end_with_the_lead() {
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
}

/// The device of the helper with this number.
fn beside(device: Device, number: usize) -> DeviceChoice {
    match device {
        Device::Cpu => DeviceChoice::Cpu,
        Device::Emulated(_) => DeviceChoice::Emulated,
        Device::Cuda(first, _) => {
            let gpus = gpus::devices().map_or(1, |devices| devices.len().max(1));
            DeviceChoice::Cuda((first + number) % gpus)
        }
    }
}
