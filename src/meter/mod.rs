//! Any backend with a meter on it: what each operation of a pass has to do, and how long it takes.
//!
//! The network runs as it is, so that no operation is forgotten and none is counted with another shape. A meter that
//! only counts carries nothing out, and works for devices that are not there.

pub mod ceiling;
pub mod cost;
pub mod ledger;
mod operations;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use crate::backend::*;
use crate::error::Result;
use crate::precision::Precision;
use ledger::Ledger;

/// A backend whose operations are metered; buffers are its own.
pub struct Metered<'o, O: Backend> {
    ops: &'o O,
    /// What maps are counted with.
    precision: Precision,
    how: How<O>,
    preparing: AtomicBool,
    notes: Mutex<Notes<O>>,
}

enum How<O: Backend> {
    Count,
    /// Before each operation so much is read that its operands are in no cache. None: they come as they are.
    Time {
        flush: Option<Flush<O::Buffer>>,
    },
}

/// What is read to have caches full of it.
struct Flush<B> {
    read: B,
    written: Mutex<B>,
    shape: ImageShape,
}

/// Coils of what is read: it is so many times what is written meanwhile.
const FLUSHED_COILS: usize = 512;

impl<B> Flush<B> {
    /// At least `reals`, which are written here and never again.
    fn new<O: Backend<Buffer = B>>(ops: &O, reals: usize) -> Self {
        let columns = reals.div_ceil(2 * FLUSHED_COILS);
        let shape = ImageShape { n: 1, coils: FLUSHED_COILS, rows: 1, columns };
        let zeros = |len| ops.zeros(Purpose::Scratch, len);
        Self { read: zeros(shape.multicoil()), written: Mutex::new(zeros(shape.combined())), shape }
    }

    fn carry_out<O: Backend<Buffer = B>>(&self, ops: &O) {
        let written = &mut *self.written.lock().expect("nothing panics while it holds this");
        // By reading: of lines that were written, the next operation would have to pay for their way back to memory.
        ops.run(SensReduce {
            shape: self.shape,
            sens_maps: &self.read,
            images: &self.read,
            combined: written,
        });
    }
}

struct Notes<O: Backend> {
    ledger: Ledger,
    /// Entries whose operations are under way, with the marks round them.
    marks: Vec<(usize, O::Mark, O::Mark)>,
}

impl<'o, O: Backend> Metered<'o, O> {
    /// Operations are counted and left out. `precision`: of `ops`.
    pub fn counting(ops: &'o O, precision: Precision) -> Self {
        Self::new(ops, precision, How::Count)
    }

    /// Operations are timed, after `flush` reals were read.
    pub fn timing(ops: &'o O, precision: Precision, flush: usize) -> Self {
        let flush = (flush > 0).then(|| Flush::new(ops, flush));
        Self::new(ops, precision, How::Time { flush })
    }

    fn new(ops: &'o O, precision: Precision, how: How<O>) -> Self {
        let notes = Mutex::new(Notes { ledger: Ledger::default(), marks: Vec::new() });
        Self { ops, precision, how, preparing: AtomicBool::new(false), notes }
    }

    /// What was noted since the last time.
    ///
    /// # Errors
    /// Where the device failed.
    pub fn take(&self) -> Result<Ledger> {
        self.settle()?;
        Ok(std::mem::take(&mut self.notes().ledger))
    }

    /// Waits, and turns marks into seconds.
    fn settle(&self) -> Result<()> {
        self.ops.finish()?;
        let Notes { ledger, marks } = &mut *self.notes();
        for (entry, from, to) in marks.drain(..) {
            ledger.took(entry, self.ops.seconds(&from, &to));
        }
        self.ops.finish()
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes<O>> {
        self.notes.lock().expect("nothing panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Cuda;
    use crate::cuda::driver::emulated::Emulated;
    use ceiling::Ceiling;

    #[test]
    fn what_empties_the_caches_is_not_metered() {
        let ops = Cuda::new(Emulated::default());
        let metered = Metered::timing(&ops, Precision::Fp32, 5000);
        let mut buffer = metered.zeros(Purpose::Images, 3);
        (0..2).for_each(|_| metered.run(Clear { buffer: &mut buffer }));
        let rows = metered.take().unwrap().rows(1, Ceiling::named("H100").unwrap());
        let called: Vec<_> = rows.iter().map(|row| (row.operation.as_str(), row.calls)).collect();
        assert_eq!(called, [("clear", 2.0)]);
    }
}
