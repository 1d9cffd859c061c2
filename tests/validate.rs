//! The check of operations: the CPU passes it, and what is wrong is found.

use kerase::cpu::Cpu;
use kerase::validate::{Selection, validate};

#[test]
fn single_precision_on_the_cpu_passes() {
    let selection = Selection { random: 50, seed: 1, only: None };
    let outcome = validate(&Cpu::<f32>::default(), "cpu", &selection, |_| {});
    println!("{outcome}");
    assert!(outcome.passed(), "{outcome}");
    assert!(outcome.runs[0].unsupported.is_empty());
}
