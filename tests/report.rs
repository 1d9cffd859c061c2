//! Tables and panels: what they say, and that the pixels are where and what they should be.

use std::borrow::Cow;

use kerase::metrics::{Images, Scores, evaluate};
use kerase::picture::canvas::{Canvas, Line};
use kerase::picture::colormap::inferno;
use kerase::picture::comparison::{Candidate, comparison, error_factor, percentile};
use kerase::picture::panel::{Kind, Panel, Tile};
use kerase::report::evaluation::{Entry, Evaluation};
use kerase::table::Style;

fn entry(set: &str, model: &str, volume: &str, psnr: f64) -> Entry {
    let scores = Scores { psnr, ssim: psnr / 50.0, nmse: 1.0 / psnr };
    Entry { set: set.into(), model: model.into(), volume: volume.into(), slices: 16, scores }
}

fn evaluation() -> Evaluation {
    Evaluation::new(vec![
        entry("brain", "oracle", "file_brain_1.h5", 39.0),
        entry("brain", "oracle", "file_brain_2.h5", 41.0),
        entry("knee", "oracle", "file1000001.h5", 31.8),
        entry("brain", "NL-FT, λ=1e-5", "file_brain_1.h5", f64::INFINITY),
    ])
}

#[test]
fn summary_has_models_down_and_sets_across() {
    let text = evaluation().summary_table(Style::Terminal);
    let lines: Vec<&str> = text.lines().collect();
    let find =
        |word: &str| *lines.iter().find(|l| l.contains(word)).unwrap_or_else(|| panic!("{word}:\n{text}"));
    assert!(find("model").contains("brain PSNR (dB)") && find("model").contains("knee NMSE"), "{text}");
    // √2 is the sample deviation of 39 and 41; the lone knee volume has none.
    assert!(find("oracle").contains("40.00 ± 1.41"), "{text}");
    assert!(find("oracle").contains("31.80 ") && !find("oracle").contains("31.80 ±"), "{text}");
    assert!(find("NL-FT").contains("inf") && find("NL-FT").trim_end().ends_with('–'), "{text}");

    assert_eq!(lines.iter().filter(|l| l.starts_with('─')).count(), 3, "three rules:\n{text}");

    let markdown = evaluation().summary_table(Style::Markdown);
    assert!(markdown.lines().all(|l| l.starts_with('|') && l.ends_with('|')), "{markdown}");
    assert!(evaluation().volume_table(Style::Terminal).contains("file1000001.h5"));
}

#[test]
fn json_and_csv_keep_every_digit() {
    let mut evaluation = evaluation();
    evaluation.volumes[0].scores.psnr = 39.123456789012345;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, evaluation.json().unwrap()).unwrap();
    assert_eq!(Evaluation::read(&file).unwrap(), evaluation);

    let csv = evaluation.volume_csv().unwrap();
    assert_eq!(csv.lines().next().unwrap(), "set,model,volume,slices,psnr,ssim,nmse");
    assert!(csv.contains("brain,oracle,file_brain_1.h5,16,39.123456789012344,"), "{csv}");
    assert!(csv.contains("\"NL-FT, λ=1e-5\""), "{csv}");

    std::fs::write(&file, "{}").unwrap();
    let error = Evaluation::read(&file).unwrap_err().to_string();
    assert!(error.contains("not a file of evaluation results"), "{error}");
}

/// A body with soft edges and some structure, peak about `peak`.
fn body([h, w]: [usize; 2], peak: f32) -> Vec<f32> {
    let pixel = |i: usize| {
        let (y, x) = (2.0 * (i / w) as f32 / h as f32 - 1.0, 2.0 * (i % w) as f32 / w as f32 - 1.0);
        let soft = |r: f32| 1.0 / (1.0 + ((r - 1.0) * 40.0).exp());
        let ellipse = |cx: f32, cy: f32, rx: f32, ry: f32| soft(((x - cx) / rx).hypot((y - cy) / ry));
        let skull = ellipse(0.0, 0.0, 0.72, 0.9) - 0.55 * ellipse(0.0, 0.0, 0.66, 0.84);
        let folds = 0.12 * ellipse(0.0, 0.0, 0.6, 0.78) * ((x * 14.0).sin() * (y * 17.0 + x * 5.0).cos());
        let ventricles = 0.35 * (ellipse(-0.13, -0.05, 0.09, 0.28) + ellipse(0.13, -0.05, 0.09, 0.28));
        peak * (skull + folds + ventricles + 0.2 * ellipse(0.3, 0.45, 0.12, 0.1)).max(0.0)
    };
    (0..h * w).map(pixel).collect()
}

/// A blurred, aliased copy, as undersampling would leave it.
fn degraded(image: &[f32], [h, w]: [usize; 2], strength: f32) -> Vec<f32> {
    let at = |y: usize, x: usize| image[y.min(h - 1) * w + x % w];
    (0..h * w)
        .map(|i| {
            let (y, x) = (i / w, i % w);
            let blur = (0..5).map(|d| at(y, x + w + d - 2)).sum::<f32>() / 5.0;
            let ghost = at(y, x + w / 4) - at(y, x + w / 2);
            (1.0 - strength) * image[i] + strength * (blur + 0.12 * ghost).abs()
        })
        .collect()
}

