//! How ranks find each other: rank 0 listens, the others come with two connections each and say who they are.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::place::Place;
use super::wire::{self, Tag, tag};
use crate::error::{Error, Result};
use crate::progress::{say, silence};

/// How long ranks wait for each other at the start: nodes of a job may come up minutes apart.
const PATIENCE: Duration = Duration::from_secs(300);
/// In seconds, in its place.
const PATIENCE_VARIABLE: &str = "KERASE_MEETING_SECONDS";
/// After this, whoever watches is told who is waited for.
const UNEASE: Duration = Duration::from_secs(10);
/// A stranger that connects and says nothing is not waited for.
const SILENCE: Duration = Duration::from_secs(5);
/// How long ranks that come to a refusal are still told of it.
const REFUSING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Set where the socket to listen on is this process's standard input.
pub const LISTENER_VARIABLE: &str = "KERASE_LISTENER_ON_STDIN";

const HELLO: Tag = tag("hello");
const WELCOME: Tag = tag("welcome");

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Line {
    /// What the ranks compute together.
    Work,
    /// Whether they are alive.
    Watch,
}

#[derive(Serialize, Deserialize)]
struct Hello {
    version: String,
    rank: usize,
    size: usize,
    line: Line,
    host: String,
}

#[derive(Serialize, Deserialize)]
enum Welcome {
    /// The ranks' machines.
    Hosts(Vec<String>),
    Refused(String),
}

/// Connections to the other ranks: on rank 0 to ranks 1, 2, …, elsewhere to rank 0 alone.
pub struct Met {
    pub work: Vec<TcpStream>,
    pub watch: Vec<TcpStream>,
    /// Each rank's machine.
    pub hosts: Vec<String>,
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How long to wait.
struct Patience<'p> {
    deadline: Instant,
    /// When somebody is to be told; none once they are.
    told_at: Cell<Option<Instant>>,
    /// Whoever raises it wants to wait no longer.
    stop: &'p AtomicBool,
}

impl Patience<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() > self.deadline
    }

    /// Says once what is waited for, where that takes long.
    fn say(&self, what: impl Fn() -> String) {
        if self.told_at.get().is_some_and(|at| Instant::now() > at) {
            self.told_at.set(None);
            let left = self.deadline.saturating_duration_since(Instant::now()).as_secs();
            say(&format!("{}, for another {left} s at the most ({PATIENCE_VARIABLE} says how long)", what()));
        }
    }

    /// Waits until a stream has something to read, is closed, or nobody wants to wait any longer.
    fn watch(&self, stream: &TcpStream) -> io::Result<()> {
        wire::prepare(stream, Some(PAUSE))?;
        loop {
            match stream.peek(&mut [0]) {
                Err(error) if would_block(&error) && !self.is_over() => {}
                found => return found.map(|_| ()),
            }
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Waits until all ranks are there, or `stop` is raised.
///
/// # Errors
/// [`Error::Input`] where rank 0 cannot listen, a rank does not come in time, or they are not of one kind. Where rank 0 says
/// so, the others are silent.
pub fn meet(place: &Place, listener: Option<TcpListener>, stop: &AtomicBool) -> Result<Met> {
    let now = Instant::now();
    let patience = Patience { deadline: now + patience()?, told_at: Cell::new(Some(now + UNEASE)), stop };
    if place.is_first() {
        let listener = match listener.or_else(inherited) {
            Some(listener) => listener,
            None => listen(&place.address)?,
        };
        receive_all(place, &listener, patience)
    } else {
        go_there(place, patience)
    }
}

fn patience() -> Result<Duration> {
    match std::env::var(PATIENCE_VARIABLE) {
        Ok(text) => text.parse().map(Duration::from_secs).map_err(|_| {
            Error::input(format!("{PATIENCE_VARIABLE}={text} in the environment: expected seconds"))
        }),
        Err(_) => Ok(PATIENCE),
    }
}

/// What this build is, so that ranks of different ones do not compute together.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    option_env!("KERASE_COMMIT").map_or(version.to_string(), |commit| format!("{version} ({commit})"))
}

/// The socket that the process which started this one has bound for it.
fn inherited() -> Option<TcpListener> {
    std::env::var_os(LISTENER_VARIABLE)?;
    std::io::stdin().as_fd().try_clone_to_owned().ok().map(TcpListener::from)
}

fn listen(address: &str) -> Result<TcpListener> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).unwrap_or(0);
    // On all of the machine's addresses: its name may stand for another than the one that the others reach it by.
    TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))).map_err(|error| {
        Error::input(format!("rank 0 cannot listen on port {port}: {error}; choose another MASTER_PORT"))
    })
}

