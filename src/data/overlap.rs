//! Whether two sets share a volume: a forget set that is also in the retain set is never forgotten.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::digest::{file_sample, file_sha256, slice_sha256};
use super::fastmri::VolumeFile;
use super::set::VolumeSet;
use crate::error::{Error, Result};

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
    let lines: String = common.iter().map(|line| format!("\n  {line}")).collect();
    Err(Error::input(format!(
        "{} volumes are in the {} set ({}) as well as in the {} set ({}); leave them out of one:{lines}",
        common.len(),
        names[0],
        first.source().display(),
        names[1],
        second.source().display()
    )))
}

/// The volumes that two sets have in common, under whatever names, each with why it is the same, for people. Slices do not
/// matter, because the slices of one volume are one patient.
///
/// Volumes are the same if they are one file (links followed), if their files have the same SHA-256, or if they
/// have the same shape, `max` and `norm` and the same middle slice, as a recompressed copy has. Files are only
/// hashed where size and a sample of their bytes agree, so disjoint sets of hundreds of gigabytes are told apart
/// in seconds.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read.
pub fn common_volumes(first: &VolumeSet, second: &VolumeSet) -> Result<Vec<String>> {
    let canonical = |volume: &VolumeFile| {
        volume.path.canonicalize().map_err(|source| Error::io("read", &volume.path, source))
    };
    let paths = first.volumes().iter().map(canonical).collect::<Result<HashSet<_>>>()?;
    let sizes = by_key(first.volumes(), |volume| file_size(&volume.path).map(Some))?;
    let contents = by_key(first.volumes(), |volume| Ok(content_key(volume)))?;

    let mut common = vec![];
    for volume in second.volumes() {
        if paths.contains(&canonical(volume)?) {
            common.push(format!("{} (the same file)", volume.path.display()));
            continue;
        }
        let same_size = sizes.get(&file_size(&volume.path)?).into_iter().flatten();
        let same_content = content_key(volume).and_then(|key| contents.get(&key)).into_iter().flatten();
        let mut twin = None;
        for other in same_size {
            if twin.is_none() && same_bytes(&other.path, &volume.path)? {
                twin = Some((other, "the same bytes"));
            }
        }
        for other in same_content {
            if twin.is_none() && same_slice(other, volume)? {
                twin = Some((other, "the same k-space"));
            }
        }
        if let Some((other, why)) = twin {
            common.push(format!("{} and {} ({why})", volume.path.display(), other.path.display()));
        }
    }
    Ok(common)
}

/// How many volumes of the second set are of patients whom the first one has volumes of, by the patient that files name.
/// Some sets name none, or one for all: it is a reason to look, not to refuse.
pub fn volumes_of_same_patients(first: &VolumeSet, second: &VolumeSet) -> usize {
    let patient = |volume: &'_ VolumeFile| volume.patient_id.clone().filter(|id| !id.trim().is_empty());
    let patients: HashSet<String> = first.volumes().iter().filter_map(patient).collect();
    second.volumes().iter().filter_map(patient).filter(|id| patients.contains(id)).count()
}

fn by_key<K: std::hash::Hash + Eq>(
    volumes: &[VolumeFile],
    key: impl Fn(&VolumeFile) -> Result<Option<K>>,
) -> Result<HashMap<K, Vec<&VolumeFile>>> {
    let mut map: HashMap<K, Vec<&VolumeFile>> = HashMap::new();
    for volume in volumes {
        if let Some(key) = key(volume)? {
            map.entry(key).or_default().push(volume);
        }
    }
    Ok(map)
}

fn file_size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len())
}

/// What copies of one volume agree in however they are stored, and others hardly ever do.
fn content_key(volume: &VolumeFile) -> Option<([usize; 4], [u64; 2])> {
    let [rows, columns] = volume.matrix;
    let numbers = [volume.max?.to_bits(), volume.norm?.to_bits()];
    Some(([volume.slices, volume.stored_coils(), rows, columns], numbers))
}

fn same_slice(a: &VolumeFile, b: &VolumeFile) -> Result<bool> {
    let middle = a.slices / 2;
    Ok(slice_sha256(&a.read_slice_as_stored(middle)?) == slice_sha256(&b.read_slice_as_stored(middle)?))
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    Ok(file_sample(a)? == file_sample(b)? && file_sha256(a)? == file_sha256(b)?)
}
