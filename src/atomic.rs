//! Files that are either whole or not there: written beside their place, flushed to disk, then renamed.
//!
//! A reader, or a run that is resumed after a crash, never sees half a file, and a full disk leaves the old
//! file as it was and no temporary one behind.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

const PREFIX: &str = ".kerase-";
const SUFFIX: &str = ".partial";

/// Temporary files of this process.
static AT_WORK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// One of them, while it is there.
struct AtWork(PathBuf);

impl AtWork {
    fn new(path: &Path) -> Self {
        at_work().insert(path.to_path_buf());
        Self(path.to_path_buf())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        at_work().remove(&self.0);
    }
}

fn at_work() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process is writing: it is about to end.
pub fn remove_partial() {
    for path in at_work().iter() {
        let _ = std::fs::remove_file(path);
    }
}

/// Whether a file of this name is a temporary one, which a process that was killed left behind.
pub fn is_partial(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Writes the file `path` with what `fill` puts into it, replacing a file that is already there.
///
/// The directory must exist. If `fill` or the disk fails, `path` is untouched and the temporary file is gone.
///
/// # Errors
/// What `fill` returns; [`Error::Io`] if the file cannot be created, flushed or renamed ("No space left on
/// device" is said by the operating system's own message).
pub fn write<F>(path: impl AsRef<Path>, fill: F) -> Result<()>
where
    F: FnOnce(&mut BufWriter<&File>) -> Result<()>,
{
    let path = path.as_ref();
    let directory = parent(path);
    let cannot_create = |source| Error::io("create", path, source);
    let cannot_write = |source| Error::io("write", path, source);

    // Same directory, because a rename does not cross file systems. A leading dot keeps a listing of *.h5
    // from ever seeing it.
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // tempfile's default is 0600; a result should have what the user's umask gives any other file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.tempfile_in(directory).map_err(cannot_create)?;
    let _at_work = AtWork::new(temporary.path());

    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    if let Err(error) = fill(&mut writer) {
        // Without this, dropping the writer would try once more to flush to a disk that just refused.
        let _ = writer.into_parts();
        return Err(error);
    }
    writer.flush().map_err(cannot_write)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(cannot_write)?;
    temporary.persist(path).map_err(|failure| cannot_write(failure.error))?;

    // The rename itself must reach the disk too.
    sync_parent(path);
    Ok(())
}

/// Brings to the disk that something was renamed to `path`. Not every file system lets a directory be synced; what was
/// renamed is whole either way, so a refusal here is no failure.
pub fn sync_parent(path: &Path) {
    #[cfg(unix)]
    if let Ok(directory) = File::open(parent(path)) {
        let _ = directory.sync_all();
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// [`write()`] for bytes that are already in memory.
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write(path, |writer| writer.write_all(bytes).map_err(|source| Error::io("write", path, source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        write_bytes(&path, b"old").unwrap();
        write_bytes(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["model.bin"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        write_bytes(&path, b"old").unwrap();
        let failed = write(&path, |writer| {
            writer.write_all(b"half of it").unwrap();
            Err(Error::input("the disk is full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["model.bin"]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no/model.bin");
        let message = write_bytes(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with("cannot create ") && message.contains("no/model.bin"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, b"x").unwrap();
        let atomic = directory.path().join("atomic");
        write_bytes(&atomic, b"x").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&atomic), mode(&plain));
    }
}