fn receive_all(place: &Place, listener: &TcpListener, mut patience: Patience) -> Result<Met> {
    let cannot = |error: io::Error| Error::Device(format!("rank 0 cannot wait for the others: {error}"));
    listener.set_nonblocking(true).map_err(cannot)?;
    let mut hosts: BTreeMap<usize, String> = [(0, host())].into();
    let mut came: BTreeMap<(Line, usize), TcpStream> = BTreeMap::new();
    let (mut wrong, mut strangers) = (None, Vec::new());
    while came.len() < 2 * (place.size - 1) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // Whoever does not say hello is not one of us.
                let Ok(hello) = hello(&mut stream) else { continue };
                let again = came.contains_key(&(hello.line, hello.rank));
                if let Some(what) = contradiction(place, &hello, again) {
                    // The others are to hear of it too.
                    patience.deadline = patience.deadline.min(Instant::now() + REFUSING);
                    wrong.get_or_insert(what);
                    strangers.push(stream);
                    continue;
                }
                hosts.insert(hello.rank, hello.host);
                came.insert((hello.line, hello.rank), stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let missing = || -> Vec<String> {
                    let away = (1..place.size).filter(|rank| !hosts.contains_key(rank));
                    away.map(|rank| rank.to_string()).collect()
                };
                if patience.is_over() {
                    wrong.get_or_insert_with(|| format!(
                        "of {} ranks, {} did not come to {} in time (rank {}): start them, or set WORLD_SIZE to as many \
                         as there are",
                        place.size,
                        missing().len(),
                        place.address,
                        missing().join(", ")
                    ));
                    break;
                }
                patience.say(|| {
                    format!(
                        "rank 0 waits at {} for rank {} of {}",
                        place.address,
                        missing().join(", "),
                        place.size
                    )
                });
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(cannot(error)),
        }
    }
    let answer = match &wrong {
        Some(what) => Welcome::Refused(what.clone()),
        None => Welcome::Hosts(hosts.into_values().collect()),
    };
    let text = serde_json::to_vec(&answer).expect("plain data");
    for stream in came.values_mut().chain(&mut strangers) {
        // One that is gone by now will be missed soon enough.
        let _ = wire::send(stream, WELCOME, &text);
    }
    match answer {
        Welcome::Refused(what) => Err(Error::Input(what)),
        Welcome::Hosts(hosts) => {
            let (work, watch): (Vec<_>, Vec<_>) =
                came.into_iter().partition(|((line, _), _)| *line == Line::Work);
            let streams = |lines: Vec<(_, TcpStream)>| lines.into_iter().map(|(_, stream)| stream).collect();
            Ok(Met { work: streams(work), watch: streams(watch), hosts })
        }
    }
}

fn hello(stream: &mut TcpStream) -> io::Result<Hello> {
    stream.set_nonblocking(false)?;
    wire::prepare(stream, Some(SILENCE))?;
    let hello = wire::receive(stream, HELLO)?;
    wire::prepare(stream, None)?;
    Ok(serde_json::from_slice(&hello)?)
}

