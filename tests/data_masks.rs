//! Masks against numpy and fastMRI: tests/golden/data/masks.json, made by scripts/golden_data.py.

use kerase::data::mask::{ColumnMask, MaskFunction, MaskKind, MaskSeed, center_band, training_seed};
use kerase::data::numpy_random::RandomState;
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/data/masks.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers<T: TryFrom<u64>>(value: &Value) -> Vec<T> {
    let convert = |value: &Value| T::try_from(value.as_u64().unwrap()).ok().unwrap();
    value.as_array().unwrap().iter().map(convert).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// Hex digits, the first column in the highest bit.
fn columns(hex: &Value, count: usize) -> Vec<bool> {
    let digits = hex.as_str().unwrap().chars().map(|digit| digit.to_digit(16).unwrap());
    let bits: Vec<bool> =
        digits.flat_map(|digit| (0..4).rev().map(move |bit| digit >> bit & 1 == 1)).collect();
    assert!(bits[count..].iter().all(|bit| !bit));
    bits[..count].to_vec()
}

fn seed(value: &Value) -> MaskSeed<'_> {
    match value {
        Value::String(name) => MaskSeed::FileName(name),
        integer => MaskSeed::Integer(integer.as_u64().unwrap() as u32),
    }
}

#[test]
fn the_random_stream_is_numpys() {
    let golden = golden();
    let cases = golden["numpy"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let mut random = match seed(&case["seed"]) {
            MaskSeed::Integer(seed) => RandomState::from_integer(seed),
            MaskSeed::FileName(name) => {
                RandomState::from_key(&name.chars().map(u32::from).collect::<Vec<_>>())
            }
        };
        let drawn: Vec<u32> = numbers(&case["highs"]).into_iter().map(|high| random.randint(high)).collect();
        assert_eq!(drawn, numbers::<u32>(&case["randint"]), "{}", case["seed"]);
        for expected in floats(&case["uniform"]).into_iter().chain(floats(&case["rand"])) {
            assert_eq!(random.uniform(), expected, "{}", case["seed"]);
        }
        for expected in numbers::<u32>(&case["choice"]) {
            assert_eq!(random.choice(&[10, 20, 30]), expected, "{}", case["seed"]);
        }
    }
}

#[test]
fn masks_are_fastmris_to_the_column() {
    let golden = golden();
    let mut compared = [0; 5];
    let mut refused = 0;
    for case in golden["masks"].as_array().unwrap() {
        let draw = case["draw"].as_array().unwrap();
        let kind: MaskKind = draw[0].as_str().unwrap().parse().unwrap();
        let width = draw[1].as_u64().unwrap() as usize;
        let (fractions, accelerations) = (floats(&draw[2]), numbers::<u32>(&draw[3]));
        let function = MaskFunction::new(kind, &fractions, &accelerations).unwrap();
        let mask = function.sample(width, seed(&draw[4]));
        if case.get("error").is_some() {
            let message = mask.unwrap_err().to_string();
            assert!(message.contains(kind.name()) && message.contains(&width.to_string()), "{message}");
            refused += 1;
            continue;
        }
        let mut mask = mask.unwrap();
        if let [left, right] =
            numbers::<i64>(&draw[6].as_array().map_or(Value::Array(vec![]), |p| p.clone().into()))[..]
        {
            mask.apply_padding(left, right).unwrap();
        }
        assert_eq!(mask.columns, columns(&case["mask"], width), "{case}");
        assert_eq!(mask.num_low_frequencies as u64, case["low"].as_u64().unwrap(), "{case}");
        if width > 1 {
            let range = |value: &Value| numbers::<usize>(value)[0]..numbers::<usize>(value)[1];
            assert_eq!(mask.center_band(), range(&case["band"]), "{case}");
            assert_eq!(center_band(&mask.columns, 0), range(&case["found"]), "{case}");
        }
        compared[MaskKind::ALL.iter().position(|&other| other == kind).unwrap()] += 1;
    }
    assert!(compared.iter().all(|&count| count >= 40), "{compared:?}");
    assert!(refused > 20, "{refused}");
}

#[test]
fn the_band_of_a_stored_mask_is_fastmris() {
    let golden = golden();
    let cases = golden["stored"].as_array().unwrap();
    assert_eq!(cases.len(), 30);
    for case in cases {
        let width = case["columns"].as_u64().unwrap() as usize;
        let mask = ColumnMask::stored(columns(&case["mask"], width));
        let band = mask.center_band();
        assert_eq!([band.start, band.end], numbers::<usize>(&case["band"])[..], "{case}");
    }
}

#[test]
fn kinds_have_fastmris_names() {
    for kind in MaskKind::ALL {
        assert_eq!(kind.to_string().parse::<MaskKind>().unwrap(), kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), Value::from(kind.name()));
    }
    let message = "gaussian_2d".parse::<MaskKind>().unwrap_err().to_string();
    assert!(message.contains("equispaced_fraction") && message.contains("2-D"), "{message}");
}

#[test]
fn impossible_settings_are_refused() {
    let new = |fractions: &[f64], accelerations: &[u32]| {
        MaskFunction::new(MaskKind::Random, fractions, accelerations).map(drop).unwrap_err().to_string()
    };
    assert!(new(&[0.08], &[4, 8]).contains("1 center fractions and 2 accelerations"));
    assert!(new(&[], &[]).contains("at least one"));
    assert!(new(&[f64::NAN], &[4]).contains("NaN"));
    assert!(new(&[8.0], &[4]).contains("center fraction 8"));
    assert!(new(&[0.08], &[0]).contains("acceleration 0"));
    let function = MaskFunction::new(MaskKind::Random, &[0.08], &[4]).unwrap();
    assert!(function.sample(320, MaskSeed::FileName("")).is_err());
    assert!(function.sample(0, MaskSeed::Integer(1)).is_err());
}

#[test]
fn padding_that_contradicts_kspace_is_refused() {
    let mut mask = ColumnMask::stored(vec![true; 10]);
    for (left, right) in [(-3, 7), (4, 4), (10, 20), (5, 2)] {
        let message = mask.apply_padding(left, right).unwrap_err().to_string();
        assert!(message.contains(&format!("{left}..{right}")), "{message}");
    }
    assert_eq!(mask.sampled(), 10);
    mask.apply_padding(2, 99).unwrap();
    assert_eq!(mask.columns, [false, false, true, true, true, true, true, true, true, true]);
}

#[test]
fn training_masks_depend_on_run_epoch_volume_and_slice() {
    let seed = training_seed(42, 3, "file1.h5", 7);
    assert_eq!(seed, training_seed(42, 3, "file1.h5", 7));
    let others = [
        training_seed(43, 3, "file1.h5", 7),
        training_seed(42, 4, "file1.h5", 7),
        training_seed(42, 3, "file2.h5", 7),
        training_seed(42, 3, "file1.h5", 8),
    ];
    assert!(others.iter().all(|&other| other != seed), "{seed} {others:?}");
    // A frozen value: a resumed run must see the masks that it saw before, whatever kerase's version.
    assert_eq!(seed, FROZEN_TRAINING_SEED);
}

const FROZEN_TRAINING_SEED: u32 = 1_781_255_688;
