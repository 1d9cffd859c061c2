//! Whether all ranks are alive and get on. Where one is gone, stuck or has failed, rank 0 says which, and the whole job
//! ends: nobody waits for a rank that will not come.
//!
//! Each rank tells rank 0 once a second how far it is, on a connection of its own, and rank 0 tells the others. A process
//! that dies closes its connection; a machine that dies, or a process that is halted, falls silent; one that is stuck
//! tells of no progress while the others wait for it.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{self, Tag, tag};
use crate::error::Error;

const BEAT: Tag = tag("beat");
const FAILED: Tag = tag("failed");
const END: Tag = tag("end");

/// Between two beats.
const PULSE: Duration = Duration::from_secs(1);
/// A rank that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(12);
/// A rank may work for so long without progress, or for [`SLOWER`] times as long as it ever did.
const STANDSTILL: Duration = Duration::from_secs(25);
const SLOWER: u32 = 20;
/// A rank that fails where rank 0 does too leaves it the time to say so itself.
const GRACE: Duration = Duration::from_millis(300);
/// A rank that failed waits so long for rank 0 to have said it.
const FAREWELL: Duration = Duration::from_secs(10);

/// How far a rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beat {
    /// Counts whatever is progress.
    ticks: u64,
    /// The last step that was taken.
    step: u64,
    /// Whether it waits for others.
    waiting: bool,
}

impl Beat {
    fn to_bytes(self) -> Vec<u8> {
        [&self.ticks.to_le_bytes()[..], &self.step.to_le_bytes(), &[u8::from(self.waiting)]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let &[ticks, step] = numbers else { return None };
        let &[waiting] = rest else { return None };
        Some(Self { ticks: u64::from_le_bytes(ticks), step: u64::from_le_bytes(step), waiting: waiting != 0 })
    }
}

/// What is known of a rank.
struct Pulse {
    latest: Beat,
    /// When it last got on.
    since: Instant,
    /// The longest that it took to get on.
    longest: Duration,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { latest: Beat { ticks: 0, step: 0, waiting: true }, since: now, longest: Duration::ZERO }
    }

    /// Takes notice of a beat; true where the rank has come to a standstill.
    fn feel(&mut self, beat: Beat, now: Instant) -> bool {
        let took = now.duration_since(self.since);
        if beat.ticks != self.latest.ticks {
            self.longest = self.longest.max(took);
            self.since = now;
        } else if beat.waiting {
            // Not its fault.
            self.since = now;
        }
        self.latest = beat;
        // Before the first step there is no telling how long things take.
        beat.step > 0 && now.duration_since(self.since) > STANDSTILL.max(self.longest * SLOWER)
    }
}

pub struct Watch {
    rank: usize,
    hosts: Vec<String>,
    ticks: AtomicU64,
    step: AtomicU64,
    waiting: AtomicBool,
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
        let pulses = hosts.iter().map(|_| Pulse::new(now)).collect();
        let watch = Arc::new(Self {
            rank,
            hosts,
            ticks: AtomicU64::new(0),
            step: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
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

    /// Something was done: a slice, a file.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// A step was taken.
    pub fn stepped(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.tick();
    }

    /// Whether from now on this rank waits for others.
    pub fn wait(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.tick();
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
            ticks: self.ticks.load(Ordering::Relaxed),
            step: self.step.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn tell(&self, tag: Tag, bytes: &[u8]) {
        for line in locked(&self.lines).iter_mut() {
            // Whoever is gone is missed by whoever listens to it.
            let _ = wire::send(line, tag, bytes);
        }
    }

    fn beat(&self) {
        while !self.over.load(Ordering::Acquire) {
            self.tell(BEAT, &self.now().to_bytes());
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
        if locked(&self.pulses)[rank].feel(beat, Instant::now()) && self.rank == 0 {
            self.end_for(rank, "makes no progress any more");
        }
    }

    fn listen_to(&self, other: usize, line: &mut TcpStream) {
        loop {
            let received = wire::receive_any(line);
            if self.over.load(Ordering::Acquire) {
                return;
            }
            match received {
                Ok((BEAT, bytes)) => {
                    if let Some(beat) = Beat::from_bytes(&bytes) {
                        self.felt(other, beat);
                    }
                }
                Ok((END, code)) => self.leave(code.first().copied().unwrap_or(1)),
                Ok((FAILED, bytes)) => {
                    let (code, message) = bytes.split_first().unwrap_or((&1, b"failed"));
                    std::thread::sleep(GRACE);
                    self.end(*code, &format!("{}: {}", self.name(other), String::from_utf8_lossy(message)));
                }
                Ok(_) => self.end_for(other, "sends what is no message of kerase"),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    self.end_for(other, &format!("was not heard of for {} s", SILENCE.as_secs()));
                }
                Err(_) => self.end_for(other, "is gone, its connection closed"),
            }
        }
    }

    /// Ends the job because of a rank.
    fn end_for(&self, rank: usize, what: &str) {
        let step = locked(&self.pulses)[rank].latest.step.max(self.step.load(Ordering::Relaxed));
        self.end(
            1,
            &format!(
                "{} {what}, after step {step}: the job ends. What was saved last is as it was; --resume auto goes on from it",
                self.name(rank)
            ),
        );
    }

    /// Says why and ends this process and, from rank 0, all others. Returns only where somebody else does that already.
    fn end(&self, code: u8, why: &str) {
        if self.ending.swap(true, Ordering::AcqRel) {
            std::thread::sleep(FAREWELL);
            return;
        }
        // One line, written at once: others may write to the same terminal.
        eprintln!("error: {why}");
        if self.rank == 0 {
            self.tell(END, &[code]);
        }
        self.leave(code);
    }

    fn leave(&self, code: u8) -> ! {
        std::process::exit(code.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(ticks: u64, waiting: bool) -> Beat {
        Beat { ticks, step: 3, waiting }
    }

    #[test]
    fn beats_arrive_as_they_were_sent() {
        let sent = Beat { ticks: 5, step: u64::MAX, waiting: true };
        assert_eq!(Beat::from_bytes(&sent.to_bytes()), Some(sent));
        assert_eq!(Beat::from_bytes(&[0; 16]), None);
    }

    #[test]
    fn only_who_works_without_end_is_stuck() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(start);
        assert!(!pulse.feel(Beat { step: 0, ..beat(1, false) }, at(0)));
        assert!(!pulse.feel(Beat { step: 0, ..beat(1, false) }, at(600)), "loads");
        assert!(!pulse.feel(beat(1, true), at(700)), "waits");
        assert!(!pulse.feel(beat(2, false), at(702)));
        assert!(!pulse.feel(beat(2, false), at(726)));
        // It once took 600 s, before the first step.
        let mut pulse = Pulse::new(start);
        pulse.feel(beat(1, false), at(2));
        assert!(!pulse.feel(beat(1, false), at(27)));
        assert!(
            !pulse.feel(beat(1, false), at(41)),
            "its steps take 2 s: 20 times as long is 40 s, from the last"
        );
        assert!(pulse.feel(beat(1, false), at(43)));
    }
}
