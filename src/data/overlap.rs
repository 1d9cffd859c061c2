//! Whether two sets share a volume: a forget set that is also in the retain set is never forgotten.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::digest::{file_sample, file_sha256, values_sha256};
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
        "{} volumes are in {} ({}) as well as in {} ({}); leave them out of one:{lines}",
        common.len(),
        described(names[0]),
        first.source().display(),
        described(names[1]),
        second.source().display()
    )))
}

/// "the retain set"; what is more than a word, or an option, as it is.
fn described(name: &str) -> String {
    if name.contains(' ') || name.starts_with('-') { name.to_string() } else { format!("the {name} set") }
}

/// The volumes that two sets have in common, under whatever names, each with why it is the same, for people. Slices do not
/// matter, because the slices of one volume are one patient.
///
/// Volumes are the same if they are one file (links followed), if their files have the same SHA-256, or if they have the
/// same shape and the same k-space in their middle slice, as a recompressed copy has. Much is only read where little does
/// not tell them apart, so disjoint sets of hundreds of gigabytes are compared in seconds: files where size and a sample of
/// their bytes agree, k-space where `max` and `norm` do, or the middle slice of the target, or where there is neither.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read.
pub fn common_volumes(first: &VolumeSet, second: &VolumeSet) -> Result<Vec<String>> {
    let canonical = |volume: &VolumeFile| {
        volume.path.canonicalize().map_err(|source| Error::io("read", &volume.path, source))
    };
    let paths = first.volumes().iter().map(canonical).collect::<Result<HashSet<_>>>()?;
    let sizes = by_key(first.volumes(), |volume| file_size(&volume.path))?;
    let shapes = by_key(first.volumes(), |volume| Ok(shape(volume)))?;
    let mut middles = Middles::default();

    let mut common = vec![];
    for volume in second.volumes() {
        if paths.contains(&canonical(volume)?) {
            common.push(format!("{} (the same file)", volume.path.display()));
            continue;
        }
        let mut twin = None;
        for other in sizes.get(&file_size(&volume.path)?).into_iter().flatten() {
            if twin.is_none() && same_bytes(&other.path, &volume.path)? {
                twin = Some((other, "the same bytes"));
            }
        }
        for other in shapes.get(&shape(volume)).into_iter().flatten() {
            if twin.is_none() && middles.same(other, volume)? {
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
    key: impl Fn(&VolumeFile) -> Result<K>,
) -> Result<HashMap<K, Vec<&VolumeFile>>> {
    let mut map: HashMap<K, Vec<&VolumeFile>> = HashMap::new();
    for volume in volumes {
        map.entry(key(volume)?).or_default().push(volume);
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

/// Hashes of middle slices, by path, as far as they were asked for.
#[derive(Default)]
struct Middles {
    kspace: HashMap<PathBuf, String>,
    targets: HashMap<PathBuf, Option<String>>,
}

impl Middles {
    /// Whether two volumes of one shape have the same k-space in the middle.
    fn same(&mut self, a: &VolumeFile, b: &VolumeFile) -> Result<bool> {
        let numbers = |volume: &VolumeFile| Some([volume.max?, volume.norm?].map(f64::to_bits));
        let may_be = match (numbers(a), numbers(b)) {
            (Some(of_a), Some(of_b)) if of_a == of_b => true,
            of_both => match (self.target(a)?, self.target(b)?) {
                (Some(of_a), Some(of_b)) => of_a == of_b,
                _ => !matches!(of_both, (Some(_), Some(_))),
            },
        };
        Ok(may_be && self.kspace(a)? == self.kspace(b)?)
    }

    fn target(&mut self, volume: &VolumeFile) -> Result<Option<String>> {
        if let Some(known) = self.targets.get(&volume.path) {
            return Ok(known.clone());
        }
        let hash = volume.read_target(volume.slices / 2)?.map(|target| values_sha256(&target));
        self.targets.insert(volume.path.clone(), hash.clone());
        Ok(hash)
    }

    fn kspace(&mut self, volume: &VolumeFile) -> Result<String> {
        if let Some(known) = self.kspace.get(&volume.path) {
            return Ok(known.clone());
        }
        let slice = volume.read_slice_as_stored(volume.slices / 2)?;
        let hash = values_sha256(bytemuck::cast_slice(&slice.kspace));
        self.kspace.insert(volume.path.clone(), hash.clone());
        Ok(hash)
    }
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    Ok(file_sample(a)? == file_sample(b)? && file_sha256(a)? == file_sha256(b)?)
}
