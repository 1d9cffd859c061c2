//! How far a command has come: a bar on a terminal, plain lines elsewhere, both on standard error.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Plain lines come at every tenth of the work, but no closer than the first of these, and no further apart than the
/// second while there are steps.
const CLOSEST: Duration = Duration::from_secs(2);
const FURTHEST: Duration = Duration::from_secs(30);

static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on this process says nothing: another speaks for it.
pub fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether another process speaks for this one.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// A line for the user that is no result, unless another process speaks for this one.
pub fn say(text: &str) {
    if !is_silent() {
        write_line(text);
    }
}

/// What the user may not have meant, and what to do if so.
pub fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

/// The same, but once: for what is found again and again.
pub fn warn_once(text: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_string()) {
        warn(text);
    }
}

static DONE: AtomicU64 = AtomicU64::new(0);

/// Something was done that may take long, such as reading a file: other processes that wait for this one are to see that
/// it gets on.
pub fn got_on() {
    DONE.fetch_add(1, Ordering::Relaxed);
}

/// How often it got on.
pub fn done() -> u64 {
    DONE.load(Ordering::Relaxed)
}

/// Counts steps of known number and says so.
pub struct Progress {
    title: String,
    len: u64,
    done: u64,
    shown: Shown,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Lines),
}

struct Lines {
    started: Instant,
    last: Instant,
    /// The tenth of the work that the last line spoke of.
    tenth: u64,
    /// At least one line was written, so the end is worth one.
    spoken: bool,
}

impl Progress {
    /// `title` says what is being done: "evaluating".
    pub fn new(len: u64, title: &str) -> Self {
        let shown = if is_silent() {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
            let style = "{prefix} {wide_bar} {pos}/{len} {elapsed} (left: {eta}) {msg}";
            bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
            bar.set_prefix(title.to_string());
            bar.tick();
            Shown::Bar(bar)
        } else {
            let now = Instant::now();
            Shown::Lines(Lines { started: now, last: now, tenth: 0, spoken: false })
        };
        Self { title: title.to_string(), len, done: 0, shown }
    }

    /// One step is done. `message` says how it went ("loss 0.123"), and may be empty.
    pub fn step(&mut self, message: &str) {
        self.done += 1;
        got_on();
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                if !message.is_empty() {
                    bar.set_message(message.to_string());
                }
                bar.inc(1);
            }
            Shown::Lines(lines) => {
                if lines.due(self.done, self.len) {
                    let text = lines.text(&self.title, self.done, self.len, message);
                    write_line(&text);
                }
            }
        }
    }

    /// Writes a line of its own, above the bar.
    pub fn line(&mut self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.suspend(|| write_line(text)),
            Shown::Lines(_) => write_line(text),
        }
    }

    /// Takes the bar away. Dropping does so too.
    pub fn finish(self) {
        if let Shown::Lines(lines) = &self.shown
            && lines.spoken
        {
            let took = HumanDuration(lines.started.elapsed());
            write_line(&format!("{}: {} of {} done in {took}", self.title, self.done, self.len));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    /// Whether step `done` is worth a line. The last step is not: `finish` speaks of it.
    fn due(&mut self, done: u64, len: u64) -> bool {
        let tenth = 10 * done / len.max(1);
        let since = self.last.elapsed();
        let due = done < len && (since >= FURTHEST || since >= CLOSEST && tenth > self.tenth);
        if due {
            (self.tenth, self.last, self.spoken) = (tenth, Instant::now(), true);
        }
        due
    }

    fn text(&self, title: &str, done: u64, len: u64, message: &str) -> String {
        let elapsed = self.started.elapsed();
        let left = elapsed.mul_f64(len.saturating_sub(done) as f64 / done as f64);
        let message = if message.is_empty() { String::new() } else { format!(", {message}") };
        let percent = 100 * done / len.max(1);
        format!("{title}: {done} of {len} ({percent} %), about {} left{message}", HumanDuration(left))
    }
}

/// Standard error may be closed; work goes on without it.
fn write_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_with_tenths_and_seconds() {
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let mut lines = Lines { started: ago(40), last: ago(40), tenth: 0, spoken: false };
        assert!(lines.due(1, 1000), "it has been silent for long");
        assert!(!lines.due(2, 1000));
        assert!(!lines.due(100, 1000), "too soon");
        lines.last = ago(3);
        assert!(!lines.due(99, 1000), "no tenth is complete");
        assert!(lines.due(100, 1000));
        lines.last = ago(40);
        assert!(!lines.due(1000, 1000), "the end is said by finish");
        let text = lines.text("evaluating", 250, 1000, "loss 0.5");
        assert_eq!(text, "evaluating: 250 of 1000 (25 %), about 2 minutes left, loss 0.5");
    }
}
