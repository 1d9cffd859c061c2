//! How far each rank is, and which of them has come to a standstill.
//!
//! What ranks do takes as long as it takes, so that a rank is given a multiple of what its latest steps took, those of all
//! ranks. Ranks wait for each other: of several that do not get on, the one is stuck that does not wait.

use std::time::{Duration, Instant};

/// A rank may work for so long without progress, or for [`SLOWER`] times as long as the slowest of the latest steps took.
pub const STANDSTILL: Duration = Duration::from_secs(25);
const SLOWER: u32 = 20;
/// So long where there is no telling how long things take, because no step was taken yet: a file is opened and hashed,
/// GPUs are connected. It is also what a checkpoint may take to be written.
const AT_LEISURE: Duration = Duration::from_secs(600);
/// A device that sums may wait for one that does not come, whose rank is to be found out first.
const IN_A_SUM: Duration = Duration::from_secs(5);
/// After so many steps, what steps took before them is forgotten: the first waits for much that later ones find there.
const REMEMBERED: u32 = 32;

/// What a rank is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Work,
    /// It does what may take long and is no progress that others could see.
    Excused,
    /// It waits for its device, which sums with those of the others.
    Sum,
    /// It waits for what another rank has to say.
    Wait,
}

impl Doing {
    pub fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Excused,
            2 => Self::Sum,
            3 => Self::Wait,
            _ => Self::Work,
        }
    }
}

/// How long the latest steps of a rank took: the slowest of the latest [`REMEMBERED`] at least, and of twice as many at
/// most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    before: Duration,
    now: Duration,
    count: u32,
}

impl Pace {
    pub fn took(&mut self, time: Duration) {
        // No step is so quick that it was none.
        self.now = self.now.max(time).max(Duration::from_millis(1));
        self.count += 1;
        if self.count == REMEMBERED {
            *self = Self { before: self.now, ..Self::default() };
        }
    }

    /// Zero where there was none.
    pub fn slowest(self) -> Duration {
        self.before.max(self.now)
    }
}

/// How far a rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Counts whatever is progress.
    pub ticks: u64,
    /// The last step that was taken.
    pub step: u64,
    /// See [`Pace`].
    pub slowest: Duration,
    pub doing: Doing,
}

impl Beat {
    pub fn to_bytes(self) -> Vec<u8> {
        let slowest = u64::try_from(self.slowest.as_millis()).unwrap_or(u64::MAX);
        let numbers = [self.ticks, self.step, slowest].map(u64::to_le_bytes);
        [numbers.as_flattened(), &[self.doing as u8]].concat()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let &[ticks, step, slowest] = numbers else { return None };
        let &[doing] = rest else { return None };
        let [ticks, step, slowest] = [ticks, step, slowest].map(u64::from_le_bytes);
        Some(Self { ticks, step, slowest: Duration::from_millis(slowest), doing: Doing::of(doing) })
    }
}

/// What is known of a rank.
pub struct Pulse {
    latest: Beat,
    /// When it last got on.
    since: Instant,
}

impl Pulse {
    /// Of a rank that has not said anything, for which `step` is known.
    pub fn new(now: Instant, step: u64) -> Self {
        let latest = Beat { ticks: 0, step, slowest: Duration::ZERO, doing: Doing::Work };
        Self { latest, since: now }
    }

    pub fn feel(&mut self, beat: Beat, now: Instant) {
        if beat.ticks != self.latest.ticks {
            self.got_on(now);
        }
        self.latest = beat;
    }

    pub fn got_on(&mut self, now: Instant) {
        self.since = now;
    }

    pub fn step(&self) -> u64 {
        self.latest.step
    }
}

