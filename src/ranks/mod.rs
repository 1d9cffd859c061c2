//! Several processes at one study: who they are, how they find each other, what they compute together, and what becomes of
//! the others when one is lost.
//!
//! Every rank plans the same steps; of each it computes its share of the slices, and the gradients are summed before the
//! update, which all take alike. So weights, state and plan are the same everywhere, and rank 0 alone writes and speaks.
//! Rank 0 is the hub of all that is small, or that the CPU computed; the gradients of GPUs go through NCCL.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod place;
mod pulse;
mod rendezvous;
mod watch;
mod wire;

use std::any::Any;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use launch::{launch, why_killed};
pub use place::{LOCAL_SIZE, Place};
use pulse::Doing;
pub use rendezvous::host;
use watch::Watch;
pub use wire::{Tag, tag};

use crate::error::{Error, Result};
use crate::real::Real;

/// Reals that are summed at a time: those of a step are under way while the next are read.
const PIECE: usize = 1 << 18;

/// The processes that share the work, seen from one of them. A copy is the same rank.
#[derive(Clone)]
pub struct Ranks {
    place: Place,
    /// Each has a GPU, and they are to be connected, even if there is only one.
    gpus: bool,
    link: Option<Arc<Link>>,
}

struct Link {
    /// On rank 0 to ranks 1, 2, …; elsewhere to rank 0.
    lines: Mutex<Vec<TcpStream>>,
    watch: Arc<Watch>,
    /// What sums, where mpirun started the ranks.
    #[cfg(feature = "mpi")]
    world: Option<mpi::World>,
}

/// A process that shares its work with nobody.
pub static ALONE: Ranks = Ranks { place: Place::ALONE, gpus: false, link: None };

impl Ranks {
    /// Meets the others, unless `stop` is raised first. `gpus`: those of the ranks are connected even where there is one
    /// rank alone.
    ///
    /// # Errors
    /// [`Error::Input`] where they do not all come, or are not of one kind.
    pub fn join(place: Place, gpus: bool, stop: &AtomicBool) -> Result<Self> {
        if place.size == 1 {
            return Ok(Self { place, gpus, link: None });
        }
        Self::meet(place, gpus, None, stop)
    }

    /// Meets the processes that mpirun started, in a build with the feature `mpi`; none where it started none.
    ///
    /// # Errors
    /// As [`Self::join`], and where MPI cannot be used.
    pub fn join_by_mpi(gpus: bool, stop: &AtomicBool) -> Result<Option<Self>> {
        #[cfg(feature = "mpi")]
        if let Some(mpi::Arrival { place, listener, world }) = mpi::arrive()? {
            return match Self::meet(place, gpus, listener, stop) {
                Ok(mut ranks) => {
                    if let Some(link) = ranks.link.as_mut().and_then(Arc::get_mut) {
                        link.world = Some(world);
                    }
                    Ok(Some(ranks))
                }
                Err(error) => {
                    // To take leave of MPI is to wait for all.
                    std::mem::forget(world);
                    Err(error)
                }
            };
        }
        let _ = (gpus, stop);
        Ok(None)
    }

    fn meet(place: Place, gpus: bool, listener: Option<TcpListener>, stop: &AtomicBool) -> Result<Self> {
        let met = rendezvous::meet(&place, listener, stop)?;
        let watch = Watch::start(place.rank, met.hosts, met.watch).map_err(|error| {
            Error::Device(format!("rank {}: cannot watch the others: {error}", place.rank))
        })?;
        let link = Link {
            lines: Mutex::new(met.work),
            watch,
            #[cfg(feature = "mpi")]
            world: None,
        };
        Ok(Self { place, gpus, link: Some(Arc::new(link)) })
    }

    pub fn rank(&self) -> usize {
        self.place.rank
    }

