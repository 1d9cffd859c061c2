//! A set of volumes, such as the retain set or the forget set, and which of their slices are in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use num_complex::Complex32;
use rayon::prelude::*;

use super::cache::{CacheBudget, SliceCache};
use super::entries::{Entry, entries, listed};
use super::volume::{Slice, SliceId, SliceShape, VolumeFile};
use crate::error::{Error, Result};

/// Volumes whose metadata has been read, with the slices of each that belong to the set (never none).
#[derive(Clone, Debug)]
pub struct VolumeSet {
    pub(super) sources: Vec<PathBuf>,
    pub(super) volumes: Vec<VolumeFile>,
    /// For each volume, in ascending order.
    pub(super) selected: Vec<Vec<usize>>,
    /// Of this set alone: a part of it, or a set that it is joined with, numbers volumes anew.
    pub(super) cache: Option<Arc<SliceCache>>,
}

impl VolumeSet {
    /// Opens a directory, a file or a manifest ([`super::entries`]), reading the metadata of all volumes in parallel.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty set, for entries of a manifest that are missing, listed twice or out of
    /// range, and for volumes that cannot be used: all of them are named, not only the first (of missing ones a hundred).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let source = path.as_ref();
        let opened: Vec<Result<(VolumeFile, Vec<usize>)>> =
            entries(source)?.into_par_iter().map(Entry::open).collect();
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
        let remedy = match source.is_dir() {
            true => "\nto do without, list the others in a manifest, a text file with one path a line",
            false => "",
        };
        match failures.len() {
            0 => Ok(Self { sources: vec![source.to_path_buf()], volumes, selected, cache: None }),
            1 => Err(match failures.remove(0) {
                Error::Input(what) => Error::Input(what + remedy),
                other => other,
            }),
            count => {
                let lines = failures.iter().map(ToString::to_string).collect();
                Err(Error::input(format!(
                    "{}: {count} volumes cannot be used:{}{remedy}",
                    source.display(),
                    listed(lines)
                )))
            }
        }
    }

    /// Several sets as one, in their order; whether they share volumes is not looked at.
    ///
    /// # Errors
    /// As [`Self::open`]; where there are none.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self> {
        let sets: Vec<Self> = paths.iter().map(Self::open).collect::<Result<_>>()?;
        sets.into_iter().reduce(Self::join).ok_or_else(|| Error::input("there is no set of volumes"))
    }

    /// Both sets as one: the volumes of `other` come after this set's own.
    pub fn join(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self.volumes.extend(other.volumes);
        self.selected.extend(other.selected);
        self.cache = None;
        self
    }

    /// A slice by its volume's name, of the first volume that has both: files of several directories may share a name.
    ///
    /// # Errors
    /// [`Error::Input`] where the set has none.
    pub fn slice_named(&self, name: &str, slice: usize) -> Result<SliceId> {
        (0..self.volumes.len())
            .find(|&i| self.volumes[i].name == name && self.selected[i].contains(&slice))
            .map(|volume| (volume, slice))
            .ok_or_else(|| Error::input(format!("{}: there is no slice {slice} of {name}", self.named())))
    }

    /// Some slices of this set; its order is kept.
    ///
    /// # Panics
    /// For a volume that it does not have.
    pub fn only(&self, slices: &[SliceId]) -> Self {
        let mut selected = vec![vec![]; self.volumes.len()];
        for &(volume, slice) in slices {
            selected[volume].push(slice);
        }
        selected.iter_mut().for_each(|slices| {
            slices.sort_unstable();
            slices.dedup();
        });
        let parts = self.volumes.iter().cloned().zip(selected).filter(|(_, slices)| !slices.is_empty());
        let (volumes, selected) = parts.unzip();
        Self { sources: self.sources.clone(), volumes, selected, cache: None }
    }

    /// The volumes whose index is wanted; none where that is none of them.
    pub fn volumes_where(&self, wanted: impl Fn(usize) -> bool) -> Option<Self> {
        let parts = self.volumes.iter().cloned().zip(self.selected.iter().cloned()).enumerate();
        let (volumes, selected): (Vec<_>, Vec<_>) =
            parts.filter(|(i, _)| wanted(*i)).map(|(_, part)| part).unzip();
        (!volumes.is_empty()).then(|| Self { sources: self.sources.clone(), volumes, selected, cache: None })
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

    /// What was given to [`VolumeSet::open`], of each set that was joined.
    pub fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// The same for people.
    pub fn named(&self) -> String {
        let shown: Vec<String> = self.sources.iter().map(|path| path.display().to_string()).collect();
        shown.join(", ")
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

    /// What the targets of each volume that has some go up to, by its attribute `max`, in the order of the volumes.
    pub fn target_ranges(&self) -> Vec<f64> {
        self.volumes.iter().filter_map(|volume| volume.max).filter(|max| *max > 0.0).collect()
    }

    /// One line on the size and the shapes of the set, for people.
    pub fn summary(&self) -> String {
        let shapes = self.shapes();
        let shapes: Vec<String> = shapes.iter().map(|(shape, count)| format!("{count} of {shape}")).collect();
        format!("{} volumes, {} slices ({})", self.volumes.len(), self.slice_count(), shapes.join("; "))
    }
}

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
