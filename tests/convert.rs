//! `kerase convert`: to BART's cfl and back, against what numpy wrote (scripts/golden_formats.py), and what it refuses.

#[path = "cli_support/mod.rs"]
mod support;

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use kerase::data::digest::slice_sha256;
use kerase::data::images::read_images;
use kerase::data::overlap::common_volumes;
use kerase::data::set::VolumeSet;
use kerase::data::volume::{Layout, Slice, VolumeFile};
use num_complex::Complex64;
use support::Folder;

fn golden(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats").join(name);
    path.display().to_string()
}

fn sizes(folder: &Folder, name: &str) -> Vec<usize> {
    let text = String::from_utf8(folder.read(name)).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# Dimensions"));
    lines.next().unwrap().split_whitespace().map(|size| size.parse().unwrap()).collect()
}

#[test]
fn arrays_for_bart_are_numpys_to_the_byte() {
    let folder = Folder::new();
    let m4raw = golden("2022061003_T201.h5");
    folder.kerase(&format!("convert {m4raw} k.cfl")).succeeded();
    folder.kerase(&format!("convert --images {m4raw} i.hdr")).succeeded();
    folder.kerase(&format!("convert {} cine.cfl", golden("P001/cine_sax.mat"))).succeeded();
    for (made, expected) in [("k", "bart_kspace"), ("i", "bart_images"), ("cine", "bart_cine")] {
        let expected = |extension| std::fs::read(golden(&format!("{expected}.{extension}"))).unwrap();
        assert!(folder.read(&format!("{made}.cfl")) == expected("cfl"), "{made}");
        let header = String::from_utf8(expected("hdr")).unwrap();
        let dims = header.lines().nth(1).unwrap().split_whitespace().map(|size| size.parse().unwrap());
        assert_eq!(sizes(&folder, &format!("{made}.hdr")), dims.collect::<Vec<usize>>());
    }
    // For scripts/golden_formats.py --check.
    if let Some(out) = std::env::var_os("KERASE_WRITE_SAMPLES") {
        for name in ["k.cfl", "k.hdr", "i.cfl", "i.hdr", "cine.cfl", "cine.hdr"] {
            std::fs::write(Path::new(&out).join(name), folder.read(name)).unwrap();
        }
    }
}

#[test]
fn a_volume_comes_back_bit_for_bit() {
    let folder = Folder::new();
    // 37 of 40 columns measured, and images smaller than k-space.
    folder
        .kerase("simulate --anatomy knee --volumes 1 --slices 2 --coils 3 --matrix 72 40 --acquired-lines 37 --out knee")
        .succeeded();
    folder.kerase("convert knee/file1000001.h5 a.cfl").succeeded();
    assert_eq!(sizes(&folder, "a.hdr")[..4], [72, 40, 1, 3]);
    let before = VolumeFile::open(folder.path("knee/file1000001.h5")).unwrap();
    let [height, width] = before.target.unwrap();
    folder.kerase(&format!("convert a b.h5 --recon {height} {width}")).succeeded();
    let after = VolumeFile::open(folder.path("b.h5")).unwrap();
    assert_eq!((after.slices, after.coils, after.matrix), (before.slices, before.coils, before.matrix));
    assert_eq!((after.recon, after.target), (before.recon, before.target));
    assert_eq!((after.padding_left, after.padding_right), (before.padding_left, before.padding_right));
    approx::assert_relative_eq!(after.max.unwrap(), before.max.unwrap(), max_relative = 1e-6);
    for index in 0..2 {
        let [a, b] = [&before, &after].map(|file| file.read_slice(index).unwrap());
        assert!(a.kspace == b.kspace, "slice {index}");
        for (a, b) in a.target.unwrap().iter().zip(b.target.unwrap()) {
            approx::assert_relative_eq!(
                *a,
                b,
                max_relative = 1e-5,
                epsilon = 1e-6 * before.max.unwrap() as f32
            );
        }
    }
    // And once more, to the byte.
    folder.kerase("convert b.h5 c.cfl").succeeded();
    assert!(folder.read("a.cfl") == folder.read("c.cfl") && folder.read("a.hdr") == folder.read("c.hdr"));
}

