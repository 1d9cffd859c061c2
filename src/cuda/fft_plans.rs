//! How lines are transformed, a plan for each length: made when it is first asked for, and kept with its table of roots
//! of unity.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::sync::Mutex;

use crate::backend::Backend;
use crate::cuda::driver::Driver;
use crate::cuda::fft::FftPlan;
use crate::cuda::{Buffer, Cuda};

/// By length: the plan, and what its table lies in.
pub struct FftPlans<D: Driver>(Mutex<HashMap<usize, (FftPlan, Buffer<D>)>>);

impl<D: Driver> Default for FftPlans<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Driver> Cuda<D> {
    /// The plan for a length. The first time its table is uploaded, which is never while a step is recorded: a step was
    /// carried out before.
    pub(in crate::cuda) fn fft_plan(&self, length: usize) -> FftPlan {
        let mut plans = self.fft_plans.0.lock().expect("nothing panics while it holds the plans");
        if let Some((plan, _)) = plans.get(&length) {
            return *plan;
        }
        let (mut plan, roots) = FftPlan::new(length);
        let values: Vec<f32> = roots.into_iter().flat_map(|[k, n]| root(k, n)).collect();
        let Some(mut table) = self.attempt(|driver| self.arena().constants(driver, values.len())) else {
            return plan;
        };
        self.upload(&values, &mut table);
        plan.table = table.read_complex(values.len());
        // Else nothing is in it.
        if self.failure().is_none() {
            plans.insert(length, (plan, table));
        }
        plan
    }
}

/// exp(−2πi·k/length), rounded once.
fn root(k: usize, length: usize) -> [f32; 2] {
    let (sin, cos) = (TAU * k as f64 / length as f64).sin_cos();
    [cos as f32, -sin as f32]
}
