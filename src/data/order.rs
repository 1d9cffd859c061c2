//! The order in which an epoch visits slices: seeded, and the same on every platform.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::set::{SliceId, SliceShape, VolumeSet};

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

/// `0..count` in an order drawn from `purpose` and `seeds` (Fisher–Yates on ChaCha8).
///
/// The bounded draw is written out here because that of a library may change with its version, and then a
/// resumed run would no longer visit what the interrupted one had left.
pub(super) fn shuffled(purpose: &str, seeds: &[u64], count: usize) -> Vec<usize> {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    seeds.iter().for_each(|seed| hash.update(seed.to_le_bytes()));
    let mut random = ChaCha8Rng::from_seed(hash.finalize().into());

    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, below(&mut random, last as u64 + 1) as usize);
    }
    order
}

/// Uniform over `0..bound`: what would favour small values is drawn again.
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let surplus = (u64::MAX % bound + 1) % bound;
    loop {
        let value = random.next_u64();
        if value <= u64::MAX - surplus {
            return value % bound;
        }
    }
}
