//! The order in which an epoch visits slices: seeded, and the same on every platform.

use std::collections::HashMap;

use super::set::VolumeSet;
use super::shuffle::shuffled;
use super::volume::{SliceId, SliceShape};

/// The batches of one epoch (from 0): every slice of `set` once, in batches of up to `batch` slices that have
/// the same shape.
///
/// With `shuffle` the slices come in an order drawn from `seed` and `epoch`, otherwise in the order of the set.
/// A batch stands where its last slice completes it; the incomplete ones that are left follow at the end, in the
/// order of their first slices. With `batch` 1 the order is just that of the slices.
pub fn epoch_order(set: &VolumeSet, seed: u64, epoch: u64, shuffle: bool, batch: usize) -> Vec<Vec<SliceId>> {
    let slices = set.slices();
    let order = if shuffle {
        shuffled("kerase epoch", &[seed, epoch], slices.len())
    } else {
        (0..slices.len()).collect()
    };
    let batch = batch.max(1);
    let mut batches = vec![];
    // The position of its first slice keeps the order of the incomplete batches independent of the map's.
    let mut open: HashMap<SliceShape, (usize, Vec<SliceId>)> = HashMap::new();
    for (position, index) in order.into_iter().enumerate() {
        let slice = slices[index];
        let shape = set.shape(slice.0);
        let (_, slices) = open.entry(shape).or_insert_with(|| (position, vec![]));
        slices.push(slice);
        if slices.len() == batch {
            batches.extend(open.remove(&shape).map(|(_, slices)| slices));
        }
    }
    let mut rest: Vec<_> = open.into_values().collect();
    rest.sort_unstable();
    batches.extend(rest.into_iter().map(|(_, slices)| slices));
    batches
}
