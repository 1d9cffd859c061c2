//! Working memory of a task: taken from a shelf, given back when dropped, aligned for the widest registers.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use bytemuck::{Pod, Zeroable};

use crate::real::Real;

/// One cache line; vectors of these are aligned where vectors of reals are not.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Buffers that finished tasks left behind. Their contents are whatever those tasks wrote.
#[derive(Default)]
pub struct Shelf {
    free: Mutex<Vec<Vec<Line>>>,
}

impl Shelf {
    /// At least `len` reals with unspecified finite-or-not contents.
    pub fn take<T: Real>(&self, len: usize) -> Scratch<'_, T> {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut buffer = {
            let mut free = self.free.lock().expect("no task panics while it holds the shelf");
            // The smallest that is large enough; or else the largest, which is the least to add to what is held.
            let fits = |&i: &usize| free[i].len() >= lines;
            // Of several the last one to come, which may still be in this core's cache.
            let best = (0..free.len()).rev().filter(fits).min_by_key(|&i| free[i].len());
            let best = best.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
            best.map_or_else(Vec::new, |i| free.swap_remove(i))
        };
        if buffer.len() < lines {
            // Not `resize`: the old contents need not move, nor be there beside the new.
            drop(buffer);
            buffer = vec![Line::zeroed(); lines];
        }
        Scratch { shelf: self, buffer, len, real: std::marker::PhantomData }
    }

    /// Fills what lies on the shelf with a value.
    pub fn fill<T: Real>(&self, value: T) {
        for buffer in self.free.lock().expect("no task panics while it holds the shelf").iter_mut() {
            bytemuck::cast_slice_mut(buffer).fill(value);
        }
    }
}

/// A task's working memory: a slice of exactly the length asked for.
pub struct Scratch<'a, T> {
    shelf: &'a Shelf,
    buffer: Vec<Line>,
    len: usize,
    real: std::marker::PhantomData<T>,
}

impl<T: Real> Deref for Scratch<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.buffer)[..self.len]
    }
}

impl<T: Real> DerefMut for Scratch<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.buffer)[..self.len]
    }
}

impl<T> Drop for Scratch<'_, T> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if let Ok(mut free) = self.shelf.free.lock() {
            free.push(buffer);
        }
    }
}
