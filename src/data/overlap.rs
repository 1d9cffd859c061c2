//! Whether two sets share a volume: a forget set that is also in the retain set is never forgotten.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::digest::{file_sample, file_sha256, values_sha256};
use super::set::VolumeSet;
use super::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::progress::got_on;

/// Refuses two sets that have a volume in common: see [`common_volumes`]. `names` says what the sets are in the error, such
/// as `["retain", "forget"]`.
///
/// # Errors
/// [`Error::Input`] with every volume in common; [`Error::Io`] if a file cannot be read.
pub fn check_disjoint(first: &VolumeSet, second: &VolumeSet, names: [&str; 2]) -> Result<()> {
    let common = common_volumes(first, second)?;
    if common.is_empty() {
        return Ok(());
    }
    let lines: String = common.iter().map(|volume| format!("\n  {}", volume.text)).collect();
    Err(Error::input(format!(
        "{} ({}) and {} ({}) share volumes: leave them out of one, whichever slices of them it chooses:{lines}",
        described(names[0]),
        first.named(),
        described(names[1]),
        second.named()
    )))
}

/// Several sets that share no volume, as one. `option` is what names them.
///
/// # Errors
/// None at all, sets that cannot be opened, or that [`check_disjoint`] refuses.
pub fn open_disjoint(paths: &[PathBuf], option: &str) -> Result<VolumeSet> {
    let sets: Vec<VolumeSet> = paths.iter().map(VolumeSet::open).collect::<Result<_>>()?;
    for (i, set) in sets.iter().enumerate() {
        for other in &sets[..i] {
            check_disjoint(other, set, [option, &format!("another {option}")])?;
        }
    }
    sets.into_iter().reduce(VolumeSet::join).ok_or_else(|| {
        Error::input(format!("{option} is missing: name a directory, file or manifest of volumes"))
    })
}

/// "the retain set"; what is more than a word, or an option, as it is.
fn described(name: &str) -> String {
    if name.contains(' ') || name.starts_with('-') { name.to_string() } else { format!("the {name} set") }
}

/// A volume of one set that another has, too.
#[derive(Clone, Debug)]
pub struct CommonVolume {
    /// Of the file, links followed.
    pub path: PathBuf,
    /// For people: which it is, and why it is the same.
    pub text: String,
}

