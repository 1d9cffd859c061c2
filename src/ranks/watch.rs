//! Whether all ranks are alive and get on. Where one is gone, stuck or has failed, rank 0 says which, and the whole job
//! ends: nobody waits for a rank that will not come.
//!
//! Each rank tells rank 0 once a second how far it is, on a connection of its own, and rank 0 tells the others. A process
//! that dies closes its connection; a machine that dies, or a process that is halted, falls silent; one that is stuck
//! tells of no progress while the others wait for it (`pulse.rs`).

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pulse::{Beat, Doing, Pace, Pulse, STANDSTILL, stuck};
use super::wire::{self, Tag, tag};
use crate::error::Error;
use crate::progress;

const BEAT: Tag = tag("beat");
const FAILED: Tag = tag("failed");
const END: Tag = tag("end");

/// Between two beats.
const PULSE: Duration = Duration::from_secs(1);
/// A rank that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(12);
/// A beat that comes so late was held up with the process: it was suspended.
const SUSPENDED: Duration = Duration::from_secs(6);
/// Where a rank has taken leave, rank 0 answers it soon.
const LEAVE: Duration = Duration::from_secs(2);
/// A rank that fails where rank 0 does too leaves it the time to say so itself.
const GRACE: Duration = Duration::from_millis(300);
/// A rank that failed waits so long for rank 0 to have said it.
const FAREWELL: Duration = Duration::from_secs(10);
/// Where no step is known.
const NO_STEP: u64 = u64::MAX;

pub struct Watch {
    rank: usize,
    hosts: Vec<String>,
    ticks: AtomicU64,
    /// The last step that was taken, in this process or before.
    step: AtomicU64,
    pace: Mutex<Pace>,
    doing: AtomicU8,
    /// This rank has taken leave: rank 0 is about to answer.
    parting: AtomicBool,
    /// All is done: from now on connections may close.
    over: AtomicBool,
    /// Somebody ends the job already.
    ending: AtomicBool,
    /// Towards the others.
    lines: Mutex<Vec<TcpStream>>,
    /// Of every rank.
    pulses: Mutex<Vec<Pulse>>,
    /// What else may go wrong.
    checks: Mutex<Vec<Check>>,
}

