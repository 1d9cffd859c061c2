//! Sets of volumes, their fractions and overlaps, the order of an epoch, and the loader.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kerase::data::cache::CacheBudget;
use kerase::data::digest::{file_sha256, slice_sha256};
use kerase::data::fraction::FractionOf;
use kerase::data::loader::{Loader, LoaderOptions};
use kerase::data::order::epoch_order;
use kerase::data::overlap::check_disjoint;
use kerase::data::set::VolumeSet;
use kerase::data::volume::{NewVolume, SliceId};
use kerase::data::write::write_volume;
use num_complex::Complex32;
use tempfile::TempDir;

/// Every number of it depends on `seed`.
fn volume(seed: usize, slices: usize, columns: usize) -> NewVolume {
    let count = slices * 2 * 4 * columns;
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 65_521) as f32 / 65_521.0;
    NewVolume {
        slices,
        coils: 2,
        matrix: [4, columns],
        recon: [3, 3],
        kspace: (0..count).map(|i| Complex32::new(value(i), -value(i + 1))).collect(),
        reconstruction_rss: (0..slices * 9).map(value).collect(),
        encoding_limit_max: columns - 1,
        encoding_limit_center: columns / 2,
        acquisition: "AXT2".to_string(),
        patient_id: seed.to_string(),
    }
}

