//! A set of volumes, such as the retain set or the forget set, and which of their slices are in it.
//!
//! A set is given as a directory (every `*.h5`, `*.hdf5` and `*.mat` in it but masks, by name), as one file, or as a manifest: a
//! text file with one volume a line, relative to the manifest, `#` for comments, and optionally a range of slices, the last of
//! which is not in it.
//!
//! ```text
//! # the first knee volume without its empty outer slices
//! knee/file1000001.h5 slices=3..20
//! knee/file1000002.h5
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use num_complex::Complex32;
use rayon::prelude::*;

use super::cache::{CacheBudget, SliceCache};
use super::fastmri::VolumeFile;
use super::order::shuffled;
use super::virtual_coils::VirtualCoils;
use super::volume::Slice;
use crate::error::{Error, Result};
use crate::progress::got_on;

/// A slice of a set: (index of the volume in [`VolumeSet::volumes`], index of the slice in the volume).
pub type SliceId = (usize, usize);

/// What slices must share to be in one batch, and what the buffers of a network are sized for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceShape {
    pub coils: usize,
    /// Rows and columns of k-space.
    pub matrix: [usize; 2],
    /// Height and width of the target, if there is one.
    pub target: Option<[usize; 2]>,
}

impl std::fmt::Display for SliceShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [rows, columns] = self.matrix;
        write!(f, "{} coils, k-space {rows} x {columns}, ", self.coils)?;
        match self.target {
            Some([height, width]) => write!(f, "target {height} x {width}"),
            None => write!(f, "no target"),
        }
    }
}

/// Whether a fraction of a set is taken volume by volume or slice by slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FractionOf {
    Slices,
    Volumes,
}

impl FractionOf {
    /// How many of `count` a fraction is, to nearest. `whose` names the set.
    ///
    /// # Errors
    /// [`Error::Input`] if it is none.
    pub fn part(self, fraction: f64, count: usize, whose: &str) -> Result<usize> {
        let kept = (count as f64 * fraction).round_ties_even() as usize;
        if kept > 0 {
            return Ok(kept);
        }
        let what = match self {
            Self::Slices => "slices",
            Self::Volumes => "volumes",
        };
        Err(Error::input(format!(
            "{fraction} of the {count} {what} in {whose} is none: choose at least {:.3}",
            1.0 / count as f64
        )))
    }
}

/// Volumes whose metadata has been read, with the slices of each that belong to the set (never none).
#[derive(Clone, Debug)]
pub struct VolumeSet {
    source: PathBuf,
    volumes: Vec<VolumeFile>,
    /// For each volume, in ascending order.
    selected: Vec<Vec<usize>>,
    /// Of this set alone: a part of it, or a set that it is joined with, numbers volumes anew.
    cache: Option<Arc<SliceCache>>,
}

