//! kerase's measures against fastMRI's (tests/golden/metrics, made by scripts/golden.py), and their behaviour at edges.

use kerase::error::Error;
use kerase::metrics::{self, Images, ScoreSummary, Scores, Spread, evaluate};
use safetensors::{SafeTensors, tensor::TensorView};

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/metrics/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make it with scripts/golden.py"))
}

fn f64s(view: TensorView) -> Vec<f64> {
    view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

fn f32s(view: TensorView) -> (Vec<f32>, [usize; 3]) {
    let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (data, view.shape().try_into().unwrap())
}

/// Both sides sum the same f64 numbers in other orders; SSIM's variances cancel to about 1e-13 of its constants.
fn assert_close(found: f64, expected: f64, what: &str) {
    let tolerance = 1e-11 * expected.abs().max(1.0);
    assert!((found - expected).abs() <= tolerance, "{what}: expected {expected}, found {found}");
}

fn as_array(s: Scores) -> [f64; 3] {
    [s.psnr, s.ssim, s.nmse]
}

#[test]
fn measures_are_fastmris() {
    let bytes = golden("volumes");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for name in ["even", "odd", "one_window"] {
        let get = |what: &str| file.tensor(&format!("{name}.{what}")).unwrap();
        let (target, shape) = f32s(get("target"));
        let (prediction, _) = f32s(get("prediction"));
        let (target, prediction) =
            (Images::new(&target, shape).unwrap(), Images::new(&prediction, shape).unwrap());
        for (label, max) in [("own_max", None), ("given_max", Some(f64s(get("max_value"))[0]))] {
            let scores = evaluate(target, prediction, max).unwrap();
            let whole = f64s(get(label));
            for ((found, expected), measure) in
                as_array(scores.volume).into_iter().zip(&whole).zip(["psnr", "ssim", "nmse"])
            {
                assert_close(found, *expected, &format!("{name} {label} {measure}"));
            }
            let slices = f64s(get(&format!("{label}.slices")));
            assert_eq!(slices.len(), 3 * scores.slices.len());
            for (i, (found, expected)) in
                scores.slices.iter().flat_map(|&s| as_array(s)).zip(slices).enumerate()
            {
                assert_close(found, expected, &format!("{name} {label} slice value {i}"));
            }
            // What fastMRI prints from float32 files agrees to the digits that one reports.
            let printed = f64s(get(&format!("{label}.f32")));
            assert!((scores.volume.psnr - printed[0]).abs() < 1e-4);
            assert!((scores.volume.ssim - printed[1]).abs() < 1e-6);
            assert!((scores.volume.nmse - printed[2]).abs() < 1e-6);
        }
    }
}

#[test]
fn the_ssim_loss_is_one_minus_the_measure() {
    let bytes = golden("ssim_loss");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for name in ["one_window", "odd", "batch"] {
        let get = |what: &str| file.tensor(&format!("{name}.{what}")).unwrap();
        let (target, shape) = f32s(get("target"));
        let (output, _) = f32s(get("output"));
        let (target, output) = (Images::new(&target, shape).unwrap(), Images::new(&output, shape).unwrap());
        let ranges = f64s(get("data_range"));
        let mean: f64 = ranges
            .iter()
            .enumerate()
            .map(|(i, &range)| evaluate(target.slice(i), output.slice(i), Some(range)).unwrap().volume.ssim)
            .sum::<f64>()
            / ranges.len() as f64;
        assert_close(1.0 - mean, f64s(get("loss"))[0], name);
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let target: Vec<f32> = (0..9 * 20 * 20).map(|i| (i as f32 * 0.37).sin().abs()).collect();
    let prediction: Vec<f32> = (0..9 * 20 * 20).map(|i| (i as f32 * 0.36).sin().abs()).collect();
    let (t, p) = (Images::new(&target, [9, 20, 20]).unwrap(), Images::new(&prediction, [9, 20, 20]).unwrap());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(t, p, None).unwrap())
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn deviation_is_runstats_sample_deviation() {
    let bytes = golden("deviation");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let get = |name| f64s(file.tensor(name).unwrap());
    let spread = Spread::of(&get("values")).unwrap();
    assert_close(spread.mean, get("mean")[0], "mean");
    assert_close(spread.sd.unwrap(), get("sd")[0], "sd");
    assert_eq!(spread.count, 11);
    assert_eq!(Spread::of(&[3.0]), Some(Spread { mean: 3.0, sd: None, count: 1 }));
    assert_eq!(Spread::of(&[]), None);
    assert_eq!(ScoreSummary::of(&[]), None);
}

#[test]
fn a_perfect_reconstruction_is_infinite_and_survives_json() {
    let data: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let images = Images::new(&data, [1, 8, 8]).unwrap();
    let scores = evaluate(images, images, None).unwrap();
    assert_eq!(scores.volume, Scores { psnr: f64::INFINITY, ssim: 1.0, nmse: 0.0 });
    let json = serde_json::to_string(&scores).unwrap();
    assert!(json.contains("\"psnr\":\"inf\""), "{json}");
    assert_eq!(serde_json::from_str::<metrics::VolumeScores>(&json).unwrap(), scores);
}

#[test]
fn what_cannot_be_scored_is_refused_with_its_reason() {
    let message = |e: Error| e.to_string();
    let data = vec![1.0f32; 2 * 8 * 8];
    let images = Images::new(&data, [2, 8, 8]).unwrap();

    assert!(message(Images::new(&data, [2, 8, 9]).unwrap_err()).contains("144 values"));
    assert!(message(Images::new(&[], [0, 8, 8]).unwrap_err()).contains("more than 0"));
    let mut broken = data.clone();
    broken[64 + 8 + 3] = f32::NAN;
    let error = Images::new(&broken, [2, 8, 8]).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(message(error).contains("slice 1 has NaN at row 1, column 3"));

    let small = Images::new(&data[..36], [1, 6, 6]).unwrap();
    assert!(message(evaluate(small, small, None).unwrap_err()).contains("7×7"));
    assert!(message(evaluate(images, images.slice(0), None).unwrap_err()).contains("[1, 8, 8]"));
    assert!(message(evaluate(images, images, Some(0.0)).unwrap_err()).contains("must be positive"));
    let zeros = vec![0.0; 64];
    let empty = Images::new(&zeros, [1, 8, 8]).unwrap();
    assert!(message(evaluate(empty, empty, None).unwrap_err()).contains("not empty"));
}
