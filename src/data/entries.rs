//! How a set is named: as a directory (every `*.h5`, `*.hdf5` and `*.mat` in it but masks, by name), as one file, or as a manifest: a
//! text file with one volume a line, relative to the manifest, `#` for comments, and optionally a range of slices, the last of
//! which is not in it.
//!
//! ```text
//! # the first knee volume without its empty outer slices
//! knee/file1000001.h5 slices=3..20
//! knee/file1000002.h5
//! ```

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::positioned::PositionedFile;
use super::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::progress::got_on;

/// Bytes of a manifest: a hundred thousand long paths.
const LARGEST_MANIFEST: u64 = 16 << 20;
/// Bytes of it that show whether it is text.
const FIRST_BLOCK: u64 = 1 << 16;
/// Missing files that are named.
const MOST_NAMED: usize = 100;
/// Characters of a line that is quoted.
const MOST_QUOTED: usize = 200;

/// How files of volumes end.
const EXTENSIONS: [&str; 3] = ["h5", "hdf5", "mat"];

/// A volume of a set before it is opened.
pub(super) struct Entry {
    path: PathBuf,
    slices: Option<Range<usize>>,
}

impl Entry {
    pub fn open(self) -> Result<(VolumeFile, Vec<usize>)> {
        let volume = VolumeFile::open(&self.path)?;
        got_on();
        let slices = self.slices.unwrap_or(0..volume.slices);
        if slices.end > volume.slices {
            return Err(Error::input(format!(
                "{}: slices={}..{} reaches beyond the volume, which has slices 0..{}",
                self.path.display(),
                slices.start,
                slices.end,
                volume.slices
            )));
        }
        Ok((volume, slices.collect()))
    }
}

/// The volumes that a path names.
///
/// # Errors
/// [`Error::Input`] where there are none, and for those that are missing or named twice: they are named, of missing ones a
/// hundred.
pub(super) fn entries(source: &Path) -> Result<Vec<Entry>> {
    let metadata = std::fs::metadata(source).map_err(|error| Error::io("read", source, error))?;
    let entries = if metadata.is_dir() {
        directory_entries(source)?
    } else if !metadata.is_file() {
        // A pipe would be waited for, and a device may have no end.
        return Err(Error::input(format!(
            "{} is neither a file nor a directory: expected a directory of volumes, one volume, or a manifest",
            source.display()
        )));
    } else if is_hdf5(source) {
        vec![Entry { path: source.to_path_buf(), slices: None }]
    } else if source.extension().is_some_and(|extension| extension == "cfl" || extension == "hdr") {
        return Err(Error::input(format!(
            "{0} is BART's: make a volume of it first, with  kerase convert {0} volume.h5",
            source.display()
        )));
    } else {
        manifest_entries(source)?
    };
    refuse_duplicates(source, &entries)?;
    Ok(entries)
}

/// Every volume in a directory, by its name: what cannot be read is refused, or it would be missing from the set unnoticed.
fn directory_entries(directory: &Path) -> Result<Vec<Entry>> {
    let cannot_read = |source| Error::io("read", directory, source);
    let (mut entries, mut unusable) = (vec![], vec![]);
    for entry in std::fs::read_dir(directory).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        // Names with a leading dot are half-written files or what some systems leave beside every file.
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        // CMRxRecon has masks beside the volumes.
        let mask = name.ends_with(".mat") && name.contains("_mask");
        if !is_named_as_volume(&path) || mask || name.starts_with('.') {
            continue;
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => entries.push(Entry { path, slices: None }),
            Ok(_) => unusable.push(format!("{} is not a file", path.display())),
            Err(error) if path.is_symlink() => {
                unusable.push(format!("{} is a link to what cannot be read: {error}", path.display()));
            }
            Err(error) => unusable.push(format!("{}: {error}", path.display())),
        }
    }
    if !unusable.is_empty() {
        unusable.sort();
        return Err(Error::input(format!(
            "{} has {} entries that are named as volumes and cannot be read:{}\nbring them back, or remove them from the \
             directory to do without them",
            directory.display(),
            unusable.len(),
            listed(unusable)
        )));
    }
    if entries.is_empty() {
        return Err(Error::input(format!(
            "no *.h5 files in {0}, nor *.hdf5 or *.mat: expected a directory of volumes, one file, or a manifest. \
             Directories in it are not looked into: name one of them, or list volumes of several with  \
             find {0} -name '*.h5' -o -name '*.hdf5' -o -name '*.mat' > set.txt",
            directory.display()
        )));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Whatever the case: some systems write their endings in capitals.
pub fn is_named_as_volume(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&&*extension)
}

