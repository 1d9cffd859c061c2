//! What commands leave behind: text on standard output, files, and directories of files.

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::json;
use crate::progress::is_silent;

/// Prints a text and a line break to standard output. A reader that has gone away (`kerase info | head -1`) is no
/// error. A rank that another speaks for prints nothing.
///
/// # Errors
/// [`Error::Io`] where standard output cannot be written, such as a file on a full disk.
pub fn print(text: impl std::fmt::Display) -> Result<()> {
    if is_silent() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output", error))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(json::text(value)?)
}

/// Makes sure that a file can be written later: nothing is there, or `overwrite` allows to replace it, and its
/// directory takes files. Found out now, not after an hour of computing.
///
/// # Errors
/// [`Error::Input`] naming the file and the remedy, [`Error::Io`] from the directory.
pub fn check_file(path: &Path, overwrite: bool) -> Result<()> {
    if path.is_dir() {
        return Err(Error::input(format!("{} is a directory: name a file in it", path.display())));
    }
    if path.exists() && !overwrite {
        return Err(exists(path));
    }
    let parent = parent(path);
    if !parent.is_dir() {
        return Err(Error::input(format!(
            "{}: there is no directory {}: make it, or name another place",
            path.display(),
            parent.display()
        )));
    }
    // What the system says of a temporary file's name is of no use to anybody.
    check_writable(parent).map_err(|source| Error::io("create", path, source.kind().into()))
}

/// [`check_file`] for the files that several options name, where they are given: none may replace another.
///
/// # Errors
/// Also naming two options with one file.
pub fn check_files<'f>(
    files: impl IntoIterator<Item = (&'static str, &'f Option<PathBuf>)>,
    overwrite: bool,
) -> Result<()> {
    let mut seen = HashMap::new();
    for (option, path) in files {
        let Some(path) = path else { continue };
        check_file(path, overwrite)?;
        let directory = parent(path).canonicalize().map_err(|source| Error::io("read", path, source))?;
        let place = path.file_name().map(|name| directory.join(name));
        if let Some(other) = seen.insert(place, option) {
            return Err(Error::input(format!(
                "{other} and {option} both go to {}: name two files",
                path.display()
            )));
        }
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn exists(path: &Path) -> Error {
    Error::input(format!("{} exists: name another place, or give --overwrite", path.display()))
}

fn check_writable(directory: &Path) -> std::io::Result<()> {
    tempfile::Builder::new().prefix(".kerase-").tempfile_in(directory).map(drop)
}

/// A directory that results go to. One that was made for them goes away again if there are none.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    /// Directories that did not exist before, the innermost first.
    made: Vec<PathBuf>,
}

impl OutputDirectory {
    /// Makes the directory and its parents where they do not exist, and makes sure that it takes files.
    ///
    /// # Errors
    /// [`Error::Input`] where a file is in the way, [`Error::Io`] from the disk.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::input(format!(
                "{} is a file: --out takes a directory, such as {}.d",
                path.display(),
                path.display()
            )));
        }
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let made = missing.map(Path::to_path_buf).collect();
        let directory = Self { path: path.to_path_buf(), made };
        let created = std::fs::create_dir_all(path).and_then(|()| check_writable(path));
        created.map_err(|source| Error::io("create files in", path, source))?;
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the directory, which is not there yet unless `overwrite` allows to replace it.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file and the remedy.
    pub fn file(&self, name: impl AsRef<Path>, overwrite: bool) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.exists() && !overwrite { Err(exists(&path)) } else { Ok(path) }
    }
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        for directory in &self.made {
            // Fails where something is in it, as it should.
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// What coil compression did to a volume, as results name it.
#[derive(Debug, serde::Serialize)]
pub struct Compressed<'a> {
    set: &'a str,
    volume: &'a str,
    coils: usize,
    virtual_coils: usize,
    /// Share of the calibration lines' energy that is kept.
    energy: f64,
}

/// A volume that was not undersampled, as it brings a mask of its own.
#[derive(Debug, serde::Serialize)]
pub struct OwnMask<'a> {
    set: &'a str,
    volume: &'a str,
}

/// The volumes of a set that have a mask of their own.
pub fn own_masks<'a>(name: &'a str, set: &'a VolumeSet) -> impl Iterator<Item = OwnMask<'a>> {
    let own = set.volumes().iter().filter(|volume| volume.mask.is_some());
    own.map(move |volume| OwnMask { set: name, volume: &volume.name })
}

/// The volumes of a set that have virtual coils.
pub fn compressed<'a>(name: &'a str, set: &'a VolumeSet) -> impl Iterator<Item = Compressed<'a>> {
    set.volumes().iter().filter_map(move |volume| {
        let made = volume.virtual_coils.as_deref()?;
        Some(Compressed {
            set: name,
            volume: &volume.name,
            coils: made.stored,
            virtual_coils: made.count,
            energy: made.energy,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        drop(OutputDirectory::create(&path).unwrap());
        assert!(!folder.path().join("a").exists());

        let directory = OutputDirectory::create(&path).unwrap();
        std::fs::write(directory.path().join("result"), "x").unwrap();
        assert!(directory.file("result", false).unwrap_err().to_string().contains("--overwrite"));
        assert!(directory.file("result", true).is_ok());
        drop(directory);
        assert!(path.join("result").exists());

        drop(OutputDirectory::create(&path).unwrap());
        assert!(path.exists(), "it was there before");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "x").unwrap();
        for message in [
            OutputDirectory::create(&path).unwrap_err().to_string(),
            check_file(&path, false).unwrap_err().to_string(),
            check_file(folder.path(), true).unwrap_err().to_string(),
        ] {
            assert!(message.contains(&folder.path().display().to_string()), "{message}");
        }
        check_file(&path, true).unwrap();
        let message = check_file(&folder.path().join("no/metrics.json"), false).unwrap_err().to_string();
        let directory = folder.path().join("no").display().to_string();
        assert!(
            message.contains(&format!("no directory {directory}:")) && !message.contains(".kerase"),
            "{message}"
        );
    }

    #[test]
    fn two_options_for_one_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| Some(folder.path().join(name));
        let check = |a: &str, b: &str| {
            check_files([("--out", &place(a)), ("--csv", &place(b)), ("--x", &None)], true)
        };
        check("a.json", "a.csv").unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for other in ["both", "./both", "sub/../both"] {
            let message = check("both", other).unwrap_err().to_string();
            assert!(message.contains("--out and --csv both go to"), "{message}");
        }
    }
}
