//! M4Raw's and CMRxRecon's layouts, read as scripts/golden_formats.py wrote them with h5py and computed them with numpy
//! and fastMRI (tests/golden/formats), and damaged files refused.

use std::path::{Path, PathBuf};

use kerase::data::digest::slice_sha256;
use kerase::data::set::VolumeSet;
use kerase::data::volume::VolumeFile;
use kerase::data::volume::{Layout, Slice};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats").join(name)
}

fn expected(what: &str) -> Value {
    let text = std::fs::read_to_string(golden("formats.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[what].clone()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn kspace_sha256(slice: &Slice) -> String {
    slice_sha256(&Slice { target: None, ..slice.clone() })
}

#[test]
fn m4raw_is_read_as_fastmri_reads_it() {
    let case = expected("m4raw");
    let file = VolumeFile::open(golden(case["name"].as_str().unwrap())).unwrap();
    assert_eq!((file.layout, file.slices, file.coils), (Layout::FastMri, 2, 4));
    assert_eq!((file.matrix, file.recon, file.target), ([8, 10], [8, 10], Some([8, 10])));
    assert_eq!([file.padding_left, file.padding_right], [0, 10]);
    // M4Raw has no norm.
    assert_eq!((file.max, file.norm), (case["max"].as_f64(), None));
    assert_eq!(file.acquisition.as_deref(), Some("AXT2"));
    for index in 0..2 {
        let slice = file.read_slice(index).unwrap();
        assert_eq!(kspace_sha256(&slice), case["kspace"][index].as_str().unwrap());
        assert_eq!(slice_sha256(&Slice { kspace: vec![], ..slice }), case["target"][index].as_str().unwrap());
    }
}

#[test]
fn cmrxrecon_is_what_matlab_wrote() {
    let cases = expected("cmrxrecon");
    assert_eq!(cases.as_array().unwrap().len(), 7);
    for case in cases.as_array().unwrap() {
        let path = golden(case["file"].as_str().unwrap());
        let file = VolumeFile::open(&path).unwrap();
        assert_eq!(file.name, case["name"].as_str().unwrap());
        assert!(matches!(file.layout, Layout::CmrxRecon { frames, .. } if frames as u64 == case["frames"]));
        assert_eq!([file.slices, file.coils], [list(&case["slices"]), list::<usize>(&case["coils"])]);
        assert_eq!(file.matrix, list::<[usize; 2]>(&case["matrix"]), "{case}");
        assert_eq!((file.recon, file.padding_right), (file.matrix, file.matrix[1] as i64));
        assert_eq!(file.mask, list::<Option<Vec<bool>>>(&case["mask"]), "{case}");
        assert_eq!(file.target, file.mask.is_none().then_some(file.matrix));
        for (found, key) in [(file.max, "max"), (file.norm, "norm")] {
            let expected = case[key].as_f64();
            assert_eq!(found.is_some(), expected.is_some());
            // Rounded to float32 pixel by pixel.
            approx::assert_relative_eq!(found.unwrap_or(0.0), expected.unwrap_or(0.0), max_relative = 6e-8);
        }
        for index in 0..file.slices {
            let slice = file.read_slice(index).unwrap();
            let first = slice.kspace[1];
            approx::assert_relative_eq!(
                &[f64::from(first.re), f64::from(first.im)][..],
                &list::<[f64; 2]>(&case["first"][index])[..],
                max_relative = 6e-8
            );
            assert_eq!(kspace_sha256(&slice), case["kspace"][index].as_str().unwrap(), "slice {index}");
            let expected: Option<Vec<f64>> = list(&case["target"][index]);
            assert_eq!(slice.target.is_some(), expected.is_some());
            for (found, expected) in slice.target.iter().flatten().zip(expected.iter().flatten()) {
                approx::assert_relative_eq!(f64::from(*found), *expected, max_relative = 6e-8);
            }
        }
        let message = file.read_slice(file.slices).unwrap_err().to_string();
        assert!(message.contains("no slice"), "{message}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_a_remedy() {
    for (name, parts) in [
        ("bad/radial.mat", &["whole columns", "ktRadial"][..]),
        ("bad/zeros.mat", &["all zeros"]),
        ("bad/single.mat", &["kspace_single_full", "MultiCoil"]),
        ("bad/rank.mat", &["[8, 6]", "[frames, slices, coils, ny, nx]"]),
        ("bad/real.mat", &["'kspace_full'", "real and imag"]),
        ("bad/nan.mat", &["slice 5", "NaN"]),
        ("bad/nothing.mat", &["found image", "kspace_full"]),
        ("bad/old.mat", &["older format", "-v7.3"]),
        ("P003/cine_sax_mask.mat", &["mask without k-space"]),
        ("bart_kspace.cfl", &["not an HDF5 file"]),
    ] {
        let message = VolumeFile::open(golden(name)).unwrap_err().to_string();
        for part in parts.iter().chain([&name]) {
            assert!(message.contains(part), "{name}: '{part}' is not in: {message}");
        }
    }
    // Found at the first slice of another frame.
    let file = VolumeFile::open(golden("bad/kt.mat")).unwrap();
    file.read_slice(1).unwrap();
    let message = file.read_slice(2).unwrap_err().to_string();
    assert!(message.contains("slice 2 was sampled at column 1") && message.contains("kt masks"), "{message}");
}

#[test]
fn a_directory_of_volumes_leaves_masks_out() {
    let set = VolumeSet::open(golden("P003")).unwrap();
    let names: Vec<&str> = set.volumes().iter().map(|volume| &volume.name[..]).collect();
    assert_eq!(names, ["P003_cine_sax.h5", "P003_cine_sax_kus_Uniform4.h5"]);

    let directory = tempfile::tempdir().unwrap();
    let manifest = directory.path().join("all.txt");
    let lines =
        ["P001/cine_sax.mat slices=2..4", "P002/cine_sax.mat"].map(|line| golden(line).display().to_string());
    std::fs::write(&manifest, lines.join("\n")).unwrap();
    let set = VolumeSet::open(&manifest).unwrap();
    assert_eq!(set.slices_of(0), [2, 3]);
    assert_eq!(set.volumes()[1].name, "P002_cine_sax.h5");
}

fn read_all(path: &Path) -> Option<String> {
    let read = || -> kerase::error::Result<()> {
        let file = VolumeFile::open(path)?;
        (0..file.slices).try_for_each(|index| file.read_slice(index).map(drop))
    };
    read().err().map(|error| error.to_string())
}

#[test]
fn truncated_and_damaged_files_are_refused_without_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.mat");
    for name in ["P001/cine_sax.mat", "P002/cine_sax.mat", "P003/cine_sax.mat"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = read_all(&path).unwrap_or_else(|| panic!("{name} was read, {length} bytes of it"));
            assert!(message.contains("damaged.mat") && !message.contains("gave up"), "{length}: {message}");
        }
        for position in (512..bytes.len()).step_by(131) {
            for value in [0x00, 0xff, bytes[position] ^ 0x10] {
                let mut damaged = bytes.clone();
                damaged[position] = value;
                std::fs::write(&path, &damaged).unwrap();
                let message = read_all(&path).unwrap_or_default();
                assert!(!message.contains("gave up"), "{name}, {value:#x} at {position}: {message}");
            }
        }
    }
}
