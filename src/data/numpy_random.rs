//! numpy's legacy `RandomState`, as far as fastMRI's masks draw on it.
//!
//! The generator is MT19937 (crate rand_mt, whose two ways of seeding are numpy's `mt19937_seed` and
//! `init_by_array`); what numpy does with its output is written here, draw for draw. numpy promises that this
//! stream never changes (NEP 19), so masks seeded from a file name are the same everywhere, for ever.

use rand_mt::Mt;

/// `numpy.random.RandomState`.
pub struct RandomState(Mt);

impl RandomState {
    /// `RandomState(seed)` with an integer seed.
    pub fn from_integer(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// `RandomState(seed)` with a tuple or array of integers.
    ///
    /// `key` must be neither empty (numpy refuses it) nor longer than the generator's 624 words (beyond them
    /// rand_mt and numpy part ways; file names end at 255).
    pub fn from_key(key: &[u32]) -> Self {
        assert!((1..=624).contains(&key.len()), "a seed has 1 to 624 words, not {}", key.len());
        Self(Mt::new_with_key(key.iter().copied()))
    }

    /// `randint(0, high)`: uniform over `0..high`. With one possible value nothing is drawn, as in numpy.
    ///
    /// numpy masks 32-bit draws to the next power of two and rejects what is too large.
    pub fn randint(&mut self, high: u32) -> u32 {
        assert!(high > 0, "numpy's randint needs high > 0");
        let largest = high - 1;
        if largest == 0 {
            return 0;
        }
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let value = self.0.next_u32() & mask;
            if value <= largest {
                return value;
            }
        }
    }

    /// `rand()` and `uniform()`: one double in [0, 1) of 53 random bits, from two 32-bit draws.
    pub fn uniform(&mut self) -> f64 {
        let high = f64::from(self.0.next_u32() >> 5);
        let low = f64::from(self.0.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `choice(values)`, one value, all equally likely.
    pub fn choice<T: Copy>(&mut self, values: &[T]) -> T {
        let count = u32::try_from(values.len()).expect("far fewer than 2^32 choices");
        values[self.randint(count) as usize]
    }
}