/// What BART calls `fft -u` along dimension 0, by its definition: from the places to the readout.
fn readout(image: &[Complex64]) -> Vec<Complex64> {
    let n = image.len();
    let from_centre = |i: usize| i as f64 - (n / 2) as f64;
    let along = |k: usize| {
        let turns = |x: usize| from_centre(k) * from_centre(x) / n as f64;
        let terms = image.iter().enumerate().map(|(x, z)| z * Complex64::cis(-TAU * turns(x)));
        terms.sum::<Complex64>() / (n as f64).sqrt()
    };
    (0..n).map(along).collect()
}

#[test]
fn a_scan_with_two_phase_encodings_becomes_slices_across_its_readout() {
    let folder = Folder::new();
    // Odd and even numbers of slices have their centres in different places; one slice is what it is.
    for slices in [1, 4, 5] {
        let set = format!("knee{slices}");
        folder
            .kerase(&format!(
                "simulate --anatomy knee --volumes 1 --slices {slices} --coils 3 --matrix 24 20 --acquired-lines 17 \
                 --recon 24 20 --out {set}"
            ))
            .succeeded();
        let simulated = VolumeFile::open(folder.path(&set).join("file1000001.h5")).unwrap();
        let planes: Vec<_> = (0..slices).map(|z| simulated.read_slice(z).unwrap().kspace).collect();
        // [coil][column][row][readout], the last fastest.
        let mut bytes = Vec::new();
        for coil in 0..3 {
            for column in 0..20 {
                for row in 0..24 {
                    let at = (coil * 24 + row) * 20 + column;
                    let line: Vec<Complex64> = planes
                        .iter()
                        .map(|plane| Complex64::new(plane[at].re.into(), plane[at].im.into()))
                        .collect();
                    for z in readout(&line) {
                        bytes.extend((z.re as f32).to_le_bytes());
                        bytes.extend((z.im as f32).to_le_bytes());
                    }
                }
            }
        }
        std::fs::write(folder.path("scan.cfl"), bytes).unwrap();
        std::fs::write(folder.path("scan.hdr"), format!("# Dimensions\n{slices} 24 20 3 1\n")).unwrap();
        folder.kerase("convert scan.cfl scan.h5 --overwrite").succeeded();
        let scan = VolumeFile::open(folder.path("scan.h5")).unwrap();
        assert_eq!((scan.slices, scan.coils, scan.matrix), (slices, 3, [24, 20]));
        assert_eq!(
            (scan.padding_left, scan.padding_right),
            (simulated.padding_left, simulated.padding_right)
        );
        for (z, plane) in planes.iter().enumerate() {
            let slice = scan.read_slice(z).unwrap();
            let scale = plane.iter().map(|z| z.norm()).fold(0.0, f32::max);
            for (a, b) in slice.kspace.iter().zip(plane) {
                assert!((a - b).norm() < 1e-6 * scale, "{slices} slices, {z}: {a} {b}");
            }
            let target = simulated.read_slice(z).unwrap().target.unwrap();
            let largest = target.iter().copied().fold(0.0, f32::max);
            for (a, b) in slice.target.unwrap().iter().zip(&target) {
                assert!((a - b).abs() < 1e-5 * largest, "{slices} slices, {z}: {a} {b}");
            }
        }
    }
}

#[test]
fn images_come_back_bit_for_bit() {
    let folder = Folder::new();
    let m4raw = golden("2022061003_T201.h5");
    folder.kerase(&format!("convert --images {} a.h5", golden("bart_images.cfl"))).succeeded();
    folder.kerase("convert --images a.h5 b").failed(2, &["b is neither"]);
    folder.kerase("convert --images a.h5 b.cfl").succeeded();
    assert!(folder.read("b.cfl") == std::fs::read(golden("bart_images.cfl")).unwrap());
    let [a, b] = [&folder.path("a.h5"), Path::new(&m4raw)].map(|path| read_images(path).unwrap());
    assert!(a.pixels == b.pixels && a.shape == b.shape && a.shape == [2, 8, 10]);
}

