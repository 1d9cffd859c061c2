//! Kernels and their declarations: the same names, the same parameters, and the file that a GPU's driver finds them by.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kerase::cuda::driver::emulated::Kernel;
use kerase::cuda::driver::fatbins::FATBINS;
use kerase::cuda::{declarations, located};

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
        assert!(
            declared.contains_key(name),
            "no declaration of {name}: src/cuda has no kernels! with it, or declarations() in src/cuda/mod.rs leaves its KERNELS out"
        );
    }
}

#[test]
fn every_kernel_is_looked_for_in_the_file_that_has_it() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut names = BTreeSet::new();
    for kernel in located() {
        assert!(names.insert(kernel.name), "kernel {} is declared twice", kernel.name);
        assert!(kernels.join(kernel.file).with_extension("cu").is_file(), "{kernel:?}");
        // In a build with GPU kernels the driver gets the file as a fatbin of this name.
        assert!(FATBINS.is_empty() || FATBINS.iter().any(|&(file, _)| file == kernel.file), "{kernel:?}");
    }
    assert_eq!(names.len(), Kernel::all().count());

    // Kernels that are announced in a .cu file itself are in that one; of those that macros name, each format has its own.
    let file_of: BTreeMap<_, _> = located().map(|kernel| (kernel.name, kernel.file)).collect();
    let mut announced = 0;
    for entry in kernels.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "cu") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("KERNEL(")) {
            let name = line.strip_suffix(')').unwrap_or_else(|| panic!("{stem}.cu: KERNEL({line}"));
            assert_eq!(file_of[name], stem, "kernel {name}");
            announced += 1;
        }
    }
    assert!(announced > 20, "only {announced} kernels are announced in kernels/*.cu");
    assert_eq!(file_of["conv3x3_filters_tf32"], "conv_mma_tf32");
    assert_eq!(file_of["conv3x3_filters_bf16"], "conv_mma_bf16");
    assert_eq!(file_of["conv3x3_weights_tf32_18x24"], "conv_mma_weights_tf32");
    assert_eq!(file_of["conv3x3_weights_bf16_18x24"], "conv_mma_weights_bf16");
}