impl VolumeSet {
    /// Opens a directory, an HDF5 file or a manifest, reading the metadata of all volumes in parallel.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty set, for entries of a manifest that are missing, listed twice or out of
    /// range, and for volumes that cannot be used: all of them are named, not only the first.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?;
        let entries = if metadata.is_dir() {
            directory_entries(path)?
        } else if is_hdf5(path) {
            vec![Entry { path: path.to_path_buf(), slices: None }]
        } else {
            manifest_entries(path)?
        };
        Self::from_entries(path, entries)
    }

    fn from_entries(source: &Path, entries: Vec<Entry>) -> Result<Self> {
        refuse_duplicates(source, &entries)?;
        let opened: Vec<Result<(VolumeFile, Vec<usize>)>> =
            entries.into_par_iter().map(Entry::open).collect();
        let (mut volumes, mut selected, mut failures) = (vec![], vec![], vec![]);
        for result in opened {
            match result {
                Ok((volume, slices)) => {
                    volumes.push(volume);
                    selected.push(slices);
                }
                Err(error) => failures.push(error),
            }
        }
        match failures.len() {
            0 => Ok(Self { source: source.to_path_buf(), volumes, selected, cache: None }),
            1 => Err(failures.remove(0)),
            count => {
                let lines = failures.iter().map(ToString::to_string).collect();
                Err(Error::input(format!(
                    "{}: {count} volumes cannot be used:{}",
                    source.display(),
                    listed(lines)
                )))
            }
        }
    }

    /// Both sets as one: the volumes of `other` come after this set's own.
    pub fn join(mut self, other: Self) -> Self {
        self.volumes.extend(other.volumes);
        self.selected.extend(other.selected);
        self.cache = None;
        self
    }

    /// Some slices of this set, each given by its volume's name and its number; the order of the set is kept.
    ///
    /// # Errors
    /// [`Error::Input`] naming a slice that is not in the set.
    pub fn only(&self, slices: &[(&str, usize)]) -> Result<Self> {
        let mut selected = vec![vec![]; self.volumes.len()];
        for &(name, slice) in slices {
            let volume = (0..self.volumes.len())
                .find(|&i| self.volumes[i].name == name && self.selected[i].contains(&slice))
                .ok_or_else(|| {
                    Error::input(format!("{}: there is no slice {slice} of {name}", self.source.display()))
                })?;
            selected[volume].push(slice);
        }
        selected.iter_mut().for_each(|slices| {
            slices.sort_unstable();
            slices.dedup();
        });
        let parts = self.volumes.iter().cloned().zip(selected).filter(|(_, slices)| !slices.is_empty());
        let (volumes, selected) = parts.unzip();
        Ok(Self { source: self.source.clone(), volumes, selected, cache: None })
    }

    /// The volumes whose index is wanted; none where that is none of them.
    pub fn volumes_where(&self, wanted: impl Fn(usize) -> bool) -> Option<Self> {
        let parts = self.volumes.iter().cloned().zip(self.selected.iter().cloned()).enumerate();
        let (volumes, selected): (Vec<_>, Vec<_>) =
            parts.filter(|(i, _)| wanted(*i)).map(|(_, part)| part).unzip();
        (!volumes.is_empty()).then(|| Self { source: self.source.clone(), volumes, selected, cache: None })
    }

    /// The same volumes with `count` virtual coils each, made from the columns that `calibration` names for a volume; those
    /// that have no more coils than that stay as they are. Reads all slices of the others, in parallel by volume, and says
    /// so to `on_volume`.
    ///
    /// # Errors
    /// The first of [`VirtualCoils::of`] and of `calibration`.
    pub fn with_virtual_coils(
        mut self,
        count: usize,
        calibration: impl Fn(&VolumeFile) -> Result<Vec<bool>> + Sync,
        on_volume: impl Fn() + Sync,
    ) -> Result<Self> {
        let made: Vec<Result<Option<VirtualCoils>>> = self
            .volumes
            .par_iter()
            .map(|volume| {
                let stored = volume.stored_coils();
                let made = match stored > count {
                    true => Some(VirtualCoils::of(volume, count, &calibration(volume)?)?),
                    false => None,
                };
                on_volume();
                Ok(made)
            })
            .collect();
        for (volume, made) in self.volumes.iter_mut().zip(made) {
            if let Some(made) = made? {
                volume.coils = made.count;
                volume.virtual_coils = Some(Arc::new(made));
            }
        }
        self.cache = None;
        Ok(self)
    }

    /// The same set, which keeps slices in memory once they were read, as long as there is room for them.
    pub fn cached(mut self, budget: &Arc<CacheBudget>) -> Self {
        self.cache = Some(Arc::new(SliceCache::new(budget, self.volumes.iter().map(|volume| volume.slices))));
        self
    }

    /// How many slices are in memory.
    pub fn cached_slices(&self) -> usize {
        self.cache.as_ref().map_or(0, |cache| cache.count())
    }

    /// A slice, from memory or from its file. k-space goes where `memory` is.
    pub(super) fn read(&self, id: SliceId, memory: Vec<Complex32>) -> Result<Slice> {
        let Some(cache) = &self.cache else { return self.volumes[id.0].read_slice_into(id.1, memory) };
        let memory = match cache.copy(id, memory) {
            Ok(slice) => return Ok(slice),
            Err(memory) => memory,
        };
        let slice = self.volumes[id.0].read_slice_into(id.1, memory)?;
        cache.keep(id, &slice);
        Ok(slice)
    }

    /// What virtual coils keep of the volumes that have them, for people; `None` where none has.
    pub fn virtual_coils_summary(&self) -> Option<String> {
        let made: Vec<(&VirtualCoils, &VolumeFile)> =
            self.volumes.iter().filter_map(|v| v.virtual_coils.as_deref().map(|made| (made, v))).collect();
        let least = made.iter().min_by(|a, b| a.0.energy.total_cmp(&b.0.energy))?;
        let mean = made.iter().map(|(made, _)| made.energy).sum::<f64>() / made.len() as f64;
        Some(format!(
            "{} virtual coils in {} of {} volumes keep {:.2} % of the calibration lines' energy (least: {:.2} % of {}, \
             from {} coils)",
            least.0.count,
            made.len(),
            self.volumes.len(),
            100.0 * mean,
            100.0 * least.0.energy,
            least.1.name,
            least.0.stored
        ))
    }

    /// What was given to [`VolumeSet::open`].
    pub fn source(&self) -> &Path {
        &self.source
    }

    pub fn volumes(&self) -> &[VolumeFile] {
        &self.volumes
    }

    /// All slices of the set: volumes in the order of the set, slices ascending.
    pub fn slices(&self) -> Vec<SliceId> {
        let slices = self.selected.iter().enumerate();
        slices.flat_map(|(volume, slices)| slices.iter().map(move |&slice| (volume, slice))).collect()
    }

    /// The slices of one volume that belong to the set, ascending.
    pub fn slices_of(&self, volume: usize) -> &[usize] {
        &self.selected[volume]
    }

    pub fn slice_count(&self) -> usize {
        self.selected.iter().map(Vec::len).sum()
    }

    /// The shape that every slice of this volume has.
    pub fn shape(&self, volume: usize) -> SliceShape {
        let VolumeFile { coils, matrix, target, .. } = self.volumes[volume];
        SliceShape { coils, matrix, target }
    }

    /// The distinct shapes in the set, with the number of slices of each.
    pub fn shapes(&self) -> BTreeMap<SliceShape, usize> {
        let mut shapes = BTreeMap::new();
        for (volume, slices) in self.selected.iter().enumerate() {
            *shapes.entry(self.shape(volume)).or_insert(0) += slices.len();
        }
        shapes
    }

    /// One line on the size and the shapes of the set, for people.
    pub fn summary(&self) -> String {
        let shapes = self.shapes();
        let shapes: Vec<String> = shapes.iter().map(|(shape, count)| format!("{count} of {shape}")).collect();
        format!("{} volumes, {} slices ({})", self.volumes.len(), self.slice_count(), shapes.join("; "))
    }

    /// A seeded random part of the set: `round(fraction · count)` of its slices or volumes, such as the 10 % of
    /// the retain set that unlearning trains on. The smaller of two fractions with the same seed is a part of
    /// the larger one; the order of the set is kept.
    ///
    /// # Errors
    /// [`Error::Input`] if `fraction` is not in (0, 1] or if nothing would be left.
    pub fn fraction(&self, fraction: f64, of: FractionOf, seed: u64) -> Result<Self> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(Error::input(format!("fraction {fraction}: expected a number above 0 and up to 1")));
        }
        let count = match of {
            FractionOf::Slices => self.slice_count(),
            FractionOf::Volumes => self.volumes.len(),
        };
        let kept = of.part(fraction, count, &self.source.display().to_string())?;
        let mut chosen = shuffled("kerase fraction", &[seed], count);
        chosen.truncate(kept);
        chosen.sort_unstable();

        let mut selected = vec![vec![]; self.volumes.len()];
        match of {
            FractionOf::Volumes => {
                chosen.iter().for_each(|&volume| selected[volume] = self.selected[volume].clone())
            }
            FractionOf::Slices => {
                let slices = self.slices();
                chosen
                    .iter()
                    .map(|&index| slices[index])
                    .for_each(|(volume, slice)| selected[volume].push(slice));
            }
        }
        let parts = self.volumes.iter().cloned().zip(selected).filter(|(_, slices)| !slices.is_empty());
        let (volumes, selected) = parts.unzip();
        Ok(Self { source: self.source.clone(), volumes, selected, cache: None })
    }
}

