//! Kernels and their declarations: the same names, the same parameters.

use std::collections::BTreeMap;

use kerase::cuda::declarations;
use kerase::cuda::driver::emulated::Kernel;

#[test]
fn every_kernel_takes_what_it_is_declared_to_take() {
    let compiled: BTreeMap<_, _> = Kernel::all().map(|kernel| (kernel.name(), kernel.signature())).collect();
    let declared: BTreeMap<_, _> = declarations().map(|kernel| (kernel.name, (kernel.signature)())).collect();
    assert!(!compiled.is_empty());
    for (name, signature) in &declared {
        let compiled = compiled.get(name).unwrap_or_else(|| panic!("kernels/ has no kernel {name}"));
        assert_eq!(compiled, signature, "kernel {name}: C++ on the left, Rust on the right");
    }
    for name in compiled.keys() {
        assert!(declared.contains_key(name), "src/cuda declares no kernel {name}");
    }
}
