//! Roots of unity, a table for each length that is transformed: made when it is first asked for, and kept.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::sync::Mutex;

use crate::backend::Backend;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{C32, Const};
use crate::cuda::{Buffer, Cuda};

/// By length: exp(−2πi·k/length) for all k below it.
pub struct Twiddles<D: Driver>(Mutex<HashMap<usize, Buffer<D>>>);

impl<D: Driver> Default for Twiddles<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Driver> Cuda<D> {
    /// The table for a length. The first time it is uploaded, which is never while a step is recorded: a step was
    /// carried out before.
    pub(in crate::cuda) fn twiddles(&self, length: usize) -> Const<C32> {
        let mut tables = self.twiddles.0.lock().expect("nothing panics while it holds the tables");
        if let Some(table) = tables.get(&length) {
            return table.read_complex(2 * length);
        }
        let values: Vec<f32> = (0..length).flat_map(|k| root(k, length)).collect();
        let Some(mut table) = self.attempt(|driver| self.arena().constants(driver, values.len())) else {
            return Const::null();
        };
        self.upload(&values, &mut table);
        // Else nothing is in it.
        if self.failure().is_none() {
            tables.insert(length, table);
            return tables[&length].read_complex(2 * length);
        }
        Const::null()
    }
}

/// exp(−2πi·k/length), rounded once.
fn root(k: usize, length: usize) -> [f32; 2] {
    let (sin, cos) = (TAU * k as f64 / length as f64).sin_cos();
    [cos as f32, -sin as f32]
}
