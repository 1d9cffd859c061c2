//! SIGINT and SIGTERM: the first asks a run to finish its step and save, a second ends the program at once.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// The flag that a run looks at between steps, and the signal that raised it.
pub struct Stop {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Deref for Stop {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.flag
    }
}

impl Stop {
    /// Ends the program with the exit code that a shell gives for the signal: 130 for Ctrl-C, 143 for SIGTERM.
    pub fn exit(&self) -> ! {
        std::process::exit(128 + self.signal.load(Ordering::Relaxed) as i32)
    }
}

/// # Errors
/// Where the operating system takes no handlers.
pub fn on_signals() -> Result<Stop> {
    let stop = Stop { flag: Arc::default(), signal: Arc::default() };
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down and only raises it.
        flag::register_conditional_shutdown(signal, 128 + signal, stop.flag.clone())
            .and_then(|_| flag::register_usize(signal, stop.signal.clone(), signal as usize))
            .and_then(|_| flag::register(signal, stop.flag.clone()))
            .map_err(|error| Error::input(format!("cannot handle signal {signal}: {error}")))?;
    }
    Ok(stop)
}
