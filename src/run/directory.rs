//! A run's directory: what lies where, and whether a new run may use it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic;
use crate::error::{Error, Result};
use crate::json;
use crate::progress::say;

/// Files that make a directory a run's.
const FILES: [&str; 12] = [
    "audit.html",
    "audit.json",
    "best/model.safetensors",
    "best/state.safetensors",
    "config.toml",
    "mask.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "scores.json",
    "state.safetensors",
    "summary.json",
    "unlearning.json",
];

/// Of these, what a run has before it has saved anything, and may lose: one that failed or was killed before is begun again.
const BEGINNING: [&str; 2] = ["config.toml", "metrics.jsonl"];

/// Those that are written when a run ends.
const RESULTS: [&str; 2] = ["summary.json", "unlearning.json"];

/// What an audit leaves: evidence about weights that a run which goes on no longer has.
const AUDIT: [&str; 2] = ["audit.html", "audit.json"];

/// What to do with a directory that may hold a run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It must not.
    New,
    /// Its files are removed first.
    Overwrite,
    /// It must, and the run goes on.
    Resume,
}

/// Not a file of the run: who holds it is at work there.
const LOCK: &str = ".lock";

/// The right to write into a run's directory; a process that dies gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// False where the disk has no locks: others may be at work there.
    alone: bool,
}