/// Says what went wrong, if anything did.
type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Begins to watch the ranks at the other ends of `lines`: on rank 0 ranks 1, 2, …, elsewhere rank 0.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(rank: usize, hosts: Vec<String>, lines: Vec<TcpStream>) -> io::Result<Arc<Self>> {
        let mut readers = Vec::new();
        for line in &lines {
            wire::prepare(line, Some(SILENCE))?;
            readers.push(line.try_clone()?);
        }
        let now = Instant::now();
        let pulses = hosts.iter().map(|_| Pulse::new(now, NO_STEP)).collect();
        let watch = Arc::new(Self {
            rank,
            hosts,
            ticks: AtomicU64::new(0),
            step: AtomicU64::new(NO_STEP),
            pace: Mutex::default(),
            doing: AtomicU8::new(Doing::Work as u8),
            parting: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            lines: Mutex::new(lines),
            pulses: Mutex::new(pulses),
            checks: Mutex::default(),
        });
        for (index, mut reader) in readers.into_iter().enumerate() {
            let other = if rank == 0 { index + 1 } else { 0 };
            let watch = watch.clone();
            std::thread::Builder::new()
                .name(format!("rank {other}"))
                .spawn(move || watch.listen_to(other, &mut reader))?;
        }
        let beating = watch.clone();
        std::thread::Builder::new().name("pulse".into()).spawn(move || beating.beat())?;
        Ok(watch)
    }

    /// Something was done: a slice, a part of a sum.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// The run is at this step, which need not be this process's.
    pub fn at_step(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.tick();
    }

    /// A step, or a slice that is measured, took so long: the next may take a multiple of it.
    pub fn took(&self, time: Duration) {
        locked(&self.pace).took(time);
        self.tick();
    }

    pub fn pace(&self) -> Pace {
        *locked(&self.pace)
    }

    pub fn set_pace(&self, pace: Pace) {
        *locked(&self.pace) = pace;
        self.tick();
    }

    /// What this rank is at from now on; returns what it was at.
    pub fn set(&self, doing: Doing) -> Doing {
        let was = self.doing.swap(doing as u8, Ordering::Relaxed);
        self.tick();
        Doing::of(was)
    }

    /// This rank has nothing more to do; rank 0 may have.
    pub fn parting(&self) {
        self.parting.store(true, Ordering::Release);
    }

    /// Has `check` called with every beat.
    pub fn watch_over(&self, check: Check) {
        locked(&self.checks).push(check);
    }

    /// From now on connections may close.
    pub fn over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// "rank 3 on node7".
    pub fn name(&self, rank: usize) -> String {
        format!("rank {rank} on {}", self.hosts[rank])
    }

    fn now(&self) -> Beat {
        Beat {
            ticks: self.ticks.load(Ordering::Relaxed).wrapping_add(progress::done()),
            step: self.step.load(Ordering::Relaxed),
            slowest: self.pace().slowest(),
            doing: Doing::of(self.doing.load(Ordering::Relaxed)),
        }
    }

    fn tell(&self, tag: Tag, bytes: &[u8]) {
        for line in locked(&self.lines).iter_mut() {
            // Whoever is gone is missed by whoever listens to it.
            let _ = wire::send(line, tag, bytes);
        }
    }

    /// To the end of the process: who has taken leave is still alive.
    fn beat(&self) {
        let mut last = Instant::now();
        loop {
            self.tell(BEAT, &self.now().to_bytes());
            let now = Instant::now();
            if now.duration_since(last) > SUSPENDED {
                locked(&self.pulses).iter_mut().for_each(|pulse| pulse.got_on(now));
            }
            last = now;
            if self.over.load(Ordering::Acquire) {
                return;
            }
            if self.rank == 0 {
                self.felt(0, self.now());
            }
            let wrong = locked(&self.checks).iter().find_map(|check| check());
            if let Some(what) = wrong
                && !self.over.load(Ordering::Acquire)
            {
                let error = Error::Device(what);
                match self.rank {
                    0 => self.end(error.exit_code(), &error.to_string()),
                    _ => self.failed(&error),
                }
            }
            std::thread::sleep(PULSE);
        }
    }

    fn felt(&self, rank: usize, beat: Beat) {
        let now = Instant::now();
        let mut pulses = locked(&self.pulses);
        pulses[rank].feel(beat, now);
        let stuck = if self.rank == 0 { stuck(&pulses, now) } else { None };
        drop(pulses);
        if let Some(rank) = stuck {
            self.end_for(rank, "makes no progress any more");
        }
    }

    fn listen_to(&self, other: usize, line: &mut TcpStream) {
        loop {
            match wire::receive_any(line) {
                Ok((BEAT, bytes)) => {
                    if let Some(beat) = Beat::from_bytes(&bytes) {
                        self.felt(other, beat);
                    }
                }
                Ok((END, code)) => self.leave(code.first().copied().unwrap_or(1)),
                Ok((FAILED, bytes)) => {
                    let (code, message) = bytes.split_first().unwrap_or((&1, b"failed"));
                    std::thread::sleep(GRACE);
                    let (name, after) = (self.name(other), self.after_step(other));
                    self.end(*code, &format!("{name}{after}: {}", String::from_utf8_lossy(message)));
                }
                Ok(_) => self.end_for(other, "sends what is no message of kerase"),
                Err(error) => {
                    if self.parting.load(Ordering::Acquire) {
                        // The answer may be on the other connection.
                        std::thread::sleep(LEAVE);
                    }
                    if self.over.load(Ordering::Acquire) {
                        return;
                    }
                    match error.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                            self.end_for(other, &format!("was not heard of for {} s", SILENCE.as_secs()));
                        }
                        _ => self.end_for(other, "is gone, its connection closed"),
                    }
                }
            }
        }
    }

    /// ", after step 7", where steps are known.
    fn after_step(&self, rank: usize) -> String {
        let known = [locked(&self.pulses)[rank].step(), self.step.load(Ordering::Relaxed)];
        let last = known.into_iter().filter(|&step| step != NO_STEP).max();
        last.map_or(String::new(), |step| format!(", after step {step}"))
    }

    /// "rank 3 on node7, after step 12".
    pub fn name_at_step(&self, rank: usize) -> String {
        self.name(rank) + &self.after_step(rank)
    }

    /// Ends the job because of a rank.
    fn end_for(&self, rank: usize, what: &str) {
        let (name, after) = (self.name(rank), self.after_step(rank));
        let saved = match after.is_empty() {
            true => "",
            false => ". What was saved last is as it was; --resume auto goes on from it",
        };
        self.end(1, &format!("{name} {what}{after}: the job ends{saved}"));
    }

    /// Says why and ends this process and, from rank 0, all others. Returns only where somebody else does that already.
    fn end(&self, code: u8, why: &str) {
        if self.ending.swap(true, Ordering::AcqRel) {
            std::thread::sleep(FAREWELL);
            return;
        }
        if self.rank == 0 {
            self.tell(END, &[code]);
        }
        // One line, written at once: others may write to the same terminal. Nobody may be there to read it.
        let _ = std::io::stderr().write_all(format!("error: {why}\n").as_bytes());
        self.leave(code);
    }

    /// Ends the process as it is: handlers that libraries have for its end would wait for a device, or for other ranks.
    fn leave(&self, code: u8) -> ! {
        // SAFETY: it never returns, and what is left undone is what the system does itself: files that are whole have
        // their names already.
        unsafe { libc::_exit(code.into()) }
    }

    /// What this rank's own work came to grief over. Rank 0, which then says so itself, ends the others; elsewhere rank 0
    /// is told, and this process ends when it has said it.
    pub fn failed(&self, error: &Error) {
        let code = error.exit_code();
        if self.rank == 0 {
            if self.ending.swap(true, Ordering::AcqRel) {
                std::thread::sleep(FAREWELL);
            }
            self.tell(END, &[code]);
            return;
        }
        self.tell(FAILED, &[&[code], error.to_string().as_bytes()].concat());
        std::thread::sleep(FAREWELL);
    }

    /// A connection broke: whoever watches it is about to end the job.
    pub fn await_the_end(&self) {
        std::thread::sleep(SILENCE + STANDSTILL);
    }
}