/// What is wrong with a rank that came.
fn contradiction(place: &Place, hello: &Hello, again: bool) -> Option<String> {
    let Hello { version: theirs, rank, size, host, .. } = hello;
    let own = version();
    if *theirs != own {
        return Some(format!(
            "rank {rank} on {host} is kerase {theirs}, rank 0 is kerase {own}: run one build on all nodes"
        ));
    }
    if *size != place.size {
        return Some(format!("rank {rank} on {host} is one of {size} ranks, rank 0 one of {}", place.size));
    }
    if *rank == 0 || *rank >= place.size || again {
        return Some(format!(
            "a second rank {rank} of {size} came, from {host}: does another job use this MASTER_PORT?"
        ));
    }
    None
}

fn go_there(place: &Place, patience: Patience) -> Result<Met> {
    let line = |line| -> Result<TcpStream> {
        let mut stream = connect(place, &patience)?;
        let hello = Hello { version: version(), rank: place.rank, size: place.size, line, host: host() };
        let hello = serde_json::to_vec(&hello).expect("plain data");
        let lost = |error: io::Error| {
            Error::input(format!("rank {}: rank 0 at {} does not answer: {error}", place.rank, place.address))
        };
        wire::prepare(&stream, None).and_then(|()| wire::send(&mut stream, HELLO, &hello)).map_err(lost)?;
        Ok(stream)
    };
    // Both first: rank 0 answers when all have come.
    let mut work = line(Line::Work)?;
    let mut watch = line(Line::Watch)?;
    let mut hosts = Vec::new();
    // Rank 0 waits for the last that comes, and then tells all.
    let patience = Patience { deadline: patience.deadline + SILENCE, ..patience };
    for stream in [&mut work, &mut watch] {
        let answer = patience
            .watch(stream)
            .and_then(|()| wire::prepare(stream, Some(SILENCE)))
            .and_then(|()| wire::receive(stream, WELCOME))
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .and_then(|answer| wire::prepare(stream, None).map(|()| answer));
        match answer {
            Ok(Welcome::Hosts(names)) => hosts = names,
            Ok(Welcome::Refused(what)) => {
                silence();
                return Err(Error::Input(what));
            }
            Err(error) => {
                let why = match would_block(&error) {
                    true => "if another program listens there, choose another MASTER_PORT".to_string(),
                    false => error.to_string(),
                };
                return Err(Error::input(format!(
                    "rank {}: rank 0 at {} does not answer: {why}",
                    place.rank, place.address
                )));
            }
        }
    }
    Ok(Met { work: vec![work], watch: vec![watch], hosts })
}

/// Rank 0 may start later than the others.
fn connect(place: &Place, patience: &Patience) -> Result<TcpStream> {
    let mut latest = "its name is not known".to_string();
    loop {
        for address in place.address.to_socket_addrs().into_iter().flatten() {
            match TcpStream::connect_timeout(&address, SILENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => latest = error.to_string(),
            }
        }
        if patience.is_over() {
            return Err(Error::input(format!(
                "rank {} on {} cannot reach rank 0 at {}: {latest}; MASTER_ADDR must name rank 0's machine",
                place.rank,
                host(),
                place.address
            )));
        }
        patience.say(|| {
            format!("rank {} on {} waits for rank 0 at {}: {latest}", place.rank, host(), place.address)
        });
        std::thread::sleep(5 * PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_another_build_are_named() {
        let place = Place { rank: 0, size: 2, ..Place::ALONE };
        let hello = |version: String| Hello { version, rank: 1, size: 2, line: Line::Work, host: "b".into() };
        assert_eq!(contradiction(&place, &hello(version()), false), None);
        let other = env!("CARGO_PKG_VERSION").to_string() + " (0123abc)";
        let said = contradiction(&place, &hello(other), false).unwrap();
        assert!(said.contains("rank 1 on b is kerase") && said.contains("0123abc"), "{said}");
    }
}