/// The rank that has come to a standstill, if one has.
pub fn stuck(pulses: &[Pulse], now: Instant) -> Option<usize> {
    let slowest = pulses.iter().map(|pulse| pulse.latest.slowest).max()?;
    let most = match slowest.is_zero() {
        true => AT_LEISURE,
        false => STANDSTILL.max(slowest.saturating_mul(SLOWER)),
    };
    let idle = |pulse: &Pulse| now.duration_since(pulse.since);
    let stands = |pulse: &Pulse| match pulse.latest.doing {
        Doing::Work => idle(pulse) > most,
        Doing::Excused => idle(pulse) > most.max(AT_LEISURE),
        // Whoever it waits for is looked at.
        Doing::Sum | Doing::Wait => false,
    };
    if let Some(rank) = pulses.iter().position(stands) {
        return Some(rank);
    }
    if pulses.iter().any(|pulse| matches!(pulse.latest.doing, Doing::Work | Doing::Excused)) {
        return None;
    }
    // Everybody waits: it is for nothing, or a device is stuck.
    let all_for = pulses.iter().map(idle).min()?;
    let summing = pulses.iter().position(|pulse| pulse.latest.doing == Doing::Sum);
    let patience = if summing.is_some() { most + IN_A_SUM } else { most.max(AT_LEISURE) };
    (all_for > patience).then_some(summing.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Doing::{Excused, Sum, Wait, Work};

    /// Ranks that tell of themselves, seconds after the start.
    struct Job {
        start: Instant,
        pulses: Vec<Pulse>,
    }

    impl Job {
        fn of(ranks: usize) -> Self {
            let start = Instant::now();
            Self { start, pulses: (0..ranks).map(|_| Pulse::new(start, 0)).collect() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn tells(&mut self, seconds: u64, rank: usize, ticks: u64, doing: Doing, slowest: u64) {
            let beat = Beat { ticks, step: 0, slowest: Duration::from_secs(slowest), doing };
            let now = self.at(seconds);
            self.pulses[rank].feel(beat, now);
        }

        fn stuck(&self, seconds: u64) -> Option<usize> {
            stuck(&self.pulses, self.at(seconds))
        }
    }

    #[test]
    fn beats_arrive_as_they_were_sent() {
        for doing in [Work, Excused, Sum, Wait] {
            let sent = Beat { ticks: 5, step: u64::MAX, slowest: Duration::from_millis(1234), doing };
            assert_eq!(Beat::from_bytes(&sent.to_bytes()), Some(sent));
        }
        assert_eq!(Beat::from_bytes(&[0; 24]), None);
    }

    #[test]
    fn only_who_works_without_end_is_stuck() {
        let mut job = Job::of(2);
        job.tells(0, 0, 1, Wait, 0);
        job.tells(0, 1, 1, Work, 0);
        assert_eq!(job.stuck(599), None, "no step was taken: it may be at anything");
        assert_eq!(job.stuck(601), Some(1), "and there is an end to that");
        for rank in [0, 1] {
            job.tells(602, rank, 2, Work, 1);
        }
        job.tells(603, 0, 3, Wait, 1);
        assert_eq!(job.stuck(627), None);
        assert_eq!(job.stuck(628), Some(1), "rank 0 waits for it");
    }

    /// A step of 40 s after one of 40 s, of a rank that says nothing meanwhile.
    #[test]
    fn the_first_step_tells_how_long_the_second_may_take() {
        let mut job = Job::of(2);
        for rank in [0, 1] {
            job.tells(0, rank, 1, Work, 0);
            job.tells(40, rank, 2, Work, 40);
        }
        assert_eq!(job.stuck(80), None);
        job.tells(80, 0, 3, Work, 40);
        assert_eq!(job.stuck(840), None, "20 times as long");
        assert_eq!(job.stuck(841), Some(1));
    }

    /// Rank 0's own steps are quick, and it waits for a device that sums with that of rank 1.
    #[test]
    fn nobody_is_accused_who_waits_for_another() {
        let mut job = Job::of(2);
        job.tells(0, 0, 1, Sum, 1);
        job.tells(0, 1, 1, Work, 3);
        assert_eq!(job.stuck(60), None, "a rank that is three times as slow has three times as long");
        assert_eq!(job.stuck(61), Some(1));
        // While one writes a checkpoint, another waits for it in a sum.
        let mut job = Job::of(2);
        job.tells(0, 0, 1, Excused, 1);
        job.tells(0, 1, 1, Sum, 1);
        assert_eq!(job.stuck(600), None);
        assert_eq!(job.stuck(601), Some(0), "no disk is as slow as that");
        // One that came late is waited for no longer than the others were.
        let mut job = Job::of(2);
        job.tells(0, 0, 1, Sum, 1);
        job.tells(24, 1, 1, Sum, 1);
        assert_eq!(job.stuck(54), None);
        assert_eq!(job.stuck(55), Some(0), "devices that both sum and do not come to an end");
        let mut job = Job::of(2);
        job.tells(0, 0, 1, Wait, 1);
        job.tells(0, 1, 1, Wait, 1);
        assert_eq!(job.stuck(600), None);
        assert_eq!(job.stuck(601), Some(0), "each waits for the other");
    }

    #[test]
    fn slow_steps_are_forgotten_in_the_end() {
        let mut pace = Pace::default();
        assert!(pace.slowest().is_zero());
        pace.took(Duration::ZERO);
        assert!(!pace.slowest().is_zero());
        pace.took(Duration::from_secs(9));
        for _ in 0..REMEMBERED {
            assert_eq!(pace.slowest(), Duration::from_secs(9));
            pace.took(Duration::from_secs(1));
        }
        for _ in 0..REMEMBERED {
            pace.took(Duration::from_secs(1));
        }
        assert_eq!(pace.slowest(), Duration::from_secs(1));
    }
}
