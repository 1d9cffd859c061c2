//! Slices that stay in the host's memory once they were read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use num_complex::Complex32;

use super::volume::{Slice, SliceId};

/// Bytes that sets may share.
#[derive(Debug)]
pub struct CacheBudget(AtomicU64);

impl CacheBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(bytes)))
    }

    /// Whether so many bytes were left; they no longer are.
    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What is kept of one set: slices that come first, as many as there is room for. None gives way to another: an epoch wants
/// every slice once, so that the one just read is the one that is wanted last.
#[derive(Debug)]
pub struct SliceCache {
    budget: Arc<CacheBudget>,
    /// By volume and slice.
    slices: Vec<Vec<OnceLock<Slice>>>,
}

impl SliceCache {
    /// For volumes of so many slices.
    pub fn new(budget: &Arc<CacheBudget>, volumes: impl IntoIterator<Item = usize>) -> Self {
        let empty = |slices| (0..slices).map(|_| OnceLock::new()).collect();
        Self { budget: budget.clone(), slices: volumes.into_iter().map(empty).collect() }
    }

    /// A copy of what is kept, with k-space in memory that is there already.
    pub fn copy(
        &self,
        (volume, slice): SliceId,
        mut memory: Vec<Complex32>,
    ) -> Result<Slice, Vec<Complex32>> {
        let Some(kept) = self.slices[volume][slice].get() else { return Err(memory) };
        memory.clear();
        memory.extend_from_slice(&kept.kspace);
        Ok(Slice { kspace: memory, target: kept.target.clone() })
    }

    /// Keeps a copy, if there is room for it.
    pub fn keep(&self, (volume, slice): SliceId, read: &Slice) {
        let place = &self.slices[volume][slice];
        let target = read.target.as_deref().unwrap_or_default();
        let bytes = (size_of_val(read.kspace.as_slice()) + size_of_val(target)) as u64;
        if place.get().is_some() || !self.budget.take(bytes) {
            return;
        }
        // Memory that is worked with may be larger than what it holds; a copy is not.
        if place.set(Slice { kspace: read.kspace.as_slice().to_vec(), target: read.target.clone() }).is_err()
        {
            self.budget.give_back(bytes);
        }
    }

    /// How many slices are kept.
    pub fn count(&self) -> usize {
        self.slices.iter().flatten().filter(|slice| slice.get().is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(value: f32) -> Slice {
        Slice { kspace: vec![Complex32::new(value, -value); 6], target: Some(vec![value; 4]) }
    }

    /// 6 complex numbers and 4 real ones.
    const BYTES: u64 = 64;

    #[test]
    fn what_there_is_room_for_stays_and_comes_back_as_it_was() {
        let budget = CacheBudget::new(3 * BYTES + BYTES / 2);
        let [first, second] = [SliceCache::new(&budget, [2, 1]), SliceCache::new(&budget, [2])];
        first.keep((0, 1), &slice(1.0));
        first.keep((1, 0), &slice(2.0));
        // Not a second time.
        first.keep((1, 0), &slice(3.0));
        second.keep((0, 0), &slice(4.0));
        second.keep((0, 1), &slice(5.0));
        assert_eq!([first.count(), second.count()], [2, 1]);
        let copy = first.copy((1, 0), vec![Complex32::ZERO; 9]).unwrap();
        assert_eq!((copy.kspace, copy.target), (slice(2.0).kspace, slice(2.0).target));
        assert_eq!(first.copy((0, 0), vec![Complex32::ONE]).unwrap_err(), [Complex32::ONE]);
        assert!(second.copy((0, 1), vec![]).is_err());
    }
}