/// The volumes of the second set that the first has, too, under whatever names. Slices do not matter, because the slices
/// of one volume are one patient.
///
/// Volumes are the same if they are one file (links followed), if their files have the same SHA-256, or if they have the
/// same shape and the same k-space in their middle slice, whatever else is in their files: as a copy has that was recompressed,
/// or went through another format and back. Much is only read where
/// little does not tell them apart: files where size and a sample of their bytes agree, k-space where that of the first coil
/// does, which is a megabyte or two of each volume, or a slice where it is compressed.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read.
pub fn common_volumes(first: &VolumeSet, second: &VolumeSet) -> Result<Vec<CommonVolume>> {
    let canonical = |volume: &VolumeFile| {
        volume.path.canonicalize().map_err(|source| Error::io("read", &volume.path, source))
    };
    let paths = first.volumes().iter().map(canonical).collect::<Result<HashSet<_>>>()?;
    let sizes = by_key(first.volumes(), |volume| Ok(Some(file_size(&volume.path)?)))?;
    let of_second: HashSet<_> = second.volumes().iter().map(shape).collect();
    let samples = by_key(first.volumes(), |volume| match of_second.contains(&shape(volume)) {
        true => sample(volume),
        false => Ok(None),
    })?;
    let of_first: HashSet<_> = first.volumes().iter().map(shape).collect();
    let middles = Middles::default();

    let twin_of = |volume: &VolumeFile| -> Result<Option<CommonVolume>> {
        got_on();
        let path = canonical(volume)?;
        let shown = volume.path.display();
        let common = |text: String| Ok(Some(CommonVolume { path: path.clone(), text }));
        if paths.contains(&path) {
            return common(format!("{shown} (the same file)"));
        }
        for other in sizes.get(&file_size(&volume.path)?).into_iter().flatten() {
            if same_bytes(&other.path, &volume.path)? {
                return common(format!("{shown} and {} (the same bytes)", other.path.display()));
            }
        }
        let sampled = if of_first.contains(&shape(volume)) { sample(volume)? } else { None };
        for other in sampled.and_then(|sample| samples.get(&sample)).into_iter().flatten() {
            if middles.same(other, volume)? {
                return common(format!("{shown} and {} (the same k-space)", other.path.display()));
            }
        }
        Ok(None)
    };
    let found: Vec<Option<CommonVolume>> = second.volumes().par_iter().map(twin_of).collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// How many volumes of the second set are of patients whom the first one has volumes of, by the patient that files name.
/// Some sets name none, or one for all: it is a reason to look, not to refuse.
pub fn volumes_of_same_patients(first: &VolumeSet, second: &VolumeSet) -> usize {
    let patient = |volume: &'_ VolumeFile| volume.patient_id.clone().filter(|id| !id.trim().is_empty());
    let patients: HashSet<String> = first.volumes().iter().filter_map(patient).collect();
    second.volumes().iter().filter_map(patient).filter(|id| patients.contains(id)).count()
}

/// Those that have a key, by it.
fn by_key<K: Hash + Eq + Send>(
    volumes: &[VolumeFile],
    key: impl Fn(&VolumeFile) -> Result<Option<K>> + Send + Sync,
) -> Result<HashMap<K, Vec<&VolumeFile>>> {
    let keys: Vec<Option<K>> = volumes.par_iter().map(key).collect::<Result<_>>()?;
    let mut map: HashMap<K, Vec<&VolumeFile>> = HashMap::new();
    for (volume, key) in volumes.iter().zip(keys) {
        if let Some(key) = key {
            map.entry(key).or_default().push(volume);
        }
    }
    Ok(map)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len())
}

fn shape(volume: &VolumeFile) -> [usize; 4] {
    let [rows, columns] = volume.matrix;
    [volume.slices, volume.stored_coils(), rows, columns]
}

/// What volumes that are the same have in common, and others have not as a rule: the shape, and a hash of the first coil's
/// k-space in the middle slice. None of a slice that cannot be used, as of one with NaN: what needs it will say so.
fn sample(volume: &VolumeFile) -> Result<Option<([usize; 4], String)>> {
    got_on();
    let kspace = usable(volume.read_first_coil(volume.slices / 2))?;
    Ok(kspace.map(|kspace| (shape(volume), values_sha256(bytemuck::cast_slice(&kspace)))))
}

fn usable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(Error::Input(_)) => Ok(None),
        read => read.map(Some),
    }
}

/// Hashes of middle slices, by path, as far as they were asked for.
#[derive(Default)]
struct Middles(Mutex<HashMap<PathBuf, Option<String>>>);

impl Middles {
    /// Whether two volumes of one shape have the same k-space in the middle.
    fn same(&self, a: &VolumeFile, b: &VolumeFile) -> Result<bool> {
        let of_a = self.kspace(a)?;
        Ok(of_a.is_some() && of_a == self.kspace(b)?)
    }

    /// Two threads may find out the same: it is the same.
    fn kspace(&self, volume: &VolumeFile) -> Result<Option<String>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = lock().get(&volume.path) {
            return Ok(hash.clone());
        }
        got_on();
        let slice = usable(volume.read_slice_as_stored(volume.slices / 2))?;
        let hash = slice.map(|slice| values_sha256(bytemuck::cast_slice(&slice.kspace)));
        lock().insert(volume.path.clone(), hash.clone());
        Ok(hash)
    }
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    Ok(file_sample(a)? == file_sample(b)? && file_sha256(a)? == file_sha256(b)?)
}
