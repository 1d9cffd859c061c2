//! Options of commands that several processes can share.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cli::args::DeviceArgs;
use crate::cli::stop::Stop;
use crate::cuda::driver::gpus;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::memory;
use crate::progress::{say, silence};
use crate::ranks::{Place, Ranks, launch};

/// Who shares the work. Started by torchrun, srun or mpirun, a process is a rank without any of these.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Ranks")]
pub struct RankArgs {
    /// Start N processes on this machine that share the slices of each step, on GPUs of their own where it has any. Those
    /// that torchrun, srun or mpirun start share them without this option
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    ranks: Option<u16>,

    /// The same with one process for each of N GPUs
    #[arg(long, value_name = "N", conflicts_with = "ranks", value_parser = clap::value_parser!(u16).range(1..=1024))]
    gpus: Option<u16>,
}

impl RankArgs {
    /// Meets the other ranks, or is alone. Where this process is to start them, it does, waits for them, and ends with their
    /// exit code. `stop`, once raised, is passed on to them.
    ///
    /// # Errors
    /// [`Error::Input`] for an environment that makes no sense, and ranks that do not come. A rank that has met the others is
    /// silent, but for the first.
    pub fn join(&self, stop: Option<&Stop>) -> Result<Ranks> {
        let none = AtomicBool::new(false);
        let raised: &AtomicBool = stop.map_or(&none, |stop| stop);
        let ranks = self.meet(stop, raised).inspect_err(|_| {
            if let Some(stop) = stop.filter(|_| raised.load(Ordering::Relaxed)) {
                say("stopped before all ranks had met: nothing has begun, and nothing was written");
                stop.exit();
            }
        })?;
        memory::share_machine(ranks.place().local_size);
        if !ranks.is_first() {
            silence();
        }
        Ok(ranks)
    }

    fn meet(&self, stop: Option<&Stop>, raised: &AtomicBool) -> Result<Ranks> {
        if std::env::var_os("WORLD_SIZE").is_none()
            && let Some(ranks) = Ranks::join_by_mpi(self.gpus.is_some(), raised)?
        {
            return Ok(ranks);
        }
        let place = Place::from_environment(&|name| std::env::var(name).ok())?;
        let wanted = self.ranks.or(self.gpus).map(usize::from);
        if let Some(gpus) = self.gpus.map(usize::from)
            && gpus > gpus::count()
        {
            return Err(Error::input(format!(
                "--gpus {gpus}: this machine has {}; kerase info lists them",
                gpus::count()
            )));
        }
        match wanted {
            Some(size) if place.size > 1 && size != place.size => Err(Error::input(format!(
                "{} {size}, but this process is one of {} already: leave the option out",
                if self.gpus.is_some() { "--gpus" } else { "--ranks" },
                place.size
            ))),
            Some(size) if size > 1 && place.size == 1 => {
                let code = launch(size, raised)?;
                // They were told by another signal than this process.
                let interrupted = code == 0 && stop.is_some_and(Stop::interrupted);
                std::process::exit(if interrupted { 130 } else { code.into() })
            }
            _ => {
                if wanted.is_some() && place.size > 1 {
                    // Without the process that started it, it would go on unseen. Where that cannot be had, it does.
                    let _ = set_parent_process_death_signal(Some(Signal::TERM));
                }
                Ranks::join(place, self.gpus.is_some(), raised)
            }
        }
    }

    /// The device of a rank: of the machine's GPUs the one that its number among the machine's ranks says.
    ///
    /// # Errors
    /// [`Error::Input`] where there are fewer GPUs than ranks.
    pub fn device(&self, device: &DeviceArgs, ranks: &Ranks) -> Result<DeviceArgs> {
        let (place, count) = (ranks.place(), gpus::count());
        let first = match device.device {
            DeviceChoice::Auto if self.gpus.is_some() => 0,
            DeviceChoice::Auto => match gpus::first() {
                Some(number) => number,
                None => return Ok(device.clone()),
            },
            DeviceChoice::Cuda(number) => number,
            _ => return Ok(device.clone()),
        };
        // A scheduler may show each rank its own GPU alone; this command does not.
        let shown_alone = count == 1 && first == 0 && self.ranks.or(self.gpus).is_none();
        if ranks.is_alone() || shown_alone {
            return Ok(device.clone());
        }
        let number = first + place.local_rank;
        if number >= count {
            let from = if first > 0 { format!(" from cuda:{first} on") } else { String::new() };
            return Err(Error::input(format!(
                "rank {} is number {} on its machine, which has {} GPUs{from}: start no more ranks than GPUs, or use \
                 --device cpu",
                place.rank,
                place.local_rank,
                count.saturating_sub(first)
            )));
        }
        Ok(DeviceArgs { device: DeviceChoice::Cuda(number), ..device.clone() })
    }
}
