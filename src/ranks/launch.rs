//! Ranks of one machine, started from one command.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{AGENT_LISTENS, LOCAL_SIZE};
use super::rendezvous::LISTENER_VARIABLE;
use crate::error::{Error, Result};
use crate::progress::say;

const PAUSE: Duration = Duration::from_millis(20);
/// How long the others have to leave when one rank has failed: rank 0 tells them to.
const FAREWELL: Duration = Duration::from_secs(15);

/// Runs this very command in `size` processes, each of them a rank, and waits for them. `stop`, once true, is passed on.
/// Returns the exit code: 0 where all left with 0, else that of the first rank that did not.
///
/// # Errors
/// Where they cannot be started.
pub fn launch(size: usize, stop: &AtomicBool) -> Result<u8> {
    let cannot = |error: std::io::Error| Error::input(format!("cannot start {size} ranks: {error}"));
    let program = std::env::current_exe().map_err(cannot)?;
    // Where the ranks meet: rank 0 is given the socket itself, so that nobody else can take the port meanwhile.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    let mut listener = Some(listener);
    let mut ranks: Vec<Option<Child>> = Vec::new();
    for rank in 0..size {
        let mut command = Command::new(&program);
        command
            .args(std::env::args_os().skip(1))
            .env("WORLD_SIZE", size.to_string())
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env(LOCAL_SIZE, size.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env_remove(AGENT_LISTENS);
        // Rank 0 is the first.
        if let Some(listener) = listener.take() {
            command.stdin(Stdio::from(OwnedFd::from(listener))).env(LISTENER_VARIABLE, "1");
        }
        match command.spawn() {
            Ok(child) => ranks.push(Some(child)),
            Err(error) => {
                ranks.iter_mut().flatten().for_each(|child| drop(child.kill()));
                return Err(cannot(error));
            }
        }
    }
    let mut codes = vec![0; size];
    let (mut passed_on, mut failed, mut killed) = (false, None, false);
    while ranks.iter().any(Option::is_some) {
        if stop.load(Ordering::Relaxed) && !passed_on {
            passed_on = true;
            ranks.iter().flatten().for_each(|child| signal(child, Signal::TERM));
        }
        for (rank, (slot, code)) in ranks.iter_mut().zip(&mut codes).enumerate() {
            let Some(child) = slot else { continue };
            let Some(status) = child.try_wait().map_err(cannot)? else { continue };
            if status.signal().is_some() && !killed {
                say(&format!("rank {rank} ended with {status}{}", why_killed(status)));
            }
            // One that was killed has no code.
            *code = status.code().map_or(1, |code| code.clamp(0, 255) as u8);
            if *code != 0 {
                failed.get_or_insert_with(Instant::now);
            }
            *slot = None;
        }
        if failed.is_some_and(|at: Instant| at.elapsed() > FAREWELL) {
            killed = true;
            ranks.iter_mut().flatten().for_each(|child| drop(child.kill()));
        }
        std::thread::sleep(PAUSE);
    }
    // Rank 0 speaks for all.
    Ok(codes.into_iter().find(|&code| code != 0).unwrap_or(0))
}

/// What a process that ended by itself would have said.
pub fn why_killed(status: ExitStatus) -> &'static str {
    match status.signal() {
        Some(9) => ": so the system ends processes where memory runs out",
        _ => "",
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // One that has just left needs no signal.
        let _ = kill_process(pid, signal);
    }
}
