//! What the commands make of input that cannot be used: exit code 2, a message that names the file, nothing
//! half-written.

#[path = "cli_support/mod.rs"]
mod support;

use kerase::data::volume::NewVolume;
use kerase::data::write::write_volume;
use kerase::model::Weights;
use num_complex::Complex32;
use support::{Folder, golden};

/// Runs both commands that read volumes on `data`, and expects the same complaint from both.
#[track_caller]
fn refused(folder: &Folder, data: &str, parts: &[&str]) {
    // Some volumes are only ten columns wide: 4 % of them are none.
    let given = format!("--model model.safetensors --data {data} --center-fraction 0.3");
    folder.kerase(&format!("evaluate {given} --out m.json")).failed(2, parts);
    folder.kerase(&format!("reconstruct {given} --out x/y")).failed(2, parts);
    assert!(!folder.path("m.json").exists() && !folder.path("x").exists(), "{:?}", folder.list(""));
}

#[test]
fn volumes_that_cannot_be_used() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    for (name, part) in [
        ("bad_no_kspace.h5", "no dataset 'kspace'"),
        ("bad_rank.h5", "expected [slices, coils, rows, columns]"),
        ("bad_real.h5", "complex64"),
        ("bad_single_coil.h5", "single-coil"),
        ("bad_mask_width.h5", "mask has 8 columns, k-space has 10"),
        ("bad_mask_2d.h5", "2-D masks"),
        ("bad_no_header.h5", "ismrmrd_header"),
        ("bad_target_slices.h5", "reconstruction_rss"),
    ] {
        refused(&folder, &golden(name), &[name, part]);
    }
    // Found when the slice is read, in the second of them after the first was computed.
    for (name, part) in [("bad_infinite.h5", "slice 0"), ("bad_nan.h5", "slice 1")] {
        let line = format!(
            "reconstruct --model model.safetensors --data {} --center-fraction 0.3 --out images",
            golden(name)
        );
        folder.kerase(&line).failed(2, &[name, part]);
        assert!(!folder.path("images").join(name).exists());
    }
}

#[test]
fn files_that_are_no_volumes() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    refused(&folder, "missing.h5", &["missing.h5", "No such file"]);
    refused(&folder, "missing", &["missing", "No such file"]);

    std::fs::write(folder.path("text.h5"), "not HDF5 at all, though it is named so").unwrap();
    refused(&folder, "text.h5", &["text.h5", "not an HDF5 file"]);

    folder.simulate();
    let whole = folder.read("knee/file1000001.h5");
    std::fs::write(folder.path("knee/file1000001.h5"), &whole[..whole.len() / 2]).unwrap();
    refused(&folder, "knee", &["knee/file1000001.h5", "truncated"]);

    std::fs::create_dir(folder.path("empty")).unwrap();
    refused(&folder, "empty", &["empty", "no *.h5 files"]);
    std::fs::write(folder.path("list.txt"), "knee/no.h5\n").unwrap();
    refused(&folder, "list.txt", &["list.txt", "knee/no.h5"]);
}

/// Each would be waited for, or read without an end.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    let folder = Folder::new();
    folder.shell("set -e; for name in pipe.h5 pipe scan.hdr other.cfl; do mkfifo $name; done").succeeded();
    std::fs::write(folder.path("other.hdr"), "# Dimensions\n2 3 1 2\n").unwrap();
    for (command, part) in [
        ("info --data pipe.h5", "pipe.h5 is neither a file nor a directory"),
        ("info --data pipe", "pipe is neither a file nor a directory"),
        ("info --data /dev/zero", "/dev/zero is neither a file nor a directory"),
        ("convert --images pipe.h5 x.cfl", "pipe.h5 is not a file"),
        ("convert scan.cfl x.h5", "scan.hdr is not a file"),
        ("convert other.cfl x.h5", "other.cfl is not a file"),
    ] {
        folder.shell(&format!("exec timeout 20 \"$KERASE\" {command}")).failed(2, &[part]);
    }
}

#[test]
fn a_check_finds_coils_and_targets_that_are_odd() {
    let folder = Folder::new();
    let (slices, coils, matrix, recon) = (3, 2, [16, 16], [16, 16]);
    let mut volume = NewVolume {
        slices,
        coils,
        matrix,
        recon,
        kspace: vec![Complex32::new(0.5, -1.0); slices * coils * 256],
        reconstruction_rss: vec![1.0; slices * 256],
        encoding_limit_max: 15,
        encoding_limit_center: 8,
        acquisition: "AXT2".to_string(),
        patient_id: "1".to_string(),
    };
    let check = "\"$KERASE\" info --data x.h5 --check 2>&1";
    // Coil 1 of slice 2: the image is there, but not the whole of it.
    volume.kspace[5 * 256..].fill(Complex32::ZERO);
    write_volume(folder.path("x.h5"), &volume).unwrap();
    let said = folder.shell(check).succeeded();
    assert!(said.contains("warning: x.h5: the k-space of coil 1 is zero in slice 2 and not"), "{said}");
    assert!(said.contains("every slice can be read and used"), "{said}");

    volume.reconstruction_rss.fill(-1.0);
    write_volume(folder.path("x.h5"), &volume).unwrap();
    folder.kerase("info --data x.h5 --check").failed(2, &["x.h5", "nowhere above zero in slice 0, 1, 2"]);
}

