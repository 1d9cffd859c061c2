//! Work beside the order in which everything else happens: launches that nobody waits for soon, and which fill the
//! multiprocessors that other launches leave idle.
//!
//! What such a launch touches is noted by the addresses that its kernel is given. Whatever is launched later and would
//! write at one of them, or read what is written there, first waits for it. That a later launch is given another address
//! within the same buffer is not noticed. Of parameters, their gradients and targets alone operations are given parts: one of
//! parameters is the same wherever it is used, and what touches all of them at once must first call `Cuda::rejoin`; of
//! targets nothing that runs beside knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::cuda::Cuda;
use crate::cuda::driver::{Argument, Driver, Launch, Touched};
use crate::error::Result;

/// What was launched beside others and is not known to have ended.
#[derive(Default)]
pub struct Beside {
    /// Whether launches go there now.
    begun: AtomicBool,
    held: Mutex<Vec<Held>>,
}

/// Memory that the launch of this number touches.
struct Held {
    touched: Touched,
    number: u64,
}

impl Held {
    fn collides(&self, other: Touched) -> bool {
        self.touched.address == other.address && (self.touched.written || other.written)
    }
}

impl Beside {
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().expect("nothing panics while it holds this")
    }

    /// The last launch that has to end before another touches this.
    fn in_the_way(&self, touched: &[Touched]) -> Option<u64> {
        let collides = |held: &&Held| touched.iter().any(|&other| held.collides(other));
        self.held().iter().filter(collides).map(|held| held.number).max()
    }

    fn last(&self) -> Option<u64> {
        self.held().iter().map(|held| held.number).max()
    }

    fn ended(&self, number: u64) {
        self.held().retain(|held| held.number > number);
    }
}

/// A flag that is lowered where this ends, by a panic too: whoever catches it may go on with the device.
pub(in crate::cuda) struct Lowered<'f>(pub &'f AtomicBool);

impl Drop for Lowered<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl<D: Driver> Cuda<D> {
    /// What `body` launches runs beside what is launched later.
    pub(in crate::cuda) fn beside(&self, body: impl FnOnce()) {
        let within = self.beside.begun.swap(true, Ordering::Relaxed);
        assert!(!within, "what runs beside is already asked for");
        let _begun = Lowered(&self.beside.begun);
        body();
    }