/// By its name or by its first bytes: what is meant as a volume shall be refused as one, not as a bad manifest.
fn is_hdf5(path: &Path) -> bool {
    is_named_as_volume(path) || hdf5_pure::is_hdf5(path).unwrap_or(false)
}

/// What is no manifest is refused before much of it is read.
fn manifest_text(manifest: &Path) -> Result<String> {
    let cannot_read = |source| Error::io("read", manifest, source);
    let refused = |what: &str| {
        Error::input(format!(
            "{} is neither an HDF5 file nor a manifest (a text file with one volume a line): {what}",
            manifest.display()
        ))
    };
    let file = PositionedFile::open(manifest, "a manifest")?;
    if file.length > LARGEST_MANIFEST {
        let most = LARGEST_MANIFEST >> 20;
        return Err(refused(&format!("it has {} bytes, and manifests at most {most} MiB", file.length)));
    }
    let mut bytes = vec![];
    let mut block = (&file.handle).take(FIRST_BLOCK);
    block.read_to_end(&mut bytes).map_err(cannot_read)?;
    // Some systems' UTF-16 is half NUL bytes; a character may end in the next block.
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Err(error) => error.error_len().is_none(),
        Ok(_) => true,
    };
    if bytes.contains(&0) || !text(&bytes) {
        return Err(refused("it is no text in UTF-8"));
    }
    (&file.handle).take(LARGEST_MANIFEST).read_to_end(&mut bytes).map_err(cannot_read)?;
    String::from_utf8(bytes).map_err(|_| refused("it is no text in UTF-8"))
}

fn manifest_entries(manifest: &Path) -> Result<Vec<Entry>> {
    let text = manifest_text(manifest)?;
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let directory = manifest.parent().unwrap_or(Path::new(""));
    let mut entries = vec![];
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (path, slices) = match line.rsplit_once(char::is_whitespace) {
            Some((_, last)) if is_meant_as_slices(last) => {
                return Err(Error::input(format!(
                    "{} line {}: '{}': expected slices=FROM..TO without blanks, such as slices=3..20 for slices 3 to 19",
                    manifest.display(),
                    number + 1,
                    shortened(last)
                )));
            }
            Some((path, last)) if last.starts_with("slices=") => {
                let slices = slice_range(&last["slices=".len()..]).ok_or_else(|| {
                    Error::input(format!(
                        "{} line {}: '{}': expected slices=FROM..TO with FROM < TO, such as slices=3..20 for slices 3 to 19",
                        manifest.display(),
                        number + 1,
                        shortened(last)
                    ))
                })?;
                (path.trim_end(), Some(slices))
            }
            _ => (line, None),
        };
        entries.push(Entry { path: directory.join(path), slices });
    }
    if entries.is_empty() {
        return Err(Error::input(format!(
            "{} lists no volumes: expected one path a line, relative to it",
            manifest.display()
        )));
    }
    let missing: Vec<&Entry> = entries.iter().filter(|entry| !entry.path.is_file()).collect();
    if !missing.is_empty() {
        let named = missing.iter().take(MOST_NAMED).map(|entry| shortened(&entry.path.display().to_string()));
        let others = (missing.len() > MOST_NAMED).then(|| format!("and {} more", missing.len() - MOST_NAMED));
        return Err(Error::input(format!(
            "{} lists {} files that do not exist, relative to it:{}",
            manifest.display(),
            missing.len(),
            listed(named.chain(others).collect())
        )));
    }
    Ok(entries)
}

/// A range that does not stand behind `slices=`.
fn is_meant_as_slices(word: &str) -> bool {
    let range = word.rsplit('=').next().and_then(slice_range);
    range.is_some() && !word.starts_with("slices=")
}

fn slice_range(text: &str) -> Option<Range<usize>> {
    let (from, to) = text.split_once("..")?;
    let range = from.parse().ok()?..to.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// Twice the same file, links followed, would count its slices twice.
fn refuse_duplicates(source: &Path, entries: &[Entry]) -> Result<()> {
    let mut seen = HashMap::new();
    let mut twice = vec![];
    for entry in entries {
        let path = entry.path.canonicalize().map_err(|error| Error::io("read", &entry.path, error))?;
        if let Some(first) = seen.insert(path, &entry.path) {
            twice.push(if first == &entry.path {
                entry.path.display().to_string()
            } else {
                format!("{} and {}", first.display(), entry.path.display())
            });
        }
    }
    if twice.is_empty() {
        return Ok(());
    }
    Err(Error::input(format!(
        "{} has volumes more than once, where each may stand once, with one range of slices:{}",
        source.display(),
        listed(twice)
    )))
}

/// Lines of an error that names several.
pub(super) fn listed(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| format!("\n  {line}")).collect()
}

/// Text that an error quotes, which may be a whole file without a line break.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