#[test]
fn a_set_of_cmrxrecon_becomes_one_of_fastmri() {
    let folder = Folder::new();
    let names = ["P001/cine_sax.mat", "P001/cine_lax.mat", "P003/cine_sax.mat"];
    std::fs::write(folder.path("list.txt"), names.map(golden).join("\n")).unwrap();
    folder.kerase("convert list.txt out").succeeded();
    for name in names {
        let before = VolumeFile::open(golden(name)).unwrap();
        let after = VolumeFile::open(folder.path("out").join(&before.name)).unwrap();
        assert_eq!(after.layout, Layout::FastMri);
        assert_eq!((&after.name, &after.patient_id), (&before.name, &before.patient_id));
        assert_eq!((after.max, &after.mask, after.target), (before.max, &before.mask, before.target));
        assert_eq!((after.padding_left, after.padding_right), (before.padding_left, before.padding_right));
        for index in 0..before.slices {
            let [a, b]: [Slice; 2] = [&before, &after].map(|file| file.read_slice(index).unwrap());
            assert_eq!(slice_sha256(&a), slice_sha256(&b), "{name} slice {index}");
        }
    }
    // Under another name and in another layout it is the same volume.
    let [before, after] = ["list.txt", "out"].map(|set| VolumeSet::open(folder.path(set)).unwrap());
    let common = common_volumes(&before, &after).unwrap();
    assert_eq!(common.len(), names.len());
    assert!(common.iter().all(|volume| volume.text.contains("the same k-space")), "{common:?}");
    folder.kerase("convert list.txt out").failed(2, &["out/P001_cine_sax.h5 exists", "--overwrite"]);
    folder.kerase("convert list.txt out --overwrite").succeeded();
    folder.kerase("convert out again").failed(2, &["fastMRI's layout already", "--to bart"]);
    folder.kerase("convert list.txt bart --to bart").succeeded();
    assert!(folder.read("bart/P001_cine_sax.cfl") == std::fs::read(golden("bart_cine.cfl")).unwrap());
    assert!(!folder.path("again").exists());

    // What was not sampled stays so by way of BART.
    folder.kerase("convert bart/P003_cine_sax.cfl back.h5").succeeded();
    let [before, after] =
        [Path::new(&golden(names[2])), &folder.path("back.h5")].map(|p| VolumeFile::open(p).unwrap());
    assert_eq!((&after.mask, after.target, after.slices), (&before.mask, None, 6));
    for index in 0..6 {
        assert!(before.read_slice(index).unwrap().kspace == after.read_slice(index).unwrap().kspace);
    }
}

