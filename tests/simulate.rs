//! Simulated volumes: what the files must hold, that they can be trusted to repeat, and that the two
//! anatomies are two.

use kerase::data::volume::NewVolume;
use kerase::error::Error;
use kerase::simulate::{Anatomy, SimulateConfig, file_name, simulate_volume};
use num_complex::{Complex32, Complex64};

fn small(anatomy: Anatomy) -> SimulateConfig {
    SimulateConfig { matrix: [64, 32], recon: [32, 32], slices: 3, coils: 4, ..SimulateConfig::new(anatomy) }
}

fn coil_kspace(volume: &NewVolume, slice: usize, coil: usize) -> &[Complex32] {
    let size = volume.matrix[0] * volume.matrix[1];
    &volume.kspace[(slice * volume.coils + coil) * size..][..size]
}

fn target(volume: &NewVolume, slice: usize) -> &[f32] {
    let size = volume.recon[0] * volume.recon[1];
    &volume.reconstruction_rss[slice * size..][..size]
}

/// The centred orthonormal inverse transform, summed term by term in float64.
fn image_of(kspace: &[Complex32], [rows, columns]: [usize; 2]) -> Vec<Complex64> {
    let wave = |n: usize, x: usize, k: usize| {
        let centred = |i: usize| i as f64 - (n / 2) as f64;
        Complex64::from_polar(
            1.0 / (n as f64).sqrt(),
            std::f64::consts::TAU * centred(x) * centred(k) / n as f64,
        )
    };
    let k = |r: usize, c: usize| {
        Complex64::new(kspace[r * columns + c].re.into(), kspace[r * columns + c].im.into())
    };
    let mut across = vec![Complex64::default(); rows * columns];
    for r in 0..rows {
        for x in 0..columns {
            across[r * columns + x] = (0..columns).map(|c| k(r, c) * wave(columns, x, c)).sum();
        }
    }
    let mut image = vec![Complex64::default(); rows * columns];
    for y in 0..rows {
        for x in 0..columns {
            image[y * columns + x] = (0..rows).map(|r| across[r * columns + x] * wave(rows, y, r)).sum();
        }
    }
    image
}

fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// Root of the summed squares of the difference, relative to the first.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(x, y)| square(x - y)).sum();
    (difference / a.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

#[test]
fn bits_do_not_depend_on_threads() {
    for anatomy in Anatomy::ALL {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| simulate_volume(&small(anatomy), 7).unwrap())
        };
        let (one, two) = (on(1), on(2));
        assert!(one.kspace == two.kspace && one.reconstruction_rss == two.reconstruction_rss);
    }
}

#[test]
fn subjects_seeds_and_slices_differ() {
    for anatomy in Anatomy::ALL {
        let config = SimulateConfig { noise: 0.0, ..small(anatomy) };
        let volume = simulate_volume(&config, 1).unwrap();
        // Scaled to the same power, for the gain differs between subjects too.
        let even = |v: &NewVolume, slice| {
            let image = target(v, slice);
            let power = image.iter().map(|x| x * x).sum::<f32>().sqrt();
            image.iter().map(|x| x / power).collect::<Vec<_>>()
        };
        let other = simulate_volume(&config, 2).unwrap();
        let seed = simulate_volume(&SimulateConfig { seed: 43, ..config.clone() }, 1).unwrap();
        assert!(distance(&even(&volume, 1), &even(&other, 1)) > 0.1);
        assert!(distance(&even(&volume, 1), &even(&seed, 1)) > 0.1);
        assert!(distance(&even(&volume, 0), &even(&volume, 1)) > 0.15);
        assert!(distance(&even(&volume, 1), &even(&volume, 2)) > 0.15);
    }
}

#[test]
fn noise_differs_between_coils_and_slices() {
    let quiet = SimulateConfig { noise: 0.0, ..small(Anatomy::Brain) };
    let loud = SimulateConfig { noise: 0.05, ..quiet.clone() };
    let (quiet, loud) = (simulate_volume(&quiet, 1).unwrap(), simulate_volume(&loud, 1).unwrap());
    let noise = |slice, coil| {
        let pairs = coil_kspace(&loud, slice, coil).iter().zip(coil_kspace(&quiet, slice, coil));
        pairs.map(|(a, b)| a - b).collect::<Vec<_>>()
    };
    let first = noise(0, 0);
    let power: f32 = first.iter().map(|v| v.norm_sqr()).sum();
    for (slice, coil) in [(0, 1), (1, 0), (2, 3)] {
        let inner: Complex32 = first.iter().zip(&noise(slice, coil)).map(|(a, b)| a.conj() * b).sum();
        assert!(inner.norm() < 0.1 * power);
    }
}

