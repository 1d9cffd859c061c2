//! Orders drawn from seeds, the same on every platform and with every version of a library.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

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