#[test]
fn what_cannot_be_converted_is_refused_and_nothing_is_left() {
    let folder = Folder::new();
    let write = |name: &str, header: &str, bytes: &[u8]| {
        std::fs::write(folder.path(&format!("{name}.hdr")), header).unwrap();
        std::fs::write(folder.path(&format!("{name}.cfl")), bytes).unwrap();
    };
    let numbers: Vec<u8> = (0..24).flat_map(|i| (i as f32 - 3.5).to_le_bytes()).collect();
    write("short", "# Dimensions\n2 3 1 2\n", &numbers[..95]);
    write("long", "# Dimensions\n2 3 1 1\n", &numbers);
    write("huge", "# Dimensions\n4294967296 4294967296 1 4294967296\n", &numbers);
    write("words", "# Dimensions\ntwo 3\n", &numbers);
    write("maps", "# Dimensions\n2 3 1 1 2\n", &numbers);
    write("slabs", "# Dimensions\n1 2 3 1 1 1 1 1 1 1 2\n", &numbers);
    write("volume", "# Dimensions\n2 3 2\n", &numbers);
    let mut holes = numbers.clone();
    // The second of three rows in the first column, of both coils.
    holes[8..16].fill(0);
    write("rows", "# Dimensions\n3 2 1 2\n", &[&holes[..48], &holes[..48]].concat());
    write("zero", "# Dimensions\n2 3 1 2\n", &[0; 96]);
    let mut nan = numbers.clone();
    nan[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    write("nan", "# Dimensions\n2 3 1 2\n", &nan);
    write("good", "# Dimensions\n2 3 1 2\n", &numbers);
    std::fs::write(folder.path("alone.cfl"), &numbers).unwrap();
    let before = folder.list("");
    for (arguments, parts) in [
        ("short.cfl x.h5", &["short.cfl", "95 bytes"][..]),
        ("long.cfl x.h5", &["long.cfl", "96 bytes"]),
        ("huge.cfl x.h5", &["huge.cfl", "96 bytes"]),
        ("words.cfl x.h5", &["words.hdr", "'two'"]),
        ("maps.cfl x.h5", &["maps.hdr", "dimension 4 (MAPS)"]),
        ("slabs x.h5", &["slabs.cfl", "2 frames", "two phase encodings"]),
        ("rows x.h5", &["rows.cfl", "row 1 of column 0", "transpose"]),
        ("--images volume x.h5", &["volume.hdr", "dimension 2 (PHS2)", "transpose"]),
        ("zero.cfl x.h5", &["zero.cfl", "zero"]),
        ("nan.cfl x.h5", &["nan.cfl", "NaN"]),
        ("alone.cfl x.h5", &["alone.hdr", "No such file"]),
        ("none.cfl x.h5", &["none.hdr", "No such file"]),
        ("none.h5 x.cfl", &["none.h5", "No such file"]),
        ("good.cfl x.cfl", &["BART's already", ".h5"]),
        ("good.cfl folder", &["BART's already", ".h5"]),
        ("good.cfl x.h5 --recon 3 3", &["3 x 3", "--recon"]),
        ("good.cfl no/x.h5", &["no/x.h5"]),
        ("--images good.cfl x.h5", &["dimension 3 (COIL)"]),
    ] {
        folder.kerase(&format!("convert {arguments}")).failed(2, parts);
        assert_eq!(folder.list(""), before, "{arguments}");
    }
    for name in ["good.cfl", "good.hdr"] {
        let convert = format!("kerase convert {name} volume.h5");
        folder.kerase(&format!("info --data {name}")).failed(2, &["BART's", &convert]);
    }
    let part = format!("{} slices=0..1\n", golden("2022061003_T201.h5"));
    std::fs::write(folder.path("part.txt"), part).unwrap();
    folder.kerase("convert part.txt parts --to bart").failed(2, &["part.txt", "convert takes whole volumes"]);
    assert!(!folder.path("parts").exists());
    std::fs::remove_file(folder.path("part.txt")).unwrap();
    let bad = golden("bad/nan.mat");
    folder.kerase(&format!("convert {bad} x.cfl")).failed(2, &["nan.mat", "slice 5"]);
    folder.kerase(&format!("convert {bad} x.cfl --recon 2 2")).failed(2, &["--recon"]);
    let m4raw = golden("2022061003_T201.h5");
    folder.kerase(&format!("convert {m4raw} good.cfl")).failed(2, &["good.hdr exists", "--overwrite"]);
    folder.kerase(&format!("convert {m4raw} x.h5")).failed(2, &["fastMRI's layout already"]);
    assert_eq!(folder.list(""), before);
    folder.kerase(&format!("convert {m4raw} good.cfl --overwrite")).succeeded();
    assert_eq!(sizes(&folder, "good.hdr")[..4], [8, 10, 1, 4]);
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_disk_that_refuses_leaves_no_half_an_array() {
    let folder = Folder::new();
    let m4raw = golden("2022061003_T201.h5");
    let limited = "ulimit -f 1; exec \"$KERASE\"";
    folder
        .shell(&format!("{limited} convert {m4raw} x.cfl"))
        .failed(2, &["cannot write x.cfl", "File too large"]);
    folder
        .shell(&format!("{limited} convert {} x.h5", golden("bart_cine.cfl")))
        .failed(2, &["cannot write x.h5", "File too large"]);
    assert!(folder.list("").is_empty(), "{:?}", folder.list(""));

    // What was there before stays, header and data.
    let old: Vec<u8> = (0..24).flat_map(|i| (i as f32 - 3.5).to_le_bytes()).collect();
    let header = "# Dimensions\n2 3 1 2\n";
    std::fs::write(folder.path("x.cfl"), &old).unwrap();
    std::fs::write(folder.path("x.hdr"), header).unwrap();
    folder
        .shell(&format!("{limited} convert {m4raw} x.cfl --overwrite"))
        .failed(2, &["cannot write x.cfl", "File too large"]);
    assert!(folder.read("x.cfl") == old && folder.read("x.hdr") == header.as_bytes());
    assert_eq!(folder.list(""), ["x.cfl", "x.hdr"]);
}