#[test]
fn evaluation_needs_targets() {
    let folder = Folder::new();
    folder.weights("model.safetensors");
    let volume = golden("mask_uint8.h5");
    folder
        .kerase(&format!("evaluate --model model.safetensors --data {volume} --out m.json"))
        .failed(2, &["mask_uint8.h5", "reconstruction_rss", "kerase reconstruct"]);
    // 3 x 5 pixels are less than SSIM's window.
    let volume = golden("contiguous.h5");
    folder
        .kerase(&format!(
            "evaluate --model model.safetensors --data {volume} --center-fraction 0.3 --out m.json"
        ))
        .failed(2, &["contiguous.h5", "SSIM needs 7 x 7"]);
    assert_eq!(folder.list(""), ["model.safetensors"]);
}

#[test]
fn weights_that_cannot_be_used() {
    let folder = Folder::new();
    folder.simulate();
    let weights = folder.weights("model.safetensors");
    let bytes = folder.read("model.safetensors");
    std::fs::write(folder.path("short.safetensors"), &bytes[..bytes.len() - 7]).unwrap();
    let text = String::from_utf8_lossy(&bytes).replace("cascades.1.dc_weight", "cascades.1.dc_height");
    assert_eq!(text.matches("dc_height").count(), 1);
    let at = bytes.windows(20).position(|part| part == b"cascades.1.dc_weight").unwrap();
    let mut renamed = bytes.clone();
    renamed[at..at + 20].copy_from_slice(b"cascades.1.dc_height");
    std::fs::write(folder.path("other.safetensors"), renamed).unwrap();
    let mut parameters = weights.parameters.clone();
    parameters[5] = f32::NAN;
    Weights { parameters, ..weights.clone() }.write(folder.path("nan.safetensors")).unwrap();

    for (file, part) in [
        ("short.safetensors", "not a whole safetensors file"),
        ("other.safetensors", "dc_weight"),
        ("nan.safetensors", "NaN"),
        ("none.safetensors", "No such file"),
        ("brain/file_brain_AXT2_200_0000001.h5", "not a whole safetensors file"),
    ] {
        folder.kerase(&format!("evaluate --model {file} --data brain --out m.json")).failed(2, &[file, part]);
        folder.kerase(&format!("reconstruct --model {file} --data brain --out x")).failed(2, &[file, part]);
        folder.kerase(&format!("info --model {file}")).failed(2, &[file, part]);
    }

    // Finite weights whose images are not: the computation itself failed.
    let mut parameters = weights.parameters.clone();
    let (layout, _) = weights.architecture.layout();
    for info in layout.parameters.iter().filter(|info| info.name.ends_with("dc_weight")) {
        parameters[info.span.offset] = f32::MAX;
    }
    Weights { parameters, ..weights }.write(folder.path("wild.safetensors")).unwrap();
    let parts = ["file_brain_AXT2_200_0000001.h5 slice 0", "diverged"];
    folder.kerase("evaluate --model wild.safetensors --data brain --out m.json").failed(1, &parts);
    folder.kerase("reconstruct --model wild.safetensors --data brain --out x").failed(1, &parts);
    assert!(!folder.path("m.json").exists() && !folder.path("x").exists());
}

