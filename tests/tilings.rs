//! Whichever tiling of a convolution is chosen, it computes what it should: each of them, on shapes that it was not made
//! for, against float64.

use kerase::cuda::Cuda;
use kerase::cuda::conv::problem::Kind;
use kerase::cuda::conv::tilings::Tilings;
use kerase::cuda::conv::tilings_file::names;
use kerase::cuda::driver::emulated::{Emulated, Schedule};
use kerase::precision::Precision;
use kerase::validate::{Selection, validate};

#[test]
fn every_tiling_agrees_with_float64() {
    // Channels and sizes that are no whole number of tiles, two inputs, one that is short, and more tiles than parts of a
    // sum, however many these are.
    let cases = ["18+18->18 n2", "7->13 n2", "5->6 n2", "49->21 n2", "backward 1raw->1 n1 400x401"];
    let most = Kind::ALL.into_iter().map(|kind| names(kind).len()).max().unwrap();
    for precision in [Precision::Tf32, Precision::Bf16] {
        for i in 0..most {
            let name = |kind: Kind| (kind, names(kind).into_iter().cycle().nth(i).unwrap());
            let names: Vec<_> = Kind::ALL.map(name).into();
            let device = Cuda::new(Emulated::new(Schedule::Forward, usize::MAX))
                .with_precision(precision)
                .with_tilings(Tilings::always(names.clone()));
            for case in cases {
                let selection = Selection { only: Some(case.into()), ..Selection::default() };
                let outcome = validate(&device, "emulated", &selection, &mut ());
                assert!(outcome.passed(), "{precision}, {names:?}: {outcome}");
            }
        }
    }
}
