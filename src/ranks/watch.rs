//! Whether all ranks are alive and get on. Where one is gone, stuck or has failed, rank 0 says which, and the whole job
//! ends: nobody waits for a rank that will not come.
//!
//! Each rank tells rank 0 once a second how far it is, on a connection of its own, and rank 0 tells the others. A process
//! that dies closes its connection; a machine that dies, or a process that is halted, falls silent; one that is stuck
//! tells of no progress while the others wait for it.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
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
/// A rank may work for so long without progress, or for [`SLOWER`] times as long as it did since its first step.
const STANDSTILL: Duration = Duration::from_secs(25);
const SLOWER: u32 = 20;
/// Before that there is no telling how long things take: files are opened and hashed, networks measured.
const BEFORE_THE_FIRST_STEP: Duration = Duration::from_secs(1800);
/// Devices that sum wait for the one that does not come. It is to be found out first.
const IN_A_SUM: Duration = Duration::from_secs(5);
/// A beat that comes so late was held up with the process: it was suspended.
const SUSPENDED: Duration = Duration::from_secs(6);
/// Where a rank has taken leave, rank 0 answers it soon.
const LEAVE: Duration = Duration::from_secs(2);
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
    doing: Doing,
}

/// What a rank is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Work,
    /// It waits for others, or does what may take long.
    Excused,
    /// It waits for its device, which sums with those of the others.
    Sum,
}

impl Beat {
    fn to_bytes(self) -> Vec<u8> {
        [&self.ticks.to_le_bytes()[..], &self.step.to_le_bytes(), &[self.doing as u8]].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let &[ticks, step] = numbers else { return None };
        let &[doing] = rest else { return None };
        let doing = Doing::of(doing);
        Some(Self { ticks: u64::from_le_bytes(ticks), step: u64::from_le_bytes(step), doing })
    }
}

impl Doing {
    fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Excused,
            2 => Self::Sum,
            _ => Self::Work,
        }
    }
}

/// What is known of a rank.
struct Pulse {
    latest: Beat,
    /// When it last got on.
    since: Instant,
    /// The longest that it took to get on, since its first step.
    longest: Duration,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self {
            latest: Beat { ticks: 0, step: 0, doing: Doing::Excused },
            since: now,
            longest: Duration::ZERO,
        }
    }

    /// Takes notice of a beat; true where the rank has come to a standstill.
    fn feel(&mut self, beat: Beat, now: Instant) -> bool {
        let took = now.duration_since(self.since);
        if beat.ticks != self.latest.ticks {
            if self.latest.step > 0 && self.latest.doing != Doing::Excused {
                self.longest = self.longest.max(took);
            }
            self.since = now;
        } else if beat.doing == Doing::Excused {
            self.since = now;
        }
        self.latest = beat;
        let most = match beat.step {
            0 => BEFORE_THE_FIRST_STEP,
            _ => STANDSTILL.max(self.longest * SLOWER),
        };
        let more = if beat.doing == Doing::Sum { IN_A_SUM } else { Duration::ZERO };
        now.duration_since(self.since) > most + more
    }
}

pub struct Watch {
    rank: usize,
    hosts: Vec<String>,
    ticks: AtomicU64,
    step: AtomicU64,
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
        let pulses = hosts.iter().map(|_| Pulse::new(now)).collect();
        let watch = Arc::new(Self {
            rank,
            hosts,
            ticks: AtomicU64::new(0),
            step: AtomicU64::new(0),
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

    /// Something was done: a slice, a file.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// A step was taken.
    pub fn stepped(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
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
            ticks: self.ticks.load(Ordering::Relaxed),
            step: self.step.load(Ordering::Relaxed),
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
                locked(&self.pulses).iter_mut().for_each(|pulse| pulse.since = now);
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
        if locked(&self.pulses)[rank].feel(beat, Instant::now()) && self.rank == 0 {
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
                    self.end(*code, &format!("{}: {}", self.name(other), String::from_utf8_lossy(message)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(ticks: u64, step: u64, doing: Doing) -> Beat {
        Beat { ticks, step, doing }
    }

    #[test]
    fn beats_arrive_as_they_were_sent() {
        for doing in [Doing::Work, Doing::Excused, Doing::Sum] {
            let sent = beat(5, u64::MAX, doing);
            assert_eq!(Beat::from_bytes(&sent.to_bytes()), Some(sent));
        }
        assert_eq!(Beat::from_bytes(&[0; 16]), None);
    }

    #[test]
    fn only_who_works_without_end_is_stuck() {
        use Doing::{Excused, Sum, Work};
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(start);
        assert!(!pulse.feel(beat(1, 0, Work), at(0)));
        assert!(!pulse.feel(beat(1, 0, Work), at(600)), "loads");
        assert!(!pulse.feel(beat(2, 1, Work), at(610)));
        // What it took before says nothing.
        assert!(!pulse.feel(beat(2, 1, Work), at(634)));
        assert!(!pulse.feel(beat(2, 1, Excused), at(900)), "waits, or writes");
        assert!(!pulse.feel(beat(3, 2, Work), at(901)));
        assert!(!pulse.feel(beat(3, 2, Sum), at(928)), "who does not come is found out first");
        assert!(pulse.feel(beat(3, 2, Work), at(928)));

        // Slow steps give it more time.
        let mut pulse = Pulse::new(start);
        pulse.feel(beat(1, 1, Work), at(0));
        pulse.feel(beat(2, 2, Work), at(4));
        assert!(!pulse.feel(beat(2, 2, Work), at(83)));
        assert!(pulse.feel(beat(2, 2, Work), at(85)), "its steps take 4 s: 20 times as long is 80 s");
        let mut pulse = Pulse::new(start);
        assert!(pulse.feel(beat(0, 0, Work), at(1801)), "and there is an end to loading");
    }
}
