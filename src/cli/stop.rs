//! Signals that ask a run to finish its step and save: Ctrl-C, SIGTERM, and SIGUSR1, with which SLURM warns of the end.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::atomic;
use crate::error::{Error, Result};

/// The flag that a run looks at between steps.
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// Ctrl-C was among what raised it: whoever started ranks passes it on to them as SIGTERM.
    interrupted: Arc<AtomicBool>,
}

impl Deref for Stop {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.flag
    }
}

impl Stop {
    /// Ends the program. Whoever pressed Ctrl-C gets a shell's exit code for it, 130: what a script would do next needs a
    /// finished run. A scheduler that takes the machine back finds nothing wrong, 0.
    pub fn exit(&self) -> ! {
        std::process::exit(if self.interrupted() { 128 + SIGINT } else { 0 })
    }

    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// A write beyond the limit of a file's size (`ulimit -f`, a batch system's) fails as on a full disk, where the system would
/// end the program without a word. Where no handler can be had, it does.
pub fn full_quotas_are_errors() {
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Ctrl-C and SIGTERM end the program as they do without this, but that half-written files are removed before: for commands
/// that do not go on from where they were stopped. Where no handler can be had, the files stay.
pub fn leaving_nothing_half_written() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            atomic::remove_partial();
            let _ = emulate_default_handler(signal);
        }
    });
}

/// # Errors
/// Where the operating system takes no handlers.
pub fn on_signals() -> Result<Stop> {
    let stop = Stop { flag: Arc::default(), interrupted: Arc::default() };
    // In this order: the first Ctrl-C finds the flag down and only raises it, a second ends the program at once. The other
    // signals may come twice for one reason, from a scheduler to a job and to its steps.
    let handled = flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, stop.interrupted.clone())
        .and_then(|_| flag::register(SIGINT, stop.interrupted.clone()))
        .and_then(|_| {
            let raise = |signal| flag::register(signal, stop.flag.clone()).map(|_| ());
            [SIGINT, SIGTERM, SIGUSR1].into_iter().try_for_each(raise)
        });
    handled.map_err(|error| Error::input(format!("cannot handle signals: {error}")))?;
    Ok(stop)
}
