//! What takes long before the first step shows that it gets on, volume by volume, or other ranks would take it for stuck.
//! On its own: the count is the process's.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use kerase::batch::{MaskSeeding, Sampler, Sampling};
use kerase::data::digest::digests;
use kerase::data::mask::MaskKind;
use kerase::data::set::VolumeSet;
use kerase::progress::done;
use kerase::simulate::Anatomy;
use run_support::Sets;
use support::Folder;

#[test]
fn reading_hashing_and_compressing_get_on_with_every_volume() {
    let folder = Folder::new();
    folder.add("brain", Anatomy::Brain, 1..=3);
    let more = |what: &dyn Fn()| {
        let before = done();
        what();
        done() - before
    };
    assert_eq!(more(&|| drop(VolumeSet::open(folder.path("brain")).unwrap())), 3);
    let set = VolumeSet::open(folder.path("brain")).unwrap();
    // Slice by slice: a volume may have hundreds.
    assert_eq!(more(&|| drop(digests(&set).unwrap())), 9);
    let sampling = Sampling {
        mask: MaskKind::EquispacedFraction,
        accelerations: vec![4],
        center_fractions: vec![0.16],
        mask_seed: MaskSeeding::Filename,
        virtual_coils: Some(1),
    };
    let sampler = Sampler::fixed(&sampling).unwrap();
    assert!(more(&|| drop(sampler.compressed(set.clone()).unwrap())) >= 9);
}