    /// # Safety
    /// That of [`Driver::launch`].
    pub(in crate::cuda) unsafe fn start(
        &self,
        driver: &D,
        kernel: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<()> {
        let mut touched = Vec::new();
        arguments.iter().for_each(|argument| argument.inspect.addresses(&mut |at| touched.push(at)));
        if self.beside.is_begun() {
            // SAFETY: the caller's; what is launched later waits where it touches the same memory.
            let number = unsafe { driver.launch_beside(kernel, launch, arguments) }?;
            self.beside.held().extend(touched.into_iter().map(|touched| Held { touched, number }));
            return Ok(());
        }
        self.await_number(driver, self.beside.in_the_way(&touched))?;
        // SAFETY: the caller's.
        unsafe { driver.launch(kernel, launch, arguments) }
    }

    /// What is launched from now on, as part of the same operation or a later one, comes after all that runs beside it.
    pub(in crate::cuda) fn rejoin(&self) {
        self.operate(|_| Ok(()));
    }

    /// What is asked for from now on comes after all that runs beside it.
    pub(in crate::cuda) fn await_beside(&self, driver: &D) -> Result<()> {
        self.await_number(driver, self.beside.last())
    }

    fn await_number(&self, driver: &D, number: Option<u64>) -> Result<()> {
        let Some(number) = number else { return Ok(()) };
        driver.await_beside(number)?;
        self.beside.ended(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{AdamStep, Backend, Clear, Memory, Purpose, Update};
    use crate::cuda::driver::emulated::{Emulated, Schedule};
    use crate::cuda::{Buffer, partial};

    type Device = Cuda<Emulated>;
    const PARTS: usize = 3;
    const LEN: usize = 40;

    fn add(ops: &Device, parts: &Buffer<Emulated>, sum: &mut Buffer<Emulated>) {
        partial::add(ops, parts.read(PARTS * LEN), sum.write(LEN), PARTS, LEN);
    }

    /// What becomes of a sum of threes that is made beside, and of a second sum, where `body` is launched after it.
    fn sums(
        schedule: Schedule,
        body: impl FnOnce(&Device, &mut Buffer<Emulated>, &mut [Buffer<Emulated>; 2]),
    ) -> [f32; 2] {
        let ops = Cuda::new(Emulated::new(schedule, usize::MAX));
        let zeros = |len| ops.zeros(Purpose::Images, len);
        let (mut parts, mut sums) = (zeros(PARTS * LEN), [zeros(LEN), zeros(LEN)]);
        ops.upload(&[1.0; PARTS * LEN], &mut parts);
        ops.upload(&[5.0; LEN], &mut sums[1]);
        ops.beside(|| add(&ops, &parts, &mut sums[0]));
        body(&ops, &mut parts, &mut sums);
        let values = [0, 1].map(|i| {
            let mut values = [f32::NAN; LEN];
            ops.download(&sums[i], &mut values);
            assert!(values.iter().all(|&value| value == values[0]));
            values[0]
        });
        ops.finish().unwrap();
        values
    }

    const SCHEDULES: [Schedule; 2] = [Schedule::Forward, Schedule::Reverse];

    #[test]
    fn who_would_write_what_is_read_waits() {
        for schedule in SCHEDULES {
            let made = sums(schedule, |ops, parts, [_, second]| {
                // The first of the parts would be six.
                partial::add(ops, second.read(LEN), parts.write(LEN), 1, LEN);
            });
            assert_eq!(made, [3.0, 5.0], "{schedule}");
        }
    }

    #[test]
    fn who_would_read_what_is_written_waits() {
        for schedule in SCHEDULES {
            let made = sums(schedule, |ops, _, [first, second]| {
                partial::add(ops, first.read(LEN), second.write(LEN), 1, LEN);
            });
            assert_eq!(made, [3.0, 8.0], "{schedule}");
        }
    }

    #[test]
    fn who_reads_the_same_does_not_wait() {
        for schedule in SCHEDULES {
            let made = sums(schedule, |ops, parts, [_, second]| {
                add(ops, parts, second);
                let late = ops.beside.last();
                assert!(late.is_some(), "{schedule}: nothing is in the way of it");
            });
            assert_eq!(made, [3.0, 8.0], "{schedule}");
        }
    }

    /// Data consistency reads its weight from the middle of the parameters, and nobody may have waited for it yet.
    #[test]
    fn who_would_change_all_parameters_waits_for_who_reads_a_part() {
        for schedule in SCHEDULES {
            let ops = Cuda::new(Emulated::new(schedule, usize::MAX));
            let vector = |value: f32| {
                let mut buffer = ops.zeros(Purpose::Parameters, LEN);
                ops.upload(&[value; LEN], &mut buffer);
                buffer
            };
            let [mut parameters, forget] = [3.0, 1.0].map(vector);
            let [mut sum, mut moment, mut other, mut norm] = [0.0; 4].map(vector);
            let part = LEN / 2;
            ops.beside(|| partial::add(&ops, parameters.read_from(part, part), sum.write(part), 1, part));
            let adam = AdamStep { lr: 1.0, beta1: 0.9, beta2: 0.9, eps: 1.0, step: 1, clip: None, l1: 0.0 };
            ops.run(Update {
                adam,
                parameters: &mut parameters,
                mask: None,
                gradient: &forget,
                first_moment: &mut moment,
                second_moment: &mut other,
                norm: &mut norm,
            });
            let mut values = [f32::NAN; LEN];
            ops.download(&sum, &mut values);
            assert_eq!(values[..part], [3.0; LEN / 2], "{schedule}");
            ops.download(&parameters, &mut values);
            ops.finish().unwrap();
            assert!(values.iter().all(|&value| value < 3.0), "{schedule}: {values:?}");
        }
    }

    /// Without the notes the other tests would find nothing out: the emulated device is late where it may be.
    #[test]
    fn a_launch_that_nobody_waits_for_is_late() {
        for (schedule, first) in SCHEDULES.into_iter().zip([3.0, 0.0]) {
            let made = sums(schedule, |ops, parts, _| {
                ops.beside.ended(u64::MAX);
                ops.run(Clear { buffer: parts });
            });
            assert_eq!(made, [first, 5.0], "{schedule}");
        }
    }

    #[test]
    fn a_recording_ends_with_all_that_it_began() {
        let ops = Cuda::new(Emulated::new(Schedule::Reverse, usize::MAX));
        let (mut parts, mut sum) = (ops.zeros(Purpose::Images, PARTS * LEN), ops.zeros(Purpose::Images, LEN));
        ops.upload(&[1.0; PARTS * LEN], &mut parts);
        let mut tape = Default::default();
        for _ in 0..4 {
            ops.repeat(&mut tape, || ops.beside(|| add(&ops, &parts, &mut sum)));
        }
        let mut values = [f32::NAN; LEN];
        ops.download(&sum, &mut values);
        ops.finish().unwrap();
        assert_eq!(values, [12.0; LEN]);
    }

    #[test]
    fn a_panic_lowers_the_flag() {
        let ops = Cuda::new(Emulated::new(Schedule::Forward, usize::MAX));
        let panicking = || ops.beside(|| panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
        assert!(!ops.beside.is_begun());
    }
}