#[test]
fn reference_is_the_rss_of_the_kspace() {
    let sizes = [
        ([24, 16], [12, 16], 3),
        ([22, 17], [9, 13], 1),
        ([16, 25], [16, 8], 2),
        ([13, 12], [13, 12], 64),
        ([15, 14], [15, 7], 5),
    ];
    for (matrix, recon, coils) in sizes {
        for anatomy in Anatomy::ALL {
            let config = SimulateConfig { matrix, recon, coils, slices: 2, ..SimulateConfig::new(anatomy) };
            let volume = simulate_volume(&config, 3).unwrap();
            assert_eq!(volume.kspace.len(), 2 * coils * matrix[0] * matrix[1]);
            assert_eq!(volume.reconstruction_rss.len(), 2 * recon[0] * recon[1]);
            let mut power = vec![0.0; matrix[0] * matrix[1]];
            for coil in 0..coils {
                let image = image_of(coil_kspace(&volume, 1, coil), matrix);
                power.iter_mut().zip(image).for_each(|(p, v)| *p += v.norm_sqr());
            }
            let (top, left) = ((matrix[0] - recon[0]) / 2, (matrix[1] - recon[1]) / 2);
            for (i, &value) in target(&volume, 1).iter().enumerate() {
                let (r, c) = (top + i / recon[1], left + i % recon[1]);
                let expected = power[r * matrix[1] + c].sqrt();
                let error = (f64::from(value) - expected).abs();
                assert!(error < 1e-5 * expected + 1e-9, "{matrix:?} pixel {i}: {value} is not {expected}");
            }
        }
    }
}

#[test]
fn columns_that_were_not_measured_are_zero() {
    for (columns, lines) in [(40, 31), (41, 30), (41, 41), (40, 1)] {
        let config = SimulateConfig {
            matrix: [32, columns],
            recon: [16, 16],
            acquired_lines: Some(lines),
            ..small(Anatomy::Knee)
        };
        let volume = simulate_volume(&config, 1).unwrap();
        assert_eq!(volume.encoding_limit_max, lines - 1);
        // fastMRI's arithmetic on the header.
        let left = columns / 2 - volume.encoding_limit_center;
        let right = left + volume.encoding_limit_max + 1;
        assert_eq!(left..right, config.acquired_columns());
        for line in volume.kspace.chunks_exact(columns) {
            for (c, value) in line.iter().enumerate() {
                assert_eq!(*value != Complex32::default(), (left..right).contains(&c), "column {c}");
            }
        }
        // The strongest column is the centre of k-space.
        let energy =
            |c: usize| volume.kspace.iter().skip(c).step_by(columns).map(|v| v.norm_sqr()).sum::<f32>();
        let strongest = (0..columns).max_by(|&a, &b| energy(a).total_cmp(&energy(b))).unwrap();
        assert!(strongest.abs_diff(columns / 2) <= 1);
    }
}

#[test]
fn noise_has_the_deviation_that_was_asked_for() {
    let (matrix, noise) = ([64, 48], 0.02);
    for anatomy in Anatomy::ALL {
        let quiet = SimulateConfig { matrix, recon: [32, 32], noise: 0.0, ..small(anatomy) };
        let loud = SimulateConfig { noise, ..quiet.clone() };
        let (quiet, loud) = (simulate_volume(&quiet, 5).unwrap(), simulate_volume(&loud, 5).unwrap());
        let all: Vec<_> = loud.kspace.iter().zip(&quiet.kspace).map(|(a, b)| a - b).collect();
        let real = deviation(all.iter().map(|v| f64::from(v.re)));
        let imaginary = deviation(all.iter().map(|v| f64::from(v.im)));
        assert!((real / imaginary - 1.0).abs() < 0.03);
        // Relative to bright tissue: the noise-free reference spans about 1 in these units.
        let mut bright = quiet.reconstruction_rss.clone();
        bright.sort_by(f32::total_cmp);
        let bright = f64::from(bright[bright.len() * 9 / 10]);
        assert!((0.5..2.0).contains(&(real / bright / noise)), "{}", real / bright / noise);
        // And in the image's left edge, where there is only air. The transform is orthonormal.
        let image = image_of(coil_kspace(&loud, 1, 0), matrix);
        let edge: Vec<_> = image.chunks_exact(matrix[1]).flat_map(|line| &line[..3]).copied().collect();
        let air = deviation(edge.iter().flat_map(|v| [v.re, v.im]));
        assert!((air / real - 1.0).abs() < 0.15, "{air} is not {real}");
        // White: the last rows of k-space, where the object has next to nothing, are as noisy as the rest.
        let far = deviation(all[..4 * matrix[1]].iter().map(|v| f64::from(v.re)));
        assert!((far / real - 1.0).abs() < 0.15);
    }
}