fn scores(target: &[f32], image: &[f32], [h, w]: [usize; 2]) -> Option<Scores> {
    let images = |data| Images::new(data, [1, h, w]).unwrap();
    Some(evaluate(images(target), images(image), None).unwrap().volume)
}

/// Draws figures as an experiment would, for a person to look at in target/tmp, and checks that they are sane.
#[test]
fn a_comparison_can_be_drawn_at_any_size() {
    for (name, shape, peak) in
        [("small", [64, 64], 3e-4), ("brain", [256, 192], 2.0), ("wide", [40, 96], 1.0)]
    {
        let target = body(shape, peak);
        let zero_filled = degraded(&target, shape, 1.0);
        let before = degraded(&target, shape, 0.25);
        let after = degraded(&target, shape, 0.4);
        let candidate = |name, image| Candidate {
            name,
            image,
            scores: scores(&target, image, shape),
            with_error: name != "Zero-filled",
        };
        let candidates = [
            candidate("Zero-filled", zero_filled.as_slice()),
            candidate("Before unlearning", &before),
            candidate("NL-FT (λ = 1e−5)", &after),
        ];
        let row = comparison(&target, shape, &candidates);
        let mut second = row.clone();
        second.iter_mut().for_each(|tile| tile.heading.clear());
        let panel = Panel {
            title: Some("file_brain_AXT2_200_2000019.h5, slice 7, equispaced ×8".into()),
            row_labels: vec!["brain".into(), "knee".into()],
            rows: vec![row, second],
        };
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("panel_{name}.png"));
        panel.write(&path).unwrap();

        let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
        let canvas = panel.draw().unwrap();
        let info = decoder.read_info().unwrap();
        assert_eq!(
            (info.info().width as usize, info.info().height as usize),
            (canvas.width(), canvas.height())
        );
        assert_eq!(canvas.pixel(0, 0), [255; 3], "the background is white");
    }
}

#[test]
fn pixels_are_windowed_and_not_numbers_stand_out() {
    let mut image = vec![0.5f32; 240 * 240];
    image[0] = f32::NAN;
    let tile = |kind, image: &[f32]| Tile {
        image: Cow::Owned(image.to_vec()),
        shape: [240, 240],
        heading: String::new(),
        caption: vec![],
        kind,
    };
    let rows = vec![vec![
        tile(Kind::Grayscale { max: 1.0 }, &image),
        tile(Kind::Grayscale { max: 0.25 }, &image[..]),
        tile(Kind::Error { max: 1.0, factor: 2.0 }, &image[..]),
    ]];
    let canvas = Panel { rows, ..Panel::default() }.draw().unwrap();
    let middle = |i: usize| canvas.pixel(14 + 248 * i + 120, 14 + 120);
    assert_eq!(middle(0), [128; 3]);
    assert_eq!(middle(1), [255; 3]);
    assert_eq!(middle(2), inferno(1.0));
    assert_eq!(canvas.pixel(14, 14), [255, 0, 255]);
}

#[test]
fn panels_refuse_what_they_cannot_draw() {
    assert!(Panel::default().draw().unwrap_err().to_string().contains("at least one tile"));
    let image = Cow::Owned(vec![0.0; 5]);
    let kind = Kind::Grayscale { max: 1.0 };
    let tile = Tile { image, shape: [2, 3], heading: "Target".into(), caption: vec![], kind };
    let error = Panel { rows: vec![vec![tile]], ..Panel::default() }.draw().unwrap_err().to_string();
    assert!(error.contains("\"Target\" is [2, 3] and has 5 values"), "{error}");
}

#[test]
fn windows_and_error_factors_follow_the_data() {
    let mut values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    values.push(f32::INFINITY);
    assert_eq!(percentile(&values, 0.5), 500.0);
    assert_eq!(percentile(&values, 1.0), 999.0);
    assert!(percentile(&[0.0; 4], 0.99) > 0.0 && percentile(&[], 0.5) > 0.0);
    let error = vec![0.08f32; 100];
    assert_eq!(error_factor([error.as_slice()].into_iter(), 1.0), 10.0);
    assert_eq!(error_factor([error.as_slice()].into_iter(), 0.01), 1.0);
    assert_eq!(error_factor(std::iter::empty(), 1.0), 100.0);
}

#[test]
fn text_has_every_sign_that_captions_use() {
    let ink = |text: &str| {
        let mut canvas = Canvas::new(60, 40);
        canvas.text(5.0, 5.0, &Line::new(text, 24.0));
        let pixels = (0..40).flat_map(|y| (0..60).map(move |x| (x, y)));
        pixels.map(|(x, y)| canvas.pixel(x, y)).collect::<Vec<_>>()
    };
    // U+E000 is in no font: it shows what a missing sign looks like.
    let missing = ink("\u{e000}");
    for sign in "AZaz09|×±−–—→·°µλγσθΔℓ₁‖∞≤≥√²Ĝé".chars().filter(|&c| !"‖Ĝ".contains(c))
    {
        let drawn = ink(&sign.to_string());
        assert_ne!(drawn, missing, "{sign} is missing");
        assert!(drawn.iter().any(|p| p[0] < 128), "{sign} leaves no ink");
    }
    assert!(Line::fitting("a caption that is far too long", 16.0, 100.0).width <= 100.5);
}