/// Volumes `file0.h5` … of the given numbers of slices and columns.
fn directory(shapes: &[(usize, usize)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (index, &(slices, columns)) in shapes.iter().enumerate() {
        write_volume(directory.path().join(format!("file{index}.h5")), &volume(index, slices, columns))
            .unwrap();
    }
    directory
}

fn open(path: impl AsRef<Path>) -> VolumeSet {
    VolumeSet::open(path).unwrap()
}

fn refusal(path: impl AsRef<Path>) -> String {
    VolumeSet::open(path).map(drop).unwrap_err().to_string()
}

fn manifest(directory: &TempDir, text: &str) -> std::path::PathBuf {
    let path = directory.path().join("set.txt");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_directory_is_a_set() {
    let directory = directory(&[(3, 8), (2, 8), (1, 10)]);
    std::fs::write(directory.path().join("notes.txt"), "not a volume").unwrap();
    std::fs::write(directory.path().join("._file0.h5"), "what another system left").unwrap();
    let set = open(directory.path());
    let names: Vec<&str> = set.volumes().iter().map(|volume| &volume.name[..]).collect();
    assert_eq!(names, ["file0.h5", "file1.h5", "file2.h5"]);
    assert_eq!(set.slices(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]);
    assert_eq!(set.shapes().values().copied().collect::<Vec<_>>(), [5, 1]);
    let expected = "3 volumes, 6 slices (5 of 2 coils, k-space 4 x 8, target 3 x 3; \
                    1 of 2 coils, k-space 4 x 10, target 3 x 3)";
    assert_eq!(set.summary(), expected);
    let one = open(directory.path().join("file1.h5"));
    assert_eq!((one.volumes().len(), one.slice_count()), (1, 2));
}

#[test]
fn endings_count_in_capitals_too() {
    let directory = directory(&[(1, 8), (1, 8), (1, 8)]);
    for (index, name) in ["a.H5", "b.hdf5", "c.HDF5"].into_iter().enumerate() {
        std::fs::rename(directory.path().join(format!("file{index}.h5")), directory.path().join(name))
            .unwrap();
    }
    std::fs::write(directory.path().join("cine_sax_Mask.MAT"), "CMRxRecon's, not looked at").unwrap();
    let set = open(directory.path());
    let names: Vec<&str> = set.volumes().iter().map(|volume| &volume.name[..]).collect();
    assert_eq!(names, ["a.H5", "b.hdf5", "c.HDF5"]);
    assert_eq!(open(directory.path().join("a.H5")).slice_count(), 1);
}

/// Otherwise the slices of a forget set might stay, and nobody would know.
#[cfg(unix)]
#[test]
fn nothing_that_is_named_as_a_volume_is_left_out() {
    let directory = directory(&[(1, 8)]);
    let path = |name: &str| directory.path().join(name);
    std::os::unix::fs::symlink(path("file0.h5"), path("file1.hdf5")).unwrap();
    std::os::unix::fs::symlink("nowhere", path("notes.txt")).unwrap();
    std::os::unix::fs::symlink("nowhere", path(".hidden.h5")).unwrap();
    assert!(refusal(directory.path()).contains("more than once"), "a link that holds is followed");
    std::fs::remove_file(path("file1.hdf5")).unwrap();
    assert_eq!(open(directory.path()).slice_count(), 1);

    std::os::unix::fs::symlink("nowhere", path("file2.h5")).unwrap();
    std::os::unix::fs::symlink("file3.H5", path("file3.H5")).unwrap();
    std::fs::create_dir(path("file4.h5")).unwrap();
    let message = refusal(directory.path());
    for part in
        ["3 entries", "file2.h5 is a link", "file3.H5 is a link", "file4.h5 is not a file", "bring them back"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_manifest_chooses_volumes_and_slices() {
    let directory = directory(&[(3, 8), (5, 8)]);
    std::fs::create_dir(directory.path().join("a folder")).unwrap();
    std::fs::copy(directory.path().join("file0.h5"), directory.path().join("a folder/my file.h5")).unwrap();
    let set = open(manifest(&directory, "# a set\n\n  file1.h5\tslices=1..4  \r\na folder/my file.h5\n"));
    assert_eq!(set.slices(), [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(set.volumes()[1].name, "my file.h5");
    let marked = open(manifest(&directory, "\u{feff}file0.h5\n"));
    assert_eq!(marked.slice_count(), 3, "a byte order mark is no part of a name");
}

#[test]
fn sets_that_cannot_be_used_are_refused() {
    let directory = directory(&[(3, 8), (5, 8)]);
    let refused = |text: &str| refusal(manifest(&directory, text));
    assert!(refused("# nothing\n").contains("lists no volumes"));
    let missing = refused("file0.h5\nfile7.h5\nfile8.h5\n");
    assert!(missing.contains("2 files") && missing.contains("file7.h5") && missing.contains("file8.h5"));
    assert!(refused("file0.h5\nfile1.h5\n./file0.h5 slices=0..1\n").contains("more than once"));
    for bad in ["slices=3", "slices=2..2", "slices=3..1", "slices=a..b", "slices=-1..2"] {
        let message = refused(&format!("file1.h5\nfile0.h5 {bad}\n"));
        assert!(message.contains("line 2") && message.contains(bad), "{message}");
    }
    let beyond = refused("file0.h5 slices=1..4\n");
    assert!(beyond.contains("slices=1..4") && beyond.contains("0..3"), "{beyond}");

    std::fs::write(directory.path().join("bad1.h5"), "no HDF5").unwrap();
    std::fs::write(directory.path().join("bad2.h5"), "no HDF5 either").unwrap();
    let both = refusal(directory.path());
    assert!(both.contains("2 volumes") && both.contains("bad1.h5") && both.contains("bad2.h5"), "{both}");

    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir(empty.path().join("patient1")).unwrap();
    let nested = refusal(empty.path());
    assert!(nested.contains("no *.h5 files") && nested.contains("-name '*.h5'"), "{nested}");
    assert!(refusal(empty.path().join("missing")).starts_with("cannot read"));
    std::fs::write(empty.path().join("model.bin"), [0xff, 0xfe, 0x00]).unwrap();
    assert!(refusal(empty.path().join("model.bin")).contains("neither"));
}

#[test]
fn what_is_no_manifest_is_refused_in_few_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.tar");
    std::fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
    let message = refusal(&path);
    assert!(message.contains("big.tar is neither") && message.contains("at most 16 MiB"), "{message}");
    for (bytes, part) in [
        (b"file0.h5\0".to_vec(), "no text in UTF-8"),
        (b"file\xff.h5".to_vec(), "no text in UTF-8"),
        // Beyond the first block, and a character across its end.
        ([b"#".repeat(1 << 17), b"\xff".to_vec()].concat(), "no text in UTF-8"),
        ([b"#".repeat((1 << 16) - 1), "é\n".into()].concat(), "lists no volumes"),
        (b"x".repeat(100_000), "lists 1 files that do not exist"),
        (b"slices=".repeat(100_000), "lists 1 files that do not exist"),
        ([b"x slices=".to_vec(), b"9".repeat(100_000)].concat(), "expected slices=FROM..TO"),
        (b"no.h5\n".repeat(5000), "and 4900 more"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(&path);
        assert!(message.contains("big.tar") && message.contains(part), "{message}");
        assert!(message.len() < 20_000, "{} bytes", message.len());
    }
}

#[test]
fn fractions_are_seeded_nested_and_never_empty() {
    let directory = directory(&[(10, 8), (10, 8), (10, 8), (10, 8)]);
    let set = open(directory.path());
    let named = |set: &VolumeSet| -> BTreeSet<(String, usize)> {
        set.slices().into_iter().map(|(volume, slice)| (set.volumes()[volume].name.clone(), slice)).collect()
    };
    let tenth = set.fraction(0.1, FractionOf::Slices, 42).unwrap();
    assert_eq!(tenth.slice_count(), 4);
    assert_eq!(named(&tenth), named(&set.fraction(0.1, FractionOf::Slices, 42).unwrap()));
    assert_ne!(named(&tenth), named(&set.fraction(0.1, FractionOf::Slices, 43).unwrap()));
    let half = set.fraction(0.5, FractionOf::Slices, 42).unwrap();
    assert_eq!(half.slice_count(), 20);
    assert!(named(&half).is_superset(&named(&tenth)) && named(&set).is_superset(&named(&half)));
    assert!((0..half.volumes().len()).all(|volume| half.slices_of(volume).is_sorted()));
    assert!((0..half.volumes().len()).all(|volume| !half.slices_of(volume).is_empty()));
    assert_eq!(set.fraction(1.0, FractionOf::Slices, 1).unwrap().slices(), set.slices());

    let quarter = set.fraction(0.25, FractionOf::Volumes, 42).unwrap();
    assert_eq!((quarter.volumes().len(), quarter.slice_count()), (1, 10));
    let message = set.fraction(0.1, FractionOf::Volumes, 42).unwrap_err().to_string();
    assert!(message.contains("0.1 of the 4 volumes") && message.contains("at least 0.250"), "{message}");
    for bad in [0.0, -0.1, 1.1, f64::NAN] {
        assert!(set.fraction(bad, FractionOf::Slices, 42).is_err());
    }
}

#[test]
fn overlapping_sets_are_refused() {
    let retain = directory(&[(3, 8), (2, 8)]);
    let forget = tempfile::tempdir().unwrap();
    let path = |name: &str| forget.path().join(name);
    write_volume(path("knee.h5"), &volume(77, 3, 8)).unwrap();
    let check = || check_disjoint(&open(retain.path()), &open(forget.path()), ["retain", "forget"]);
    check().unwrap();

    // A renamed copy is the same volume.
    std::fs::copy(retain.path().join("file1.h5"), path("other.h5")).unwrap();
    let message = check().unwrap_err().to_string();
    for part in ["other.h5", "file1.h5", "the same bytes", "retain set", "forget set", "share volumes"] {
        assert!(message.contains(part), "{message}");
    }
    std::fs::remove_file(path("other.h5")).unwrap();
    check().unwrap();

    // So is one that was written anew, with other bytes around the same k-space.
    write_volume(path("other.h5"), &NewVolume { patient_id: "somebody".to_string(), ..volume(1, 2, 8) })
        .unwrap();
    assert_ne!(file_sha256(path("other.h5")).unwrap(), file_sha256(retain.path().join("file1.h5")).unwrap());
    let message = check().unwrap_err().to_string();
    assert!(message.contains("other.h5") && message.contains("the same k-space"), "{message}");
    std::fs::remove_file(path("other.h5")).unwrap();

    // Or with other reference images, cropped otherwise, as one that was made of k-space that came back from BART.
    let original = volume(1, 2, 8);
    let recon = [original.recon[0] - 1, original.recon[1]];
    let reconstruction_rss = vec![0.5; original.slices * recon[0] * recon[1]];
    write_volume(path("back.h5"), &NewVolume { recon, reconstruction_rss, ..original }).unwrap();
    let message = check().unwrap_err().to_string();
    assert!(message.contains("back.h5") && message.contains("the same k-space"), "{message}");
    std::fs::remove_file(path("back.h5")).unwrap();

    // Not one that has the first coil in common, and nothing else.
    let mut other = volume(1, 2, 8);
    let coil = other.matrix[0] * other.matrix[1];
    let slice = other.coils * coil;
    other.kspace[slice + coil..2 * slice].reverse();
    write_volume(path("alike.h5"), &other).unwrap();
    check().unwrap();
    std::fs::remove_file(path("alike.h5")).unwrap();

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(retain.path().join("file0.h5"), path("linked.h5")).unwrap();
        let message = check().unwrap_err().to_string();
        assert!(message.contains("linked.h5") && message.contains("the same file"), "{message}");
    }
}

#[test]
fn digests_are_sha256() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abc");
    std::fs::write(&path, "abc").unwrap();
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(file_sha256(&path).unwrap(), expected);
}

#[test]
fn an_epoch_visits_every_slice_once_in_a_seeded_order() {
    let directory = directory(&[(10, 8), (10, 8)]);
    let set = open(directory.path());
    let flat = |seed, epoch, shuffle, batch| -> Vec<SliceId> {
        epoch_order(&set, seed, epoch, shuffle, batch).concat()
    };
    let first = flat(42, 0, true, 1);
    assert_eq!(first, flat(42, 0, true, 1));
    assert_ne!(first, flat(42, 1, true, 1));
    assert_ne!(first, flat(43, 0, true, 1));
    assert_ne!(first, set.slices());
    assert_eq!(flat(42, 0, false, 1), set.slices());
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, set.slices());
    // Frozen: a resumed epoch must go on where the interrupted one stopped, whatever kerase's version.
    assert_eq!(first[..5], FROZEN_ORDER);
    // Volumes of one shape only: batches are runs of the same order.
    assert_eq!(flat(42, 0, true, 3), first);
    let sizes: Vec<usize> = epoch_order(&set, 42, 0, true, 3).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 3, 3, 3, 3, 3, 2]);
}

const FROZEN_ORDER: [SliceId; 5] = [(0, 0), (0, 9), (0, 7), (1, 6), (1, 8)];

#[test]
fn batches_have_one_shape() {
    let directory = directory(&[(3, 8), (4, 10), (2, 8)]);
    let set = open(directory.path());
    assert_eq!(
        epoch_order(&set, 0, 0, false, 2),
        [
            vec![(0, 0), (0, 1)],
            vec![(1, 0), (1, 1)],
            vec![(1, 2), (1, 3)],
            vec![(0, 2), (2, 0)],
            vec![(2, 1)]
        ]
    );
    for epoch in 0..20 {
        let batches = epoch_order(&set, 7, epoch, true, 3);
        for batch in &batches {
            assert!(batch.iter().all(|&(volume, _)| set.shape(volume) == set.shape(batch[0].0)));
        }
        assert_eq!(batches.iter().filter(|batch| batch.len() < 3).count(), 2, "5 and 4 slices leave 2 and 1");
        let mut slices = batches.concat();
        slices.sort_unstable();
        assert_eq!(slices, set.slices());
    }
}

#[test]
fn the_loader_keeps_the_order_with_any_number_of_threads() {
    let directory = directory(&[(6, 8), (5, 10), (7, 8)]);
    let set = Arc::new(open(directory.path()));
    for (threads, depth, batch) in
        [(1, 1, 1), (2, 2, 1), (4, 3, 2), (8, 16, 3), (3, 1, 4), (0, 0, 2), (64, 64, 1)]
    {
        let batches = epoch_order(&set, 1, threads as u64, true, batch);
        let loader = Loader::start(set.clone(), batches.clone(), LoaderOptions { threads, depth, cache: 0 });
        assert_eq!(loader.len(), batches.len());
        let mut seen = vec![];
        for loaded in loader {
            let loaded = loaded.unwrap();
            for slice in &loaded {
                let expected = set.volumes()[slice.volume].read_slice(slice.slice).unwrap();
                assert_eq!(slice_sha256(&slice.data), slice_sha256(&expected));
            }
            seen.push(loaded.iter().map(|slice| (slice.volume, slice.slice)).collect::<Vec<_>>());
        }
        assert_eq!(seen, batches, "{threads} threads, depth {depth}");
    }
}

#[test]
fn what_is_kept_in_memory_is_not_read_again() {
    let directory = directory(&[(6, 8), (5, 10)]);
    let digests = |set: &VolumeSet, order: Vec<Vec<SliceId>>| {
        let loader = Loader::start(Arc::new(set.clone()), order, LoaderOptions::default());
        let slices = loader.map(|loaded| loaded.map(|slices| slice_sha256(&slices[0].data)));
        slices.collect::<Vec<_>>()
    };
    let plain = open(directory.path());
    let order = || epoch_order(&plain, 1, 0, true, 1);
    let expected: Vec<_> = digests(&plain, order()).into_iter().map(Result::unwrap).collect();
    // A slice of the first volume takes 2 x 4 x 8 x 8 + 9 x 4 bytes.
    let some = open(directory.path()).cached(&CacheBudget::new(4 * 548));
    let all = open(directory.path()).cached(&CacheBudget::new(1 << 20));
    for set in [&some, &all] {
        for _ in 0..2 {
            let read: Vec<_> = digests(set, order()).into_iter().map(Result::unwrap).collect();
            assert_eq!(read, expected);
        }
    }
    assert!((2..=4).contains(&some.cached_slices()), "{}", some.cached_slices());
    assert_eq!(all.cached_slices(), 11);

    // Without the files, what is in memory is all there is.
    std::fs::rename(directory.path().join("file0.h5"), directory.path().join("away")).unwrap();
    std::fs::rename(directory.path().join("file1.h5"), directory.path().join("gone")).unwrap();
    assert_eq!(digests(&all, order()).into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
    let left = digests(&some, order()).into_iter().filter(Result::is_ok).count();
    assert_eq!(left, some.cached_slices());
    // A part of a set numbers its volumes anew.
    let part = all.volumes_where(|volume| volume == 1).unwrap();
    assert!(digests(&part, vec![vec![(0, 0)]])[0].is_err());
}

#[test]
fn the_loader_reads_no_further_than_its_depth() {
    let directory = directory(&[(20, 8)]);
    let set = Arc::new(open(directory.path()));
    let options = LoaderOptions { threads: 4, depth: 3, cache: 0 };
    let mut loader = Loader::start(set.clone(), epoch_order(&set, 0, 0, false, 1), options);
    loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // One slice was taken and three may wait; whatever comes after them must fail once the file is gone.
    std::fs::remove_file(directory.path().join("file0.h5")).unwrap();
    let results: Vec<bool> = loader.map(|batch| batch.is_ok()).collect();
    assert_eq!(results.len(), 19);
    assert_eq!(results.iter().position(|ok| !ok), Some(3), "{results:?}");
}

#[test]
fn an_unreadable_slice_is_reported_in_its_place() {
    let directory = directory(&[(4, 8)]);
    let mut bad = volume(5, 4, 8);
    write_volume(directory.path().join("file1.h5"), &bad).unwrap();
    let path = directory.path().join("file1.h5");
    let set = Arc::new(open(directory.path()));
    // NaN cannot be written, so it is put into the third slice of the file afterwards.
    let needle: Vec<u8> =
        bad.kspace[2 * 64].re.to_le_bytes().into_iter().chain(bad.kspace[2 * 64].im.to_le_bytes()).collect();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == needle).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    bad.kspace.clear();

    for threads in [1, 4] {
        let batches: Vec<Vec<SliceId>> = epoch_order(&set, 0, 0, false, 2);
        let loader = Loader::start(set.clone(), batches, LoaderOptions { threads, depth: 4, cache: 0 });
        let results: Vec<Result<SliceId, String>> = loader
            .map(|batch| {
                batch.map(|slices| (slices[1].volume, slices[1].slice)).map_err(|error| error.to_string())
            })
            .collect();
        assert_eq!(results[..3], [Ok((0, 1)), Ok((0, 3)), Ok((1, 1))]);
        let message = results[3].as_ref().unwrap_err();
        assert!(message.contains("file1.h5") && message.contains("slice 2"), "{message}");
    }
}

#[test]
fn dropping_the_loader_stops_it() {
    let directory = directory(&[(50, 8)]);
    let set = Arc::new(open(directory.path()));
    for taken in [0, 1, 7] {
        let batches = epoch_order(&set, 0, 0, true, 1);
        let mut loader =
            Loader::start(set.clone(), batches, LoaderOptions { threads: 4, depth: 2, cache: 0 });
        assert_eq!(loader.by_ref().take(taken).filter(|batch| batch.is_ok()).count(), taken);
        let start = Instant::now();
        drop(loader);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(Arc::strong_count(&set), 1, "a worker still holds the set");
    }
}