/// How files of volumes end.
const EXTENSIONS: [&str; 3] = ["h5", "hdf5", "mat"];

/// How many volumes of these sets come with a mask of their own, for people; `None` where none does.
pub fn own_masks_summary<'s>(sets: impl IntoIterator<Item = &'s VolumeSet>) -> Option<String> {
    let volumes: Vec<&VolumeFile> = sets.into_iter().flat_map(VolumeSet::volumes).collect();
    let own = volumes.iter().filter(|volume| volume.mask.is_some()).count();
    (own > 0).then(|| {
        format!(
            "taken as they are, with a mask of their own, whatever --mask and --acceleration say: {own} of {} volumes",
            volumes.len()
        )
    })
}

/// A volume of a set before it is opened.
struct Entry {
    path: PathBuf,
    slices: Option<Range<usize>>,
}

impl Entry {
    fn open(self) -> Result<(VolumeFile, Vec<usize>)> {
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

fn manifest_entries(manifest: &Path) -> Result<Vec<Entry>> {
    let bytes = std::fs::read(manifest).map_err(|source| Error::io("read", manifest, source))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::input(format!(
            "{} is neither an HDF5 file nor a manifest (a text file with one volume a line)",
            manifest.display()
        ))
    })?;
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
                    "{} line {}: '{last}': expected slices=FROM..TO without blanks, such as slices=3..20 for slices 3 to 19",
                    manifest.display(),
                    number + 1
                )));
            }
            Some((path, last)) if last.starts_with("slices=") => {
                let slices = slice_range(&last["slices=".len()..]).ok_or_else(|| {
                    Error::input(format!(
                        "{} line {}: '{last}': expected slices=FROM..TO with FROM < TO, such as slices=3..20 for \
                         slices 3 to 19",
                        manifest.display(),
                        number + 1
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
    let missing: Vec<String> = entries
        .iter()
        .filter(|entry| !entry.path.is_file())
        .map(|entry| entry.path.display().to_string())
        .collect();
    if !missing.is_empty() {
        return Err(Error::input(format!(
            "{} lists {} files that do not exist, relative to it:{}",
            manifest.display(),
            missing.len(),
            listed(missing)
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
    Err(Error::input(format!("{} has volumes more than once:{}", source.display(), listed(twice))))
}

fn listed(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| format!("\n  {line}")).collect()
}
