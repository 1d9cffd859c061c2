//! The best network of a run so far: `best/` in its directory, with the files that the run itself had when it was measured.
//!
//! It is made in `.best-next/` and takes its place whole, by a rename; `.best-before/` has what it replaces for as long as
//! that may be needed again. Which of them is a network is said by its `best.json`, written last and removed first. A kill
//! leaves a state that the next validation sets right: it comes before the epoch is closed, so that a run which is resumed
//! measures again what may have been kept or not.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::error::{Error, Result};
use crate::json;
use crate::progress::warn;
use crate::run::directory::RunDirectory;
use crate::run::directory::remove;
use crate::run::keep_best::KeepBest;

const FOLDER: &str = "best";
const NEXT: &str = ".best-next";
const BEFORE: &str = ".best-before";

/// What marks a folder as a best network.
const MARK: &str = "best.json";

/// The weights last: where they are, nothing is missing.
const COPIED: [&str; 3] = ["config.toml", "state.safetensors", "model.safetensors"];

/// Which network is the best, and what was measured of it: best.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// What chose it.
    pub by: KeepBest,
    /// From 0, as in the log.
    pub epoch: u64,
    pub step: u64,
    #[serde(with = "crate::json_float")]
    pub psnr: f64,
    #[serde(with = "crate::json_float")]
    pub ssim: f64,
    #[serde(with = "crate::json_float")]
    pub nmse: f64,
}

impl Best {
    /// The best network of the run in a directory so far.
    ///
    /// # Errors
    /// A best.json that cannot be read.
    pub fn of_run(run: &Path) -> Result<Option<Self>> {
        let folder = run.join(FOLDER);
        if !is_whole(&folder) {
            return Ok(None);
        }
        let path = folder.join(MARK);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::input(format!(
                "{} says nothing of the best network so far ({e}): bring it back, or remove {}, and the best of the epochs to \
                 come is kept",
                path.display(),
                folder.display()
            ))
        })
    }

    /// Where the run in a directory keeps the weights of its best network.
    pub fn weights(run: &Path) -> PathBuf {
        run.join(FOLDER).join("model.safetensors")
    }

    /// By what chose it.
    pub fn score(&self) -> f64 {
        self.score_by(self.by)
    }

    fn score_by(&self, by: KeepBest) -> f64 {
        match by {
            KeepBest::Psnr => self.psnr,
            KeepBest::Ssim => self.ssim,
            KeepBest::Nmse => self.nmse,
            KeepBest::None => f64::NAN,
        }
    }

    /// The earlier of equals is the better, and NaN is not even better than nothing.
    fn beats(&self, other: Option<&Self>) -> bool {
        let new = self.score();
        match other.map(|other| other.score_by(self.by)) {
            None => !new.is_nan(),
            Some(old) if self.by == KeepBest::Nmse => new < old,
            Some(old) => new > old,
        }
    }
}

impl RunDirectory {
    pub fn best_folder(&self) -> PathBuf {
        self.path().join(FOLDER)
    }

    /// # Errors
    /// As [`Best::of_run`].
    pub fn best(&self) -> Result<Option<Best>> {
        Best::of_run(self.path())
    }

    /// Whether this is where a run keeps its best network, and no run's own directory.
    pub(super) fn is_of_best(&self) -> bool {
        self.path().join(MARK).exists()
    }

