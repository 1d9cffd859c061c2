//! Reals in main memory, and how many bytes all of them take.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::real::Real;

/// Bytes of the buffers that there are.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

impl Held {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What [`crate::cpu::Cpu`] works on.
pub struct Buffer<T> {
    values: Vec<T>,
    held: Held,
}

impl<T: Real> Buffer<T> {
    pub fn zeros(len: usize, held: &Held) -> Self {
        let values = vec![T::zero(); len];
        held.0.fetch_add(values.capacity() * size_of::<T>(), Ordering::Relaxed);
        Self { values, held: held.clone() }
    }

    /// # Panics
    /// Where there was never room for so many.
    pub fn set_len(&mut self, len: usize) {
        let most = self.values.capacity();
        assert!(len <= most, "a buffer of {most} is asked to hold {len}");
        self.values.resize(len, T::zero());
    }
}

/// Beside what any device holds.
impl<T: Real> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        let held = Held(Arc::new(AtomicUsize::new(values.capacity() * size_of::<T>())));
        Self { values, held }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.values.capacity() * size_of::<T>(), Ordering::Relaxed);
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_no_longer_held() {
        let held = Held::default();
        let [first, mut second] = [3, 5].map(|len| Buffer::<f64>::zeros(len, &held));
        assert_eq!(held.bytes(), 64);
        second.set_len(2);
        assert_eq!((second.len(), held.bytes()), (2, 64), "its memory is still there");
        drop(second);
        assert_eq!(held.bytes(), 24);
        drop(first);
        assert_eq!(held.bytes(), 0);
    }
}