#[test]
fn a_head_is_a_closed_ring_and_a_leg_runs_through() {
    let n = 48;
    let volume = |anatomy| {
        let config = SimulateConfig { matrix: [2 * n, n], recon: [n, n], noise: 0.0, ..small(anatomy) };
        simulate_volume(&config, 11).unwrap()
    };
    let (brain, knee) = (volume(Anatomy::Brain), volume(Anatomy::Knee));
    let row = |v: &NewVolume, r: usize| target(v, 1)[r * n..][..n].iter().sum::<f32>();
    let (brain_middle, knee_middle) = (row(&brain, n / 2), row(&knee, n / 2));
    assert!(row(&brain, 0) < 0.05 * brain_middle && row(&brain, n - 1) < 0.05 * brain_middle);
    assert!(row(&knee, 0) > 0.2 * knee_middle && row(&knee, n - 1) > 0.2 * knee_middle);
    // Readout oversampling: beyond the field of view there is air round a head, but more leg.
    let beyond = |v: &NewVolume| {
        let image = image_of(coil_kspace(v, 1, 0), v.matrix);
        let energy = |rows: std::ops::Range<usize>| {
            image[rows.start * n..rows.end * n].iter().map(|p| p.norm_sqr()).sum::<f64>()
        };
        (energy(0..n / 2) + energy(3 * n / 2..2 * n)) / energy(0..2 * n)
    };
    assert!(beyond(&brain) < 1e-4, "{}", beyond(&brain));
    assert!(beyond(&knee) > 1e-3, "{}", beyond(&knee));
}

#[test]
fn numbers_are_as_small_as_those_of_a_scanner() {
    for anatomy in Anatomy::ALL {
        let volume = simulate_volume(&small(anatomy), 1).unwrap();
        let max = volume.reconstruction_rss.iter().copied().fold(0.0, f32::max);
        assert!((1e-4..5e-3).contains(&max), "{max}");
        assert!(volume.kspace.iter().all(|v| v.is_finite()));
        assert_eq!(volume.acquisition, anatomy.acquisition());
        assert!(volume.patient_id.contains(&anatomy.to_string()));
    }
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let good = small(Anatomy::Brain);
    let bad = [
        (SimulateConfig { coils: 0, ..good.clone() }, "coils"),
        (SimulateConfig { coils: 65, ..good.clone() }, "coils"),
        (SimulateConfig { slices: 0, ..good.clone() }, "slices"),
        (SimulateConfig { matrix: [0, 32], ..good.clone() }, "matrix has 0 rows"),
        (SimulateConfig { matrix: [64, 9000], ..good.clone() }, "matrix has 9000 columns"),
        (SimulateConfig { recon: [65, 32], ..good.clone() }, "reconstruction has 65 rows"),
        (SimulateConfig { recon: [64, 33], ..good.clone() }, "reconstruction has 33 columns"),
        (SimulateConfig { recon: [0, 32], ..good.clone() }, "reconstruction has 0 rows"),
        (SimulateConfig { noise: -0.1, ..good.clone() }, "noise"),
        (SimulateConfig { noise: f64::NAN, ..good.clone() }, "noise"),
        (SimulateConfig { acquired_lines: Some(0), ..good.clone() }, "acquire 0 of 32"),
        (SimulateConfig { acquired_lines: Some(33), ..good.clone() }, "acquire 33 of 32"),
        (SimulateConfig { matrix: [8192, 8192], slices: 1024, coils: 64, ..good.clone() }, "GiB"),
    ];
    for (config, word) in bad {
        match simulate_volume(&config, 0) {
            Err(error @ Error::Input(_)) => assert!(error.to_string().contains(word), "{error}"),
            other => panic!("{config:?} gave {:?}", other.map(|v| v.kspace.len())),
        }
    }
}

#[test]
fn names_and_settings_are_read_back() {
    assert_eq!(file_name(Anatomy::Brain, 1), "file_brain_AXT2_200_0000001.h5");
    assert_eq!(file_name(Anatomy::Knee, 1), "file1000001.h5");
    assert!(file_name(Anatomy::Knee, u64::MAX).starts_with("file1"));
    for anatomy in Anatomy::ALL {
        assert_eq!(anatomy.to_string().parse::<Anatomy>().unwrap(), anatomy);
        for config in [SimulateConfig::new(anatomy), SimulateConfig::fastmri(anatomy)] {
            config.validate().unwrap();
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<SimulateConfig>(&text).unwrap(), config);
        }
    }
    assert!(matches!("elbow".parse::<Anatomy>(), Err(Error::Input(_))));
}