#[test]
fn options_that_make_no_sense() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let evaluate = "evaluate --model model.safetensors --data brain --out m.json";
    for (options, parts) in [
        ("--device gpu", &["gpu", "cuda:N"][..]),
        ("--threads 0", &["--threads"]),
        ("--mask spiral", &["spiral", "equispaced_fraction"]),
        ("--acceleration 4,8 --center-fraction 0.08", &["1 center fractions and 2 accelerations"]),
        ("--acceleration 0", &["acceleration 0"]),
        ("--center-fraction 8", &["center fraction 8"]),
        ("--csv no/such/place.csv", &["no/such/place.csv: there is no directory no/such"]),
        ("--csv ./m.json", &["--out and --csv both go to ./m.json"]),
        ("--csv a.csv --csv-slices a.csv", &["--csv and --csv-slices both go to a.csv"]),
        ("--csv brain", &["brain is a directory"]),
        ("--data knee/../brain", &["called 'brain'"]),
    ] {
        folder.kerase(&format!("{evaluate} {options}")).failed(2, parts);
    }
    let simulate = "simulate --out new --anatomy brain";
    for (options, parts) in [
        ("--coils 65", &["65 coils"][..]),
        ("--matrix 64 32 --recon 100 100", &["100 rows"]),
        ("--volumes 0", &["--volumes 0"]),
    ] {
        folder.kerase(&format!("{simulate} {options}")).failed(2, parts);
    }
    folder.kerase("simulate --out new --anatomy foot").failed(2, &["foot", "knee"]);
    folder.kerase("bench --cascades 0").failed(2, &["cascades"]);
    for command in ["bench --plan H100", "bench --step", "bench --operations", "validate --step"] {
        for (network, parts) in [
            ("--width 3", &["--width 3"][..]),
            ("--coils 100000", &["--coils 100000", "256"]),
            ("--pools 9", &["640 × 368", "9 pools"]),
        ] {
            folder.kerase(&format!("{command} {network}")).failed(2, parts);
        }
        // Elsewhere nobody says how much memory there is.
        if cfg!(target_os = "linux") {
            folder.kerase(&format!("{command} --chans 4096")).failed(2, &["host's memory", "smaller"]);
        }
    }
    folder.kerase("unknown").failed(2, &["unknown"]);
    assert_eq!(
        folder.list("").into_iter().filter(|name| !name.contains('/')).collect::<Vec<_>>(),
        ["brain", "knee", "model.safetensors"]
    );
}

#[test]
fn volumes_of_one_name_do_not_replace_each_other() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let name = "file_brain_AXT2_200_0000001.h5";
    let simulate =
        "simulate --anatomy brain --volumes 1 --slices 1 --coils 2 --matrix 64 32 --seed 7 --out other";
    folder.kerase(simulate).succeeded();
    std::fs::write(folder.path("both.txt"), format!("brain/{name}\nother/{name}\n")).unwrap();
    folder
        .kerase("reconstruct --model model.safetensors --data both.txt --out x")
        .failed(2, &[&format!("brain/{name}"), &format!("other/{name}")]);
    assert!(!folder.path("x").exists());
}

/// A limit on the size of files stands for a disk that is full: both refuse in the middle of writing.
#[cfg(unix)]
#[test]
fn a_disk_that_refuses_leaves_nothing_half_written() {
    let folder = Folder::new();
    folder.simulate();
    folder.weights("model.safetensors");
    let limited = "ulimit -f 1; exec \"$KERASE\"";
    folder
        .shell(&format!("{limited} simulate --anatomy brain --volumes 1 --out new/a"))
        .failed(2, &["cannot write new/a/file_brain_AXT2_200_0000001.h5", "File too large"]);
    folder
        .shell(&format!("{limited} reconstruct --model model.safetensors --data knee --out new/b"))
        .failed(2, &["cannot write new/b/file1000001.h5", "File too large"]);
    folder
        .shell(&format!("{limited} evaluate --model model.safetensors --data knee --out m.json"))
        .failed(2, &["cannot write m.json", "File too large"]);
    assert!(!folder.path("new").exists() && !folder.path("m.json").exists());
    assert!(!folder.list("").iter().any(|name| name.contains("partial")), "{:?}", folder.list(""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_an_error_and_a_closed_pipe_is_none() {
    let folder = Folder::new();
    folder.shell("exec \"$KERASE\" info > /dev/full").failed(2, &["standard output", "No space left"]);
    folder.shell("set -e; \"$KERASE\" info --json | true").succeeded();
}

#[test]
fn bench_refuses_what_has_no_effect() {
    let folder = Folder::new();
    for (options, part) in [
        ("--plan H100 --device cpu", "--device"),
        ("--plan H100 --threads 2", "--threads"),
        ("--plan H100 --warm-up 2", "--warm-up"),
        ("--plan H100 --cache-gib 1", "--data"),
        ("--step --cache-gib 1", "--data"),
        ("--operations --warm-up 2", "--warm-up"),
        ("--operations --mode both", "--mode both"),
        ("--plan H100 --mode both", "--mode both"),
        ("--tune x.toml --mode both", "--mode both"),
        ("--mode inference --low-memory", "--low-memory"),
        ("--data brain --loader-only --device cpu", "--device"),
        ("--data brain --loader-only --chans 4", "--chans"),
    ] {
        folder.kerase(&format!("bench {options}")).failed(2, &[part]);
    }
}

#[test]
fn a_precision_that_the_device_lacks() {
    let folder = Folder::new();
    for command in ["bench --step", "validate --list"] {
        let command = format!("{command} --device cpu --precision fp16");
        folder.kerase(&command).failed(2, &["fp16", "fp32, tf32 or bf16"]);
    }
    folder.kerase("bench --device cpu --precision tf32").failed(2, &["--precision tf32", "fp32 only"]);
    folder.kerase("validate --device cpu --precision bf16").failed(2, &["--precision bf16", "fp32 only"]);
}