#[derive(Clone, Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Only looks; nothing is created or removed before [`Self::take`].
    ///
    /// # Errors
    /// A directory that holds a run where none is wanted, or none where one is.
    pub fn check(path: &Path, start: Start) -> Result<Self> {
        let directory = Self { path: path.to_path_buf() };
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            return Err(Error::input(format!("{shown} is a file; a run needs a directory")));
        }
        if directory.is_of_best() {
            return Err(Error::input(format!(
                "{shown} is where a run keeps its best network: choose another --out, and begin there from these weights, or \
                 continue the run itself"
            )));
        }
        let held: Vec<&str> = FILES.into_iter().filter(|f| path.join(f).exists()).collect();
        match start {
            Start::New if !held.is_empty() && !directory.has_only_begun(&held) => Err(Error::input(format!(
                "{shown} already holds a run ({}): continue it with --resume, replace it with --overwrite, or \
                 choose another --out",
                held.join(", ")
            ))),
            Start::Resume if !directory.config().exists() => Err(Error::input(format!(
                "{shown} holds no run to resume: there is no config.toml in it; leave out --resume to start one"
            ))),
            _ => Ok(directory),
        }
    }

    /// Refuses the directory of a run where a study is to have its own.
    ///
    /// # Errors
    /// As said.
    pub fn refuse_as_study(path: &Path) -> Result<()> {
        if ["config.toml", "model.safetensors"].iter().all(|file| !path.join(file).exists()) {
            return Ok(());
        }
        Err(Error::input(format!(
            "--out {}: it is a run's directory: choose another for the experiment",
            path.display()
        )))
    }

    /// Whether what is there is a run that has saved nothing, and no file of somebody else's.
    fn has_only_begun(&self, held: &[&str]) -> bool {
        let text = std::fs::read_to_string(self.config()).unwrap_or_default();
        let settings: toml::Table = text.parse().unwrap_or_default();
        held.iter().all(|file| BEGINNING.contains(file))
            && ["sampling", "optimisation"].iter().all(|name| settings.contains_key(*name))
    }

    /// Whether a run that is resumed has a state to go on from; one that was stopped before its first begins again.
    ///
    /// # Errors
    /// Weights that were saved without the state that is saved with them: to begin again would replace them.
    pub fn saved(&self, start: Start) -> Result<bool> {
        let resumed = start == Start::Resume;
        if !resumed || self.state().exists() {
            return Ok(resumed);
        }
        if !self.model().exists() {
            return Ok(false);
        }
        Err(Error::input(format!(
            "{} holds weights, but not the state.safetensors (moments, steps) that the run would go on from: bring it back, \
             begin a run of these weights in another directory, or begin this one again with --overwrite",
            self.path.display()
        )))
    }

    /// Keeps other processes from the directory until it is dropped: two runs would write over each other's files.
    fn lock(&self) -> Result<Lock> {
        let path = self.path.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| Error::io("create", &path, e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::input(format!(
                "another process is at work in {}: wait for it or stop it, or choose another --out",
                self.path.display()
            ))),
            // Some shared disks have no locks. Then nobody is kept away.
            locked => Ok(Lock { alone: locked.is_ok(), _file: file }),
        }
    }

    /// Takes the directory for a run that begins or goes on with these settings; nobody else gets it until what is
    /// returned is dropped.
    ///
    /// # Errors
    /// Where the disk refuses, another process is at work there, or has left a run there since [`Self::check`].
    pub fn take(&self, start: Start, settings: &impl Serialize) -> Result<Lock> {
        let text = self.text_of(settings)?;
        std::fs::create_dir_all(&self.path).map_err(|e| Error::io("create", &self.path, e))?;
        let lock = self.lock()?;
        Self::check(&self.path, start)?;
        if start == Start::New && !lock.alone && self.config().exists() {
            return Err(Error::input(format!(
                "{} has a run that has saved nothing, and its disk has no locks to say whether that is at work: begin anew with \
                 --overwrite if it is not",
                self.path.display()
            )));
        }
        match start {
            Start::New | Start::Overwrite => self.begin(&text)?,
            Start::Resume => self.go_on(&text)?,
        }
        Ok(lock)
    }

    /// Empties the directory of an old run, and writes the settings.
    fn begin(&self, settings: &str) -> Result<()> {
        self.forget_best()?;
        for file in FILES {
            remove(&self.path.join(file))?;
        }
        let events = self.tensorboard();
        match std::fs::remove_dir_all(&events) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", events, e)),
            _ => {}
        }
        self.remove_partial_files();
        atomic::write_bytes(self.config(), settings.as_bytes())
    }

    /// Makes the directory ready for a run that goes on, perhaps for longer: the settings are those that it has now,
    /// and the results that a former end left are taken away, for they will not be those of these weights. An audit, which
    /// took long, is kept by another name.
    fn go_on(&self, settings: &str) -> Result<()> {
        self.remove_partial_files();
        self.bring_best_back()?;
        for name in RESULTS {
            remove(&self.path.join(name))?;
        }
        self.keep_audit()?;
        let config = self.config();
        if std::fs::read(&config).is_ok_and(|old| old == settings.as_bytes()) {
            return Ok(());
        }
        atomic::write_bytes(config, settings.as_bytes())
    }

    /// Under a name that nothing has.
    fn keep_audit(&self) -> Result<()> {
        let there = AUDIT.into_iter().map(|name| self.path.join(name)).filter(|path| path.exists());
        for path in there.collect::<Vec<_>>() {
            let ending = path.extension().unwrap_or_default().display();
            let numbered = |number: u32| path.with_file_name(format!("audit-before-{number}.{ending}"));
            let kept = (1..).map(numbered).find(|kept| !kept.exists()).expect("a number is free");
            std::fs::rename(&path, &kept).map_err(|e| Error::io("rename", &path, e))?;
            say(&format!("{} is of the run as it was: it is {} now", path.display(), kept.display()));
        }
        Ok(())
    }

    fn text_of(&self, settings: &impl Serialize) -> Result<String> {
        toml::to_string(settings).map_err(|e| {
            Error::input(format!("{}: these settings cannot be written down: {e}", self.config().display()))
        })
    }

    /// What a killed process was writing.
    fn remove_partial_files(&self) {
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if atomic::is_partial(&entry.file_name()) {
                // Untidy, but no reason not to run.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Weights that lie among the files which [`Self::take`] removes cannot be where a run starts from.
    ///
    /// # Errors
    /// Naming the option that gave the weights.
    pub fn refuse_own_weights(&self, weights: &Path, option: &str) -> Result<()> {
        let canonical = |path: &Path| path.canonicalize().ok();
        if FILES.iter().any(|file| {
            let own = canonical(&self.path.join(file));
            own.is_some() && own == canonical(weights)
        }) {
            return Err(Error::input(format!(
                "{option} {} is a file of the run that --out {} would replace: choose another --out",
                weights.display(),
                self.path.display()
            )));
        }
        Ok(())
    }

    /// The settings of the run to resume.
    ///
    /// # Errors
    /// A config.toml that cannot be read, the key being named, or that is of the other command.
    pub fn settings<S: DeserializeOwned>(&self, command: &str) -> Result<S> {
        let path = self.config();
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        toml::from_str(&text).map_err(|e| {
            let path = path.display();
            let table: toml::Table = text.parse().unwrap_or_default();
            let other = if table.contains_key("method") { "unlearn" } else { "train" };
            Error::input(if command == other {
                format!("{path}: {} (written by another version, or edited?)", e.to_string().trim_end())
            } else {
                format!("{path} is of a run of kerase {other}: continue it with  kerase {other} --resume")
            })
        })
    }

    /// Writes a JSON file of the run, whole or not at all.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        json::write(self.path.join(name), value)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }
    pub fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }
    /// Which weights the steps change, where a method found that out.
    pub fn mask(&self) -> PathBuf {
        self.path.join("mask.safetensors")
    }
    /// What was measured so far, where a run measures before and after.
    pub fn scores(&self) -> PathBuf {
        self.path.join("scores.json")
    }
    /// What TensorBoard shows.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }
    pub fn state(&self) -> PathBuf {
        self.path.join("state.safetensors")
    }
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}
