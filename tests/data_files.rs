//! Files that h5py wrote, read as fastMRI reads them (tests/golden/data/files.json), damaged files refused, and
//! files that kerase wrote read back.

use std::path::{Path, PathBuf};

use kerase::data::digest::{file_sha256, slice_sha256};
use kerase::data::mask::ColumnMask;
use kerase::data::volume::VolumeFile;
use kerase::data::volume::{NewVolume, Slice};
use kerase::data::write::{write_reconstruction, write_volume};
use num_complex::Complex32;
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data").join(name)
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(golden("files.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["files"].as_array().unwrap().clone()
}

fn open(case: &Value) -> VolumeFile {
    VolumeFile::open(golden(case["name"].as_str().unwrap())).unwrap()
}

fn bits(hex: &Value, count: usize) -> Option<Vec<bool>> {
    let digits = hex.as_str()?.chars().map(|digit| digit.to_digit(16).unwrap());
    let bits: Vec<bool> =
        digits.flat_map(|digit| (0..4).rev().map(move |bit| digit >> bit & 1 == 1)).collect();
    Some(bits[..count].to_vec())
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn metadata_is_fastmris() {
    let cases = cases();
    assert_eq!(cases.len(), 20);
    for case in &cases {
        let file = open(case);
        assert_eq!(file.name, case["name"].as_str().unwrap());
        assert_eq!([file.slices, file.coils], [list(&case["slices"]), list::<usize>(&case["coils"])]);
        assert_eq!(file.matrix, list::<[usize; 2]>(&case["matrix"]), "{case}");
        assert_eq!(file.target, list::<Option<[usize; 2]>>(&case["target"]), "{case}");
        assert_eq!([file.padding_left, file.padding_right], list::<[i64; 2]>(&case["padding"]), "{case}");
        assert_eq!(file.encoding_size, list::<[usize; 3]>(&case["encoding_size"]), "{case}");
        assert_eq!(file.recon, list::<[usize; 3]>(&case["recon_size"])[..2], "{case}");
        assert_eq!(file.max, case["max"].as_f64(), "{case}");
        assert_eq!(file.norm, case["norm"].as_f64(), "{case}");
        assert_eq!(file.acquisition.as_deref(), case["acquisition"].as_str(), "{case}");
        assert_eq!(file.patient_id.as_deref(), case["patient_id"].as_str(), "{case}");
        assert_eq!(file.mask, bits(&case["mask"], file.matrix[1]), "{case}");
    }
}

#[test]
fn slices_are_fastmris_to_the_bit() {
    for case in &cases() {
        let file = open(case);
        for (index, expected) in case["content"].as_array().unwrap().iter().enumerate() {
            let slice = file.read_slice(index).unwrap();
            assert_eq!(slice.kspace.len(), file.coils * file.matrix[0] * file.matrix[1]);
            let first = slice.kspace[1];
            assert_eq!(
                [f64::from(first.re), f64::from(first.im)],
                list::<[f64; 2]>(&expected["first"]),
                "{case}"
            );
            // The k-space alone, then the target alone, as the golden file has them.
            let kspace = Slice { target: None, ..slice.clone() };
            assert_eq!(slice_sha256(&kspace), expected["kspace"].as_str().unwrap(), "{case}");
            let target =
                slice.target.clone().map(|_| slice_sha256(&Slice { kspace: vec![], ..slice.clone() }));
            assert_eq!(target.as_deref(), expected["target"].as_str(), "{case}");
        }
        let message = file.read_slice(file.slices).unwrap_err().to_string();
        assert!(message.contains(&file.name) && message.contains("no slice 2"), "{message}");
    }
}

#[test]
fn stored_masks_lose_the_padding_as_in_fastmri() {
    let mut seen = 0;
    for case in &cases() {
        let file = open(case);
        let Some(columns) = file.mask.clone() else { continue };
        let mut mask = ColumnMask::stored(columns);
        mask.apply_padding(file.padding_left, file.padding_right).unwrap();
        assert_eq!(Some(&mask.columns), bits(&case["padded_mask"], file.matrix[1]).as_ref(), "{case}");
        let band = mask.center_band();
        assert_eq!([band.start, band.end], list::<[usize; 2]>(&case["padded_band"]), "{case}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn files_that_fastmri_would_refuse_but_that_say_enough_are_read() {
    let file = VolumeFile::open(golden("lenient_no_limits.h5")).unwrap();
    assert_eq!([file.padding_left, file.padding_right], [0, 10]);
    let file = VolumeFile::open(golden("lenient_no_namespace.h5")).unwrap();
    assert_eq!((file.padding_left, file.padding_right, file.recon), (0, 10, [3, 5]));
    // Links of names that kerase does not look for.
    let file = VolumeFile::open(golden("lenient_links.h5")).unwrap();
    assert_eq!((&file.mask, file.target), (&None, None));
}

#[test]
fn bad_files_are_refused_with_what_is_wrong() {
    let cases: &[(&str, &[&str])] = &[
        ("bad_no_kspace.h5", &["no dataset 'kspace'", "found ismrmrd_header, reconstruction_rss"]),
        ("bad_single_coil.h5", &["single-coil", "multi-coil", "[2, 4, 10]"]),
        ("bad_rank.h5", &["[4, 10]", "expected [slices, coils, rows, columns]"]),
        ("bad_real.h5", &["'kspace' has elements of type", "complex64"]),
        ("bad_empty.h5", &["empty", "0 slices"]),
        ("bad_no_coils.h5", &["empty", "0 coils"]),
        ("bad_layout.h5", &["cannot read 'kspace'", "layout version: 5", "libver='earliest'"]),
        ("bad_kspace_group.h5", &["'kspace' is a group"]),
        ("bad_soft_link.h5", &["'kspace' is a link", "h5copy"]),
        ("bad_virtual.h5", &["'kspace' is a virtual dataset", "h5repack"]),
        ("bad_no_header.h5", &["no dataset 'ismrmrd_header'", "crop size"]),
        ("bad_header_xml.h5", &["not XML"]),
        ("bad_header_recon.h5", &["encoding/reconSpace/matrixSize/x"]),
        ("bad_header_number.h5", &["center = 'five'", "expected an integer"]),
        ("bad_header_type.h5", &["'ismrmrd_header' is not a string"]),
        ("bad_target_slices.h5", &["[3, 3, 5]", "2 slices"]),
        ("bad_target_rank.h5", &["[3, 5]", "[2, height, width]"]),
        ("bad_target_type.h5", &["'reconstruction_rss'", "float32"]),
        ("bad_mask_width.h5", &["mask has 8 columns, k-space has 10"]),
        ("bad_mask_2d.h5", &["[4, 10]", "2-D masks are not supported"]),
        ("bad_mask_values.h5", &["'mask' contains 0.5"]),
        ("bad_mask_type.h5", &["mask"]),
        ("bad_mask_float16.h5", &["'mask' has numbers of a type that kerase does not read", "float32"]),
        ("bad_mask_soft_link.h5", &["'mask' is a link", "h5copy"]),
        ("bad_mask_external_link.h5", &["'mask' is a link", "h5copy"]),
        ("bad_external.h5", &["'kspace' has its numbers in other files"]),
        ("bad_unwritten.h5", &["'kspace' has the shape [2, 2, 4, 10], but was never written"]),
        ("bad_unwritten_chunks.h5", &["'kspace' has the shape [100, 2, 4, 10]", "only a part of it"]),
        ("bad_in_use.h5", &["being written", "h5clear -s "]),
    ];
    for (name, parts) in cases {
        let message = VolumeFile::open(golden(name)).unwrap_err().to_string();
        for part in parts.iter().chain([name]) {
            assert!(message.contains(part), "{name}: '{part}' is not in: {message}");
        }
    }
    let target = VolumeFile::open(golden("bad_target_float16.h5")).and_then(|file| file.read_slice(0));
    let message = target.unwrap_err().to_string();
    assert!(message.contains("'reconstruction_rss' has numbers of a type that"), "{message}");
}

#[test]
fn numbers_that_are_not_finite_are_refused_in_their_slice() {
    for (name, dataset, bad, good) in [
        ("bad_nan.h5", "kspace", 1, Some(0)),
        ("bad_infinite.h5", "kspace", 0, Some(1)),
        ("bad_overflow.h5", "kspace", 0, None),
        ("bad_target_nan.h5", "reconstruction_rss", 1, Some(0)),
    ] {
        let file = VolumeFile::open(golden(name)).unwrap();
        let message = file.read_slice(bad).unwrap_err().to_string();
        for part in [name, dataset, &format!("slice {bad}")] {
            assert!(message.contains(part), "{message}");
        }
        if let Some(good) = good {
            file.read_slice(good).unwrap();
        }
    }
}

#[test]
fn what_is_no_volume_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let message = |name: &str| VolumeFile::open(path(name)).unwrap_err().to_string();
    assert!(message("missing.h5").starts_with("cannot read "), "{}", message("missing.h5"));
    std::fs::write(path("text.h5"), "not HDF5 at all, but long enough to hold a superblock".repeat(40))
        .unwrap();
    assert!(message("text.h5").contains("is not an HDF5 file"), "{}", message("text.h5"));
    std::fs::write(path("empty.h5"), "").unwrap();
    assert!(message("empty.h5").contains("is empty"), "{}", message("empty.h5"));
    std::fs::create_dir(path("directory.h5")).unwrap();
    assert!(message("directory.h5").contains("is not a file"), "{}", message("directory.h5"));
}

/// Reads everything of a file; what it says does not matter, only that it says it.
fn read_all(path: &Path) -> Option<String> {
    let read = || -> kerase::error::Result<()> {
        let file = VolumeFile::open(path)?;
        (0..file.slices.min(4)).try_for_each(|index| file.read_slice(index).map(drop))
    };
    read().err().map(|error| error.to_string())
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("truncated.h5");
    for name in ["contiguous.h5", "gzip_shuffle.h5", "v114.h5", "fixed_strings.h5", "mask_bool.h5"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        for length in (0..bytes.len()).step_by(37).chain(bytes.len() - 9..bytes.len()) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = read_all(&path).unwrap_or_else(|| panic!("{name} was read, {length} bytes of it"));
            assert!(message.contains("truncated.h5"), "{message}");
            // Known from the superblock on, before some slice turns out to be missing.
            let truncated = message.contains(&format!("is truncated: it has {length} bytes"));
            assert!(truncated || length < 100, "{message}");
            assert!(
                !message.contains("gave up"),
                "{name} at {length} bytes made the HDF5 crate panic: {message}"
            );
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.h5");
    let mut panics = vec![];
    // Sampled so that it takes a second. KERASE_DAMAGE_STEP=3 looks at every third byte, for minutes.
    let step = std::env::var("KERASE_DAMAGE_STEP").map_or(173, |step| step.parse().unwrap());
    for name in ["contiguous.h5", "gzip_shuffle.h5", "v114.h5", "gzip.h5"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        for position in (0..bytes.len()).step_by(step) {
            for value in [0x00, 0xff, bytes[position] ^ 0x10] {
                let mut damaged = bytes.clone();
                damaged[position] = value;
                std::fs::write(&path, &damaged).unwrap();
                if let Some(message) = read_all(&path).filter(|message| message.contains("gave up")) {
                    panics.push(format!("{name} with {value:#x} at {position}: {message}"));
                }
            }
        }
    }
    assert!(panics.is_empty(), "{panics:#?}");
}

#[test]
fn many_threads_read_one_volume() {
    let file = VolumeFile::open(golden("gzip_shuffle.h5")).unwrap();
    let expected: Vec<String> = (0..2).map(|index| slice_sha256(&file.read_slice(index).unwrap())).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (file, expected) = (&file, &expected);
            scope.spawn(move || {
                for turn in 0..20 {
                    let index = (thread + turn) % 2;
                    assert_eq!(slice_sha256(&file.read_slice(index).unwrap()), expected[index]);
                }
            });
        }
    });
}

/// A volume whose every number is different.
fn volume() -> NewVolume {
    let (slices, coils, matrix, recon) = (3, 2, [6, 8], [4, 5]);
    let kspace = (0..slices * coils * matrix[0] * matrix[1])
        .map(|i| Complex32::new(i as f32 * 0.25 - 7.0, -(i as f32).sqrt()))
        .collect();
    NewVolume {
        slices,
        coils,
        matrix,
        recon,
        kspace,
        reconstruction_rss: (0..slices * 20).map(|i| (i as f32 * 0.37).sin().abs()).collect(),
        encoding_limit_max: 5,
        encoding_limit_center: 3,
        acquisition: "AX<T2> & \"é\"".to_string(),
        patient_id: "phantom 1".to_string(),
    }
}

#[test]
fn a_written_volume_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("phantom_1.h5");
    let volume = volume();
    write_volume(&path, &volume).unwrap();
    let file = VolumeFile::open(&path).unwrap();
    assert_eq!((file.slices, file.coils, file.matrix), (3, 2, [6, 8]));
    assert_eq!((file.recon, file.target), ([4, 5], Some([4, 5])));
    assert_eq!((file.encoding_size, file.padding_left, file.padding_right), ([6, 8, 1], 1, 7));
    assert_eq!(file.acquisition.as_deref(), Some(&volume.acquisition[..]));
    assert_eq!(file.patient_id.as_deref(), Some("phantom 1"));
    let images = &volume.reconstruction_rss;
    assert_eq!(file.max, images.iter().map(|&value| f64::from(value)).reduce(f64::max));
    let norm = images.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    approx::assert_relative_eq!(file.norm.unwrap(), norm, max_relative = 1e-14);
    for index in 0..3 {
        let slice = file.read_slice(index).unwrap();
        assert_eq!(slice.kspace, volume.kspace[index * 96..][..96]);
        assert_eq!(slice.target.unwrap(), volume.reconstruction_rss[index * 20..][..20]);
    }
    // The same volume gives the same bytes, so that hashes of simulated sets can be published.
    let again = directory.path().join("again.h5");
    write_volume(&again, &volume).unwrap();
    assert_eq!(file_sha256(&path).unwrap(), file_sha256(&again).unwrap());

    // For scripts/golden_data.py --check, which reads what is written here with h5py and fastMRI.
    if let Some(out) = std::env::var_os("KERASE_WRITE_SAMPLES") {
        let out = Path::new(&out);
        write_volume(out.join("phantom_1.h5"), &volume).unwrap();
        write_reconstruction(out.join("reconstruction.h5"), &volume.reconstruction_rss, [3, 4, 5]).unwrap();
    }
}

#[test]
fn a_volume_that_contradicts_itself_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.h5");
    let refused = |change: fn(&mut NewVolume)| {
        let mut volume = volume();
        change(&mut volume);
        let message = write_volume(&path, &volume).unwrap_err().to_string();
        assert!(message.contains("bad.h5"), "{message}");
        message
    };
    assert!(refused(|volume| volume.kspace.truncate(287)).contains("kspace has 287 elements"));
    assert!(refused(|volume| volume.recon = [4, 6]).contains("reconstruction_rss has 60 elements"));
    assert!(refused(|volume| volume.kspace[7].im = f32::NAN).contains("NaN"));
    assert!(refused(|volume| volume.encoding_limit_max = 8).contains("encoding limits"));
    assert!(write_reconstruction(&path, &[1.0; 5], [1, 2, 3]).unwrap_err().to_string().contains("5 pixels"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "something was left behind");
}