    /// Keeps the network that was saved last, which `measured` is about, if none before was as good. `complete`: at the end
    /// of an epoch. Where a run ends within one, what was best before is kept too: a run that goes on from there has
    /// measured nothing there, as its log has it.
    ///
    /// # Errors
    /// Where the disk refuses; what was best before is then still there.
    pub fn keep_best(&self, measured: &Best, complete: bool) -> Result<()> {
        let [best, next, before] = [FOLDER, NEXT, BEFORE].map(|name| self.path().join(name));
        let known = is_whole(&best) || is_whole(&before) || next.exists();
        discard(&next)?;
        self.back_to_best_before()?;
        discard(&before)?;
        if !known && measured.epoch > 0 {
            warn(&format!(
                "{} does not hold the best network of the {} epochs before: from here on the best of those to come is kept",
                best.display(),
                measured.epoch
            ));
        }
        // What was kept in this epoch is measured again now, or is void.
        let former = self.best()?.filter(|former| former.epoch < measured.epoch);
        if !measured.beats(former.as_ref()) {
            return if former.is_none() { discard(&best) } else { Ok(()) };
        }
        if let Err(error) = self.copy_to(&next, measured) {
            // The disk may be full.
            let _ = discard(&next);
            return Err(error);
        }
        hand_over(&best, &next);
        match former {
            Some(_) => rename(&best, &before)?,
            None => discard(&best)?,
        }
        rename(&next, &best)?;
        if complete { discard(&before) } else { Ok(()) }
    }

    fn copy_to(&self, folder: &Path, measured: &Best) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        for name in COPIED {
            let (from, to) = (self.path().join(name), folder.join(name));
            let mut file = File::open(&from).map_err(|e| Error::io("read", &from, e))?;
            atomic::write(&to, |writer| {
                io::copy(&mut file, writer).map(drop).map_err(|e| Error::io("write", &to, e))
            })?;
        }
        json::write(folder.join(MARK), measured)
    }

    /// For a run that goes on, where a kill left no best network but the one before.
    pub(super) fn bring_best_back(&self) -> Result<()> {
        if is_whole(&self.best_folder()) { Ok(()) } else { self.back_to_best_before() }
    }

    fn back_to_best_before(&self) -> Result<()> {
        let [best, before] = [FOLDER, BEFORE].map(|name| self.path().join(name));
        if !is_whole(&before) {
            return Ok(());
        }
        hand_over(&best, &before);
        discard(&best)?;
        rename(&before, &best)
    }

    /// For another run in the same directory.
    pub(super) fn forget_best(&self) -> Result<()> {
        [BEFORE, NEXT, FOLDER].into_iter().try_for_each(|name| discard(&self.path().join(name)))
    }
}

fn is_whole(folder: &Path) -> bool {
    COPIED.into_iter().chain([MARK]).all(|name| folder.join(name).exists())
}

