//! How much memory a network needs for a task, counted without taking any: the buffers are laid out by the same code as
//! for the task itself.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::backend::{ImageShape, Memory, Purpose};
use crate::engine::{Buffers, Learning, Task};
use crate::error::Result;
use crate::model::VarNet;

/// Every buffer of a task, added up. An operation's own working memory is its device's business and not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Plan {
    bytes: BTreeMap<Purpose, u64>,
}

/// Memory that only remembers what was asked for.
#[derive(Default)]
struct Count(RefCell<Plan>);

impl Memory for Count {
    type Buffer = ();

    fn zeros(&self, purpose: Purpose, len: usize) {
        // What computes works in float32.
        let mut plan = self.0.borrow_mut();
        let bytes = plan.bytes.entry(purpose).or_default();
        *bytes = bytes.saturating_add((len as u64).saturating_mul(size_of::<f32>() as u64));
    }
}

impl Plan {
    /// The buffers of an engine that does `task` with batches of `shape`: its parameters, what it learns with, and one
    /// shape's room. An engine keeps the room of one other shape or task beside it.
    ///
    /// # Errors
    /// Where images of this shape are too small for the network's depth.
    pub fn of(net: &VarNet, shape: ImageShape, task: Task) -> Result<Self> {
        let count = Count::default();
        let parameters = net.layout.len();
        count.zeros(Purpose::Parameters, parameters);
        if let Task::Learn { .. } = task {
            Learning::new(&count, parameters);
        }
        Buffers::new(&count, net, shape, task)?;
        Ok(count.0.into_inner())
    }

    /// Bytes of all buffers.
    pub fn total(&self) -> u64 {
        self.bytes.values().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }

    /// Bytes of each group of buffers.
    pub fn by_purpose(&self) -> &BTreeMap<Purpose, u64> {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;

    const MIB: u64 = 1 << 20;
    const TARGET: [usize; 2] = [320, 320];
    const TASKS: [(&str, Task); 3] = [
        ("training", Task::Learn { target: TARGET, recompute: false }),
        ("training, low memory", Task::Learn { target: TARGET, recompute: true }),
        ("inference", Task::Reconstruct),
    ];

    fn plans(shape: ImageShape) -> [Plan; 3] {
        let net = VarNet::new(Architecture::default()).unwrap();
        TASKS.map(|(name, task)| {
            let plan = Plan::of(&net, shape, task).unwrap();
            println!("{name}: {} MiB, groups of {} coil images", plan.total() / MIB, net.group(shape));
            for (purpose, bytes) in plan.by_purpose() {
                println!("  {purpose:<20}{:>8.1} MiB", *bytes as f64 / MIB as f64);
            }
            plan
        })
    }

    #[test]
    fn the_papers_network_trains_in_four_gibibytes() {
        let [training, low_memory, inference] =
            plans(ImageShape { n: 1, coils: 16, rows: 640, columns: 368 });
        // What is left is for the operations' own working memory.
        assert!(training.total() <= (4096 - 300) * MIB, "{training:?}");
        assert!(low_memory.total() <= 1152 * MIB, "{low_memory:?}");
        assert!(inference.total() <= 640 * MIB, "{inference:?}");
    }

    /// Shapes whose groups and halves do not come out even, and a batch.
    #[test]
    fn plans_grow_with_shapes() {
        let shape = ImageShape { n: 1, coils: 15, rows: 640, columns: 372 };
        for (one, two) in plans(shape).iter().zip(&plans(ImageShape { n: 2, ..shape })) {
            let fixed = |plan: &Plan| {
                [Purpose::Parameters, Purpose::Optimiser].map(|p| plan.by_purpose().get(&p).copied())
            };
            assert_eq!(fixed(one), fixed(two));
            assert!(two.total() > one.total() && two.total() < 2 * one.total());
        }
    }
}
