//! Ranks as torchrun starts them: a process each, told in the environment who it is.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Folder;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn lines_of(log: &Path) -> usize {
    std::fs::read_to_string(log).map_or(0, |text| text.lines().count())
}

fn kerase() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kerase"))
}

/// Ranks at work.
pub struct Job {
    ranks: Vec<Child>,
}

/// How they ended.
pub struct JobEnded {
    /// None for one that was killed.
    pub codes: Vec<Option<i32>>,
    /// What all of them said.
    pub text: String,
}

impl Job {
    /// Starts `size` ranks with one command line.
    pub fn start(folder: &Folder, size: usize, arguments: &str) -> Self {
        Self::with(folder, size, arguments, |_, _| {})
    }

    /// Starts ranks with a command line each.
    pub fn each(folder: &Folder, size: usize, arguments: impl Fn(usize) -> String) -> Self {
        Self::made(kerase(), folder, size, arguments, |_, _| {})
    }

    /// Starts ranks whose commands are changed first.
    pub fn with(folder: &Folder, size: usize, arguments: &str, change: impl Fn(&mut Command, usize)) -> Self {
        Self::made(kerase(), folder, size, |_| arguments.to_string(), change)
    }

    /// Starts ranks that are this test program itself, one of its tests, with a variable in their environment.
    pub fn of_test(folder: &Folder, size: usize, test: &str, (name, value): (&str, &str)) -> Self {
        let program = std::env::current_exe().unwrap();
        let arguments = format!("{test} --exact --include-ignored --nocapture");
        Self::made(
            &program,
            folder,
            size,
            |_| arguments.clone(),
            |command, _| {
                command.env(name, value);
            },
        )
    }

    fn made(
        program: &Path,
        folder: &Folder,
        size: usize,
        arguments: impl Fn(usize) -> String,
        change: impl Fn(&mut Command, usize),
    ) -> Self {
        let port = free_port();
        let start = |rank: usize| {
            let mut command = Command::new(program);
            command.current_dir(folder.path("")).args(arguments(rank).split_whitespace());
            command.env("WORLD_SIZE", size.to_string()).env("RANK", rank.to_string());
            command.env("LOCAL_RANK", rank.to_string());
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            command.env("RAYON_NUM_THREADS", "1");
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            change(&mut command, rank);
            command.spawn().unwrap()
        };
        Self { ranks: (0..size).map(start).collect() }
    }

    /// Waits until a run has logged so many lines.
    pub fn wait_for_lines(&mut self, log: &Path, lines: usize) {
        let started = Instant::now();
        while lines_of(log) < lines {
            assert!(started.elapsed() < Duration::from_secs(60), "no {lines} lines in {}", log.display());
            assert!(self.ranks[0].try_wait().unwrap().is_none(), "the run ended before line {lines}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn signal(&self, rank: usize, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.ranks[rank].id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Waits for one rank.
    #[track_caller]
    pub fn wait_for(&mut self, rank: usize, most: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].try_wait().unwrap() {
                return status.code();
            }
            if started.elapsed() > most {
                self.ranks.iter_mut().for_each(|child| drop(child.kill()));
                panic!("rank {rank} has not ended in {most:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for all.
    #[track_caller]
    pub fn wait(&mut self, most: Duration) -> JobEnded {
        let codes = (0..self.ranks.len()).map(|rank| self.wait_for(rank, most)).collect();
        let mut text = String::new();
        for child in &mut self.ranks {
            for pipe in [
                child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
                child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
            ] {
                pipe.into_iter().for_each(|mut pipe| drop(pipe.read_to_string(&mut text)));
            }
        }
        JobEnded { codes, text }
    }
}
