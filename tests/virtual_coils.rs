//! Coil compression: against numpy (scripts/golden_formats.py), on simulated coils, and through the commands.

#[path = "cli_support/mod.rs"]
mod support;

use std::path::Path;

use kerase::batch::{MaskSeeding, Sampler, Sampling, image_shape};
use kerase::data::mask::MaskKind;
use kerase::data::set::VolumeSet;
use kerase::data::virtual_coils::VirtualCoils;
use kerase::data::volume::VolumeFile;
use num_complex::Complex32;
use serde_json::Value;
use support::Folder;

fn sampling(virtual_coils: Option<usize>) -> Sampling {
    Sampling {
        mask: MaskKind::Equispaced,
        accelerations: vec![4, 8],
        center_fractions: vec![0.2, 0.08],
        mask_seed: MaskSeeding::Filename,
        virtual_coils,
    }
}

fn compressed(path: &Path, count: usize) -> VolumeSet {
    let sampler = Sampler::new(&sampling(Some(count)), 0).unwrap();
    sampler.compressed(VolumeSet::open(path).unwrap()).unwrap()
}

fn energy(kspace: &[Complex32]) -> f64 {
    kspace.iter().map(|z| f64::from(z.norm_sqr())).sum()
}

#[test]
fn virtual_coils_are_numpys() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats");
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("formats.json")).unwrap()).unwrap();
    let golden = &golden["compression"];
    let volume = VolumeFile::open(folder.join(golden["file"].as_str().unwrap())).unwrap();
    let [from, to]: [usize; 2] = serde_json::from_value(golden["columns"].clone()).unwrap();
    let calibration: Vec<bool> = (0..volume.matrix[1]).map(|x| (from..to).contains(&x)).collect();
    for case in golden["cases"].as_array().unwrap() {
        let count = case["coils"].as_u64().unwrap() as usize;
        let made = VirtualCoils::of(&volume, count, &calibration).unwrap();
        assert_eq!((made.stored, made.count), (4, count));
        approx::assert_relative_eq!(made.energy, case["energy"].as_f64().unwrap(), max_relative = 1e-10);
        let mut kspace = volume.read_slice(1).unwrap().kspace;
        made.apply(&mut kspace);
        let expected: Vec<[f64; 2]> = serde_json::from_value(case["slice"].clone()).unwrap();
        assert_eq!(kspace.len(), expected.len());
        for (found, [re, im]) in kspace.iter().zip(expected) {
            // Numbers of size 1, summed over four coils in float32.
            approx::assert_abs_diff_eq!(f64::from(found.re), re, epsilon = 1e-6);
            approx::assert_abs_diff_eq!(f64::from(found.im), im, epsilon = 1e-6);
        }
    }
}

#[test]
fn half_of_simulated_coils_keep_nearly_all_energy() {
    let folder = Folder::new();
    folder
        .kerase("simulate --anatomy brain --volumes 2 --slices 2 --coils 8 --matrix 64 32 --out brain")
        .succeeded();
    let before = VolumeSet::open(folder.path("brain")).unwrap();
    let after = compressed(&folder.path("brain"), 4);
    for (stored, volume) in before.volumes().iter().zip(after.volumes()) {
        assert_eq!((volume.coils, volume.stored_coils()), (4, 8));
        // What engine, plans and rooms are sized for.
        assert_eq!(image_shape(volume, 1).coils, 4);
        let kept = volume.virtual_coils.as_ref().unwrap().energy;
        assert!((0.9..1.0).contains(&kept), "{kept}");
        for slice in 0..2 {
            let [all, few] = [stored, volume].map(|v| v.read_slice(slice).unwrap());
            let share = energy(&few.kspace) / energy(&all.kspace);
            assert!((0.85..1.0).contains(&share), "{share}");
            assert_eq!(few.kspace.len() * 2, all.kspace.len());
            assert_eq!(few.target, all.target);
            assert!(volume.read_slice_as_stored(slice).unwrap().kspace == all.kspace);
        }
    }
    assert_eq!(after.shape(0).coils, 4);
    let summary = after.virtual_coils_summary().unwrap();
    assert!(
        summary.contains("4 virtual coils in 2 of 2 volumes") && summary.contains("from 8 coils"),
        "{summary}"
    );
}

#[test]
fn as_many_coils_as_there_are_change_nothing() {
    let folder = Folder::new();
    folder.simulate();
    for count in [4, 100] {
        let set = compressed(&folder.path("brain"), count);
        assert_eq!(set.virtual_coils_summary(), None);
        assert!(set.volumes() == VolumeSet::open(folder.path("brain")).unwrap().volumes());
    }
    let knee = compressed(&folder.path("knee"), 4);
    assert!(knee.volumes().iter().all(|volume| volume.coils == 4 && volume.stored_coils() == 5));
}