/// Removes a best network. What others have put beside it stays.
fn discard(folder: &Path) -> Result<()> {
    for name in [MARK].into_iter().chain(COPIED) {
        remove(&folder.join(name))?;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if atomic::is_partial(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    // Refused where something is left in it.
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

/// Moves what others have put beside a best network, such as its figures, to the folder that takes its place.
fn hand_over(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let own = COPIED.into_iter().chain([MARK]).any(|own| name == own);
        if !own && !atomic::is_partial(&name) {
            let _ = std::fs::rename(entry.path(), to.join(name));
        }
    }
}

/// What is left at the new place, such as a file that somebody holds open on a shared disk, makes room under another name.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let mut moved = None;
    if to.exists() && std::fs::remove_dir(to).is_err() {
        let mut others = (0..).map(|n| to.with_file_name(format!(".best-left-{n}")));
        let other = others.find(|other| !other.exists()).expect("numbers do not end");
        std::fs::rename(to, &other).map_err(|e| Error::io("rename", to, e))?;
        moved = Some(other);
    }
    std::fs::rename(from, to).map_err(|e| Error::io("rename", from, e))?;
    atomic::sync_parent(to);
    // It may be held open still.
    let _ = moved.map(|other| discard(&other));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(by: KeepBest, epoch: u64, value: f64) -> Best {
        let mut best = Best { by, epoch, step: 3 * (epoch + 1), psnr: 1.0, ssim: 1.0, nmse: 1.0 };
        *match by {
            KeepBest::Psnr => &mut best.psnr,
            KeepBest::Ssim => &mut best.ssim,
            KeepBest::Nmse | KeepBest::None => &mut best.nmse,
        } = value;
        best
    }

    /// The epochs whose networks are kept, one after the other.
    fn kept(by: KeepBest, values: &[f64]) -> Vec<u64> {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::check(folder.path(), crate::run::directory::Start::New).unwrap();
        let mut kept = Vec::new();
        for (epoch, &value) in (0..).zip(values) {
            for name in COPIED {
                std::fs::write(folder.path().join(name), format!("{name} {epoch}")).unwrap();
            }
            directory.keep_best(&measured(by, epoch, value), true).unwrap();
            if let Some(best) = directory.best().unwrap() {
                for name in COPIED {
                    let text = std::fs::read_to_string(directory.best_folder().join(name)).unwrap();
                    assert_eq!(text, format!("{name} {}", best.epoch));
                }
                kept.push(best.epoch);
            }
            assert!(![NEXT, BEFORE].iter().any(|name| folder.path().join(name).exists()));
        }
        kept
    }

    #[test]
    fn the_first_of_equals_is_kept_and_no_nan() {
        let values = [f64::NAN, 2.0, 2.0, 1.0, f64::NAN, 3.0, 3.0, f64::INFINITY, 0.5];
        for by in [KeepBest::Psnr, KeepBest::Ssim] {
            assert_eq!(kept(by, &values), [1, 1, 1, 1, 5, 5, 7, 7]);
        }
        assert_eq!(kept(KeepBest::Nmse, &values), [1, 1, 3, 3, 3, 3, 3, 8]);
        assert_eq!(kept(KeepBest::None, &values), [0; 0]);
    }

    #[test]
    fn what_cannot_be_copied_leaves_the_former() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::check(folder.path(), crate::run::directory::Start::New).unwrap();
        for name in COPIED {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        directory.keep_best(&measured(KeepBest::Ssim, 0, 0.5), true).unwrap();
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let refused = directory.keep_best(&measured(KeepBest::Ssim, 1, 0.6), true).unwrap_err().to_string();
        assert!(refused.contains("cannot read") && refused.contains("model.safetensors"), "{refused}");
        assert_eq!(directory.best().unwrap(), Some(measured(KeepBest::Ssim, 0, 0.5)));
        assert!(!folder.path().join(NEXT).exists());
    }

    #[test]
    fn what_cannot_be_removed_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::check(folder.path(), crate::run::directory::Start::New).unwrap();
        for name in COPIED {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        for epoch in 0..4 {
            // As a shared disk leaves it of a file that is removed while somebody reads it.
            let before = folder.path().join(BEFORE);
            std::fs::create_dir(&before).unwrap();
            std::fs::write(before.join(".nfs0001"), "open").unwrap();
            directory.keep_best(&measured(KeepBest::Psnr, epoch, epoch as f64), true).unwrap();
            assert_eq!(directory.best().unwrap().unwrap().epoch, epoch);
            let _ = std::fs::remove_dir_all(&before);
        }
        assert!(folder.path().join(".best-left-2/.nfs0001").exists());
    }

    #[test]
    fn what_others_put_beside_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::check(folder.path(), crate::run::directory::Start::New).unwrap();
        for name in COPIED {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        // At the end of an epoch, at an end within one, and gone on from there.
        for (epoch, value, complete) in [(0, 1.0, true), (1, 2.0, false), (1, 0.5, true), (2, 3.0, true)] {
            directory.keep_best(&measured(KeepBest::Psnr, epoch, value), complete).unwrap();
            std::fs::write(directory.best_folder().join("notes"), "mine").unwrap();
        }
        directory.keep_best(&measured(KeepBest::Psnr, 3, 4.0), true).unwrap();
        assert_eq!(directory.best().unwrap().unwrap().epoch, 3);
        directory.forget_best().unwrap();
        let left: Vec<_> =
            std::fs::read_dir(directory.best_folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["notes"]);
    }
}