    pub fn size(&self) -> usize {
        self.place.size
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether this rank writes and speaks for all.
    pub fn is_first(&self) -> bool {
        self.place.is_first()
    }

    pub fn is_alone(&self) -> bool {
        self.link.is_none()
    }

    /// Whether ranks that have GPUs are to sum by means of these.
    pub fn connects_gpus(&self) -> bool {
        self.gpus || !self.is_alone()
    }

    /// "rank 3 on node7".
    pub fn name(&self, rank: usize) -> String {
        self.link.as_ref().map_or_else(|| format!("rank {rank}"), |link| link.watch.name(rank))
    }

    /// Asks again and again whether something went wrong that nobody waits for; if so, the job ends.
    pub fn watch_over(&self, failure: impl Fn() -> Option<String> + Send + Sync + 'static) {
        if let Some(link) = &self.link {
            link.watch.watch_over(Box::new(failure));
        }
    }

    /// Does `work` and leaves together with the others; where it fails, they end too, and rank 0 says why.
    ///
    /// # Errors
    /// Those of `work`, and where another rank is lost. A panic is one where there are other ranks: unwinding would leave
    /// them waiting for this one.
    pub fn together<T>(self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let Some(link) = &self.link else { return work(&self) };
        let outcome = match catch_unwind(AssertUnwindSafe(|| work(&self))) {
            Ok(outcome) => outcome.and_then(|value| self.part().map(|()| value)),
            Err(panic) => Err(Error::Device(format!("panicked: {}", said(&*panic)))),
        };
        outcome.map_err(|error| {
            link.watch.failed(&error);
            let error = match error {
                // What failed is this rank's; of what the user gave, all have the same.
                Error::Device(what) if self.is_first() => {
                    Error::Device(format!("{}: {what}", link.watch.name_at_step(0)))
                }
                other => other,
            };
            // To take leave of MPI is to wait for ranks that do not come.
            std::mem::forget(link.clone());
            error
        })
    }

    /// Waits until all have come to their end, after which none misses another.
    fn part(&self) -> Result<()> {
        const PARTING: Tag = tag("parting");
        self.exchange(PARTING, |lines, watch| {
            if self.is_first() {
                for line in lines.iter_mut() {
                    wire::receive(line, PARTING)?;
                }
                watch.over();
                lines.iter_mut().try_for_each(|line| wire::send(line, PARTING, &[]))
            } else {
                watch.parting();
                wire::send(&mut lines[0], PARTING, &[])?;
                wire::receive(&mut lines[0], PARTING)?;
                watch.over();
                Ok(())
            }
        })
        .map(|_| ())
    }

    /// Something was done: a part of a step.
    pub fn tick(&self) {
        if let Some(link) = &self.link {
            link.watch.tick();
        }
    }

    /// The run begins, or goes on, after this step.
    pub fn at_step(&self, step: u64) {
        if let Some(link) = &self.link {
            link.watch.at_step(step);
        }
    }

    /// A step was taken, and took so long.
    pub fn stepped(&self, step: u64, time: Duration) {
        if let Some(link) = &self.link {
            link.watch.took(time);
            link.watch.at_step(step);
        }
    }

    /// Does `work` that consists of many of a kind, and calls what it is given after each: how long these take says when
    /// this rank is stuck in it, and nothing of what comes after.
    pub fn in_turn<T>(&self, work: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        let Some(link) = &self.link else { return work(&mut || {}) };
        let (was, mut last) = (link.watch.pace(), Instant::now());
        let outcome = work(&mut || {
            let now = Instant::now();
            link.watch.took(now.duration_since(std::mem::replace(&mut last, now)));
        });
        link.watch.set_pace(was);
        outcome
    }

    /// Does what may take long and is no progress that others could see, such as writing a checkpoint.
    pub fn excused<T>(&self, work: impl FnOnce() -> T) -> T {
        self.doing(Doing::Excused, work)
    }

    /// Waits for this rank's device, which may be summing with those of the others.
    pub fn summing<T>(&self, work: impl FnOnce() -> T) -> T {
        self.doing(Doing::Sum, work)
    }

    fn doing<T>(&self, doing: Doing, work: impl FnOnce() -> T) -> T {
        let was = self.link.as_ref().map(|link| link.watch.set(doing));
        let outcome = work();
        if let (Some(link), Some(was)) = (&self.link, was) {
            link.watch.set(was);
        }
        outcome
    }

    /// What every rank has to say, in their order, on all of them.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn gather(&self, what: Tag, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let gathered = self.exchange(what, |lines, _| {
            if !self.is_first() {
                wire::send(&mut lines[0], what, mine)?;
                return (0..self.size()).map(|_| wire::receive(&mut lines[0], what)).collect();
            }
            let mut all = vec![mine.to_vec()];
            for line in lines.iter_mut() {
                all.push(wire::receive(line, what)?);
            }
            for line in lines.iter_mut() {
                for bytes in &all {
                    wire::send(line, what, bytes)?;
                }
            }
            Ok(all)
        })?;
        Ok(gathered.unwrap_or_else(|| vec![mine.to_vec()]))
    }

    /// The sums over all ranks, the same bits on each: terms are added in the order of the ranks.
    ///
    /// # Errors
    /// Where another rank is lost.
    ///
    /// # Panics
    /// Where ranks have different numbers of values.
    pub fn sum<T: Real>(&self, values: &mut [T]) -> Result<()> {
        const SUM: Tag = tag("sum");
        #[cfg(feature = "mpi")]
        if let Some(Link { world: Some(world), watch, .. }) = self.link.as_deref() {
            let was = watch.set(Doing::Wait);
            world.sum(values, || watch.tick());
            watch.set(was);
            return Ok(());
        }
        self.exchange(SUM, |lines, watch| {
            // Pieces, so that no rank holds another's numbers twice.
            for piece in values.chunks_mut(PIECE) {
                watch.tick();
                if !self.is_first() {
                    wire::send(&mut lines[0], SUM, bytemuck::cast_slice(piece))?;
                    fill(piece, &wire::receive(&mut lines[0], SUM)?);
                    continue;
                }
                let mut term = piece.to_vec();
                for line in lines.iter_mut() {
                    fill(&mut term, &wire::receive(line, SUM)?);
                    piece.iter_mut().zip(&term).for_each(|(sum, term)| *sum += *term);
                }
                for line in lines.iter_mut() {
                    wire::send(line, SUM, bytemuck::cast_slice(piece))?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Makes sure that all ranks have the same of each of these: names, with what stands for them.
    ///
    /// # Errors
    /// [`Error::Input`] on every rank, naming a rank and what it has different.
    pub fn agree(&self, on: &[(&str, String)]) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        let digests: Vec<u8> = on.iter().flat_map(|(_, value)| Sha256::digest(value.as_bytes())).collect();
        let all = self.gather(tag("agree"), &digests)?;
        for (rank, theirs) in all.iter().enumerate() {
            let differs = |i: &usize| theirs.get(32 * i..32 * (i + 1)) != all[0].get(32 * i..32 * (i + 1));
            if let Some(i) = (0..on.len()).find(differs) {
                return Err(Error::input(format!(
                    "{} differs from rank 0 in its {}: all ranks need the same command line, and the same files",
                    self.name(rank),
                    on[i].0
                )));
            }
        }
        Ok(())
    }

    /// None where there are no others.
    fn exchange<T>(
        &self,
        what: Tag,
        body: impl FnOnce(&mut [TcpStream], &Watch) -> io::Result<T>,
    ) -> Result<Option<T>> {
        let Some(link) = &self.link else { return Ok(None) };
        let was = link.watch.set(Doing::Wait);
        let mut lines = link.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = body(&mut lines, &link.watch);
        link.watch.set(was);
        outcome.map(Some).map_err(|error| {
            if error.kind() != io::ErrorKind::InvalidData {
                link.watch.await_the_end();
            }
            Error::Device(format!("at '{}': another rank is {error}", wire::shown(what)))
        })
    }
}

/// What a panic said of itself.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn fill<T: Real>(values: &mut [T], bytes: &[u8]) {
    bytemuck::cast_slice_mut::<T, u8>(values).copy_from_slice(bytes);
}

#[cfg(test)]
mod tests;