#[test]
fn threads_change_no_bit() {
    let folder = Folder::new();
    folder.simulate();
    let read = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let set = compressed(&folder.path("knee"), 3);
            set.volumes()
                .iter()
                .map(|v| (v.virtual_coils.clone(), v.read_slice(1).unwrap().kspace))
                .collect::<Vec<_>>()
        })
    };
    assert!(read(1) == read(3));
}

#[test]
fn calibration_is_what_every_mask_samples() {
    let folder = Folder::new();
    folder.simulate();
    let set = VolumeSet::open(folder.path("knee")).unwrap();
    let volume = &set.volumes()[0];
    for mask in MaskKind::ALL {
        let sampling = Sampling { mask, mask_seed: MaskSeeding::Random, ..sampling(Some(2)) };
        let sampler = Sampler::new(&sampling, 1).unwrap();
        let calibration = sampler.calibration(volume).unwrap();
        assert!(calibration.contains(&true));
        for epoch in 0..40 {
            let drawn = sampler.mask(volume, 0, epoch).unwrap();
            let band = drawn.center_band();
            for x in (0..calibration.len()).filter(|&x| calibration[x]) {
                assert!(drawn.columns[x] && band.contains(&x), "{mask}: column {x}");
            }
        }
    }
    let none = Sampling { center_fractions: vec![0.3, 0.0], ..sampling(Some(2)) };
    let error = Sampler::new(&none, 0).unwrap().calibration(volume).unwrap_err().to_string();
    assert!(error.contains("file1000001.h5") && error.contains("--virtual-coils"), "{error}");
    assert!(Sampler::new(&sampling(Some(0)), 0).is_err());

    // A mask of the file's: its own centre, whatever the settings say.
    let stored: Vec<bool> = (0..40).map(|x| (17..23).contains(&x) || x % 5 == 0).collect();
    let volume = VolumeFile { mask: Some(stored), ..volume.clone() };
    let calibration = Sampler::new(&sampling(Some(2)), 0).unwrap().calibration(&volume).unwrap();
    let columns: Vec<usize> = (0..40).filter(|&x| calibration[x]).collect();
    assert_eq!(columns, [17, 18, 19, 20, 21, 22]);
}

#[test]
fn runs_keep_their_virtual_coils() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let network = "--cascades 1 --chans 2 --pools 1 --sens-chans 2 --sens-pools 1 --device cpu";
    let train = format!(
        "train --data knee --validation brain --out run --virtual-coils 3 --center-fraction 0.2 {network}"
    );
    folder.kerase(&format!("{train} --max-steps 2 --checkpoint-every 1")).succeeded();
    let config = String::from_utf8(folder.read("run/config.toml")).unwrap();
    assert!(config.contains("virtual_coils = 3"), "{config}");
    folder.kerase("train --resume --out run --max-steps 3").succeeded();
    folder.kerase("train --resume --out run --virtual-coils 2").failed(2, &["--resume"]);

    let options = "--center-fraction 0.2 --device cpu";
    let evaluate = format!("evaluate --model model.safetensors --data knee {options}");
    folder.kerase(&format!("{evaluate} --virtual-coils 3 --out 3.json")).succeeded();
    folder.kerase(&format!("{evaluate} --virtual-coils 5 --out 5.json")).succeeded();
    folder.kerase(&format!("{evaluate} --out all.json")).succeeded();
    let json = |name: &str| folder.json(name);
    assert_eq!(json("3.json")["virtual_coils"][1]["coils"], 5);
    let kept = json("3.json")["virtual_coils"][1]["energy"].as_f64().unwrap();
    assert!(kept > 0.7 && kept < 1.0, "{kept}");
    assert_eq!(json("5.json").get("virtual_coils"), None);
    assert_eq!(json("5.json")["slices"], json("all.json")["slices"]);
    assert_ne!(json("3.json")["slices"], json("all.json")["slices"]);
    folder.kerase(&format!("{evaluate} --virtual-coils 0")).failed(2, &["--virtual-coils"]);
    folder
        .kerase("evaluate --model model.safetensors --data knee --virtual-coils 2 --center-fraction 0.001")
        .failed(2, &["file1000001.h5", "no column in the centre", "--virtual-coils"]);

    folder
        .kerase(&format!(
            "reconstruct --model model.safetensors --data knee {options} --virtual-coils 2 --out images"
        ))
        .succeeded();
    assert_eq!(folder.json("images/metrics.json")["virtual_coils"][0]["virtual_coils"], 2);

    // What was forgotten is named by what is in its files.
    let unlearn = "unlearn --method nl-ft --model run/model.safetensors --retain brain --forget knee --max-steps 2 \
                   --retain-fraction 1 --center-fraction 0.2 --device cpu";
    folder.kerase(&format!("{unlearn} --virtual-coils 3 --out a")).succeeded();
    folder.kerase(&format!("{unlearn} --virtual-coils all --out b")).succeeded();
    assert_eq!(folder.json("a/unlearning.json")["forgotten"], folder.json("b/unlearning.json")["forgotten"]);
    assert!(folder.read("a/model.safetensors") != folder.read("b/model.safetensors"));
}
