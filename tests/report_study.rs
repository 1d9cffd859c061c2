//! What a study's results become: tables against numbers worked out by hand, findings either way, figures, the page.

mod cli_support;
mod study_support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kerase::experiment::results::{Kinds, Measure, Part, Results, RunResult};
use kerase::provenance::Provenance;
use kerase::report::study::Report;
use kerase::report::study::condition::Study;
use kerase::report::study::findings::{Finding, Verdict, findings};
use kerase::report::study::tables::{compared_rows, epoch_rows, fraction_rows, table1, table2, table3};

use cli_support::Folder;
use study_support::{results, study, training, unlearning, with_audits, with_pictures};

const G: Part = Part::Original;
const ORACLE: Part = Part::Oracle;

/// G, oracle and NL-FT over two seeds.
fn two_seeds() -> Results {
    results(vec![
        training(G, 1, [39.0, 36.0, 37.0]),
        training(G, 2, [39.2, 36.4, 37.0]),
        training(ORACLE, 1, [39.4, 31.0, 32.0]),
        training(ORACLE, 2, [39.6, 32.0, 32.0]),
        unlearning("NL-FT", "nl-ft", 0.1, 1, Some([38.0, 31.5, 32.0])),
        unlearning("NL-FT", "nl-ft", 0.1, 2, Some([38.4, 31.5, 33.0])),
    ])
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

/// A CSV file as lines of columns by name.
fn lines(csv: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

#[test]
fn times_of_different_machines_are_not_compared() {
    let mut results = two_seeds();
    let on = |machine: &str| Provenance {
        kerase: "0.1.0".into(),
        commit: None,
        device: "cuda:0".into(),
        machine: machine.into(),
        precision: "tf32".into(),
    };
    for run in &mut results.runs {
        run.by = Some(on("a GPU"));
    }
    let share = |results: &Results| compared_rows(&Study::new(results))[2].share_of_retraining;
    near(share(&results).unwrap().mean, 0.1);
    // The GPU's number is no matter.
    results.runs[2].by = Some(Provenance { device: "cuda:3".into(), ..on("a GPU") });
    assert_eq!(share(&results).unwrap().count, 2);
    results.runs[2].by = Some(on("another GPU"));
    assert_eq!(share(&results).unwrap().count, 1);
    results.runs[3].by = Some(on("another GPU"));
    assert_eq!(share(&results), None);
    let page = Report::new(&results, Path::new("")).unwrap().page().unwrap();
    assert!(
        page.contains("another GPU, cuda, 0 threads"),
        "the runs' section says what each was computed on"
    );
}

#[test]
fn table_1_is_what_one_works_out_by_hand() {
    let results = two_seeds();
    let study = Study::new(&results);
    let rows = compared_rows(&study);
    assert_eq!(rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), ["G", "oracle", "NL-FT"]);
    let row = &rows[2];
    let bta = row.quality.bta.unwrap();
    near(bta.psnr.mean, 38.2);
    near(bta.psnr.sd.unwrap(), 0.08f64.sqrt());
    near(bta.psnr_sd_over_volumes.unwrap(), 1.0);
    near(bta.ssim.mean, 38.2 / 50.0);
    assert_eq!((bta.psnr.count, bta.volumes), (2, 3));
    // |38.0 − 39.4| and |38.4 − 39.6|; |31.5 − 31| and |31.5 − 32|, which do not cancel; |32 − 32| and |33 − 32|.
    let gaps = [row.gap.bta, row.gap.kta, row.gap.ua].map(|gap| gap.unwrap());
    near(gaps[0].psnr.mean, 1.3);
    near(gaps[0].psnr.sd.unwrap(), 0.02f64.sqrt());
    near(gaps[0].ssim.mean, 1.3 / 50.0);
    near(gaps[1].psnr.mean, 0.5);
    near(gaps[2].psnr.mean, 0.5);
    near(row.share_of_retraining.unwrap().mean, 0.1);
    near(row.seconds_per_step.unwrap().mean, 0.25);

    let table = table1(&study).unwrap();
    let cells = [
        "NL-FT",
        "10 %",
        "38.20 ± 1.00 (± 0.28) / 0.764",
        "31.50 ± 1.00 (± 0.00) / 0.630",
        "32.50 ± 1.00 (± 0.71) / 0.650",
        "1.30 ± 0.14",
        "0.50 ± 0.00",
        "0.50 ± 0.71",
        "10.0 ± 0.0 %",
        "250 ms",
        "2",
    ];
    assert_eq!(table.rows[2], cells);
    assert_eq!(table.rows[1][5..8], ["–", "–", "–"], "the oracle has no gap to itself");
    assert!(
        table.caption.contains("standard deviation over volumes") && table.caption.contains("over seeds")
    );
    let markdown = table.markdown();
    assert!(
        markdown.contains("38.20 ± 1.00 (± 0.28) / 0.764") && markdown.contains("\\|Δ\\| BTA"),
        "{markdown}"
    );
}

#[test]
fn csv_and_json_have_every_digit() {
    let mut results = two_seeds();
    results.runs[4].seconds = 100.123456789;
    let table = table1(&Study::new(&results)).unwrap();
    let line = &lines(&table.csv)[2];
    let row = &compared_rows(&Study::new(&results))[2];
    assert_eq!(line["label"], "NL-FT");
    assert_eq!(line["seconds"].parse::<f64>().unwrap(), row.seconds.unwrap().mean);
    assert_eq!(line["bta_psnr"].parse::<f64>().unwrap(), row.quality.bta.unwrap().psnr.mean);
    assert_eq!(
        line["bta_psnr_sd_over_seeds"].parse::<f64>().unwrap(),
        row.quality.bta.unwrap().psnr.sd.unwrap()
    );
    assert_eq!(line["kta_psnr_gap"].parse::<f64>().unwrap(), row.gap.kta.unwrap().psnr.mean);
    let json: serde_json::Value = serde_json::from_str(&table.json).unwrap();
    assert_eq!(json["rows"][2]["seconds"]["mean"], row.seconds.unwrap().mean);
    assert_eq!(json["rows"][2]["quality"]["bta"]["psnr"]["mean"], row.quality.bta.unwrap().psnr.mean);
    assert_eq!(json["caption"], table.caption);
}

#[test]
fn one_seed_has_no_deviation_over_seeds() {
    let mut results = two_seeds();
    results.runs.retain(|run| run.seed == 1);
    let table = table1(&Study::new(&results)).unwrap();
    assert_eq!(table.rows[2][2], "38.00 ± 1.00 / 0.760");
    assert_eq!(table.rows[2][5], "1.40");
    assert!(table.caption.contains("One seed") && !table.caption.contains("over seeds"), "{}", table.caption);
    assert_eq!(lines(&table.csv)[2]["bta_psnr_sd_over_seeds"], "");
    assert_eq!(findings(&Study::new(&results))[0].verdict, Verdict::Shown);
}

#[test]
fn what_diverged_is_shown() {
    let mut results = two_seeds();
    results.runs.extend([1, 2].map(|seed| unlearning("GA", "ga", 0.1, seed, None)));
    results.runs.push(unlearning("GA-FT", "ga-ft", 0.1, 1, None));
    results.runs.push(unlearning("GA-FT", "ga-ft", 0.1, 2, Some([30.0, 25.0, 25.0])));
    let study = Study::new(&results);
    let table = table1(&study).unwrap();
    let row = |label: &str| table.rows.iter().find(|row| row[0] == label).unwrap();
    assert_eq!(row("GA")[2..8], ["diverged", "diverged", "diverged", "–", "–", "–"]);
    assert_eq!(row("GA")[10], "0 of 2, 2 diverged");
    // The other seed's, and that there was one.
    assert_eq!(row("GA-FT")[2], "30.00 ± 1.00 / 0.600");
    assert_eq!(row("GA-FT")[10], "1 of 2, 1 diverged");
    let csv = lines(&table.csv);
    let line = csv.iter().find(|line| line["label"] == "GA").unwrap();
    assert_eq!((line["seeds_diverged"].as_str(), line["bta_psnr"].as_str()), ("2", ""));
    assert!(table2(&study).unwrap().rows.iter().any(|row| row[0] == "GA" && row[2] == "diverged"));
    // It is not the best of all for not having been measured.
    assert_eq!(study.nearest().unwrap().0.label, "NL-FT");
}

#[test]
fn an_unmeasured_run_is_not_a_diverged_one() {
    let mut results = two_seeds();
    results.runs[4].epochs.clear();
    results.runs[5].epochs.clear();
    let table = table1(&Study::new(&results)).unwrap();
    assert_eq!(table.rows[2][2], "–");
    assert_eq!(table.rows[2][10], "0 of 2");
}

#[test]
fn table_2_goes_epoch_by_epoch() {
    let results = study(2, false);
    let study = Study::new(&results);
    let rows = epoch_rows(&study);
    assert_eq!((rows[0].label.as_str(), rows[0].epoch), ("G", 50));
    let of = |label: &str| rows.iter().filter(|row| row.label == label).collect::<Vec<_>>();
    assert_eq!(of("NL-FT").iter().map(|row| row.epoch).collect::<Vec<_>>(), [51, 52, 53, 54, 55]);
    assert_eq!(of("oracle").len(), 0);
    // The last epoch is what Table 1 has.
    let last = compared_rows(&study).into_iter().find(|row| row.label == "NL-FT").unwrap();
    assert_eq!(of("NL-FT")[4].quality, last.quality);
    let by_hand = |seed: u64| {
        let run = results.runs.iter().find(|run| run.label == "NL-FT" && run.seed == seed).unwrap();
        let volumes = &run.epochs[1].measured.as_ref().unwrap().kta;
        volumes.iter().map(|v| v.scores.psnr).sum::<f64>() / 3.0
    };
    near(of("NL-FT")[1].quality.kta.unwrap().psnr.mean, (by_hand(1) + by_hand(2)) / 2.0);
    assert_eq!(of("GA").iter().map(|row| row.seeds.diverged).collect::<Vec<_>>(), [0, 0, 2, 2, 2]);
}

#[test]
fn table_3_has_a_cell_for_every_method_and_fraction() {
    let mut runs = two_seeds().runs;
    let at = |fraction, seed, bta| RunResult {
        compared: false,
        ..unlearning("NL-FT", "nl-ft", fraction, seed, Some([bta, 31.0, 31.0]))
    };
    runs.extend([at(0.5, 1, 38.5), at(0.5, 2, 38.7), at(0.01, 1, 25.0), at(0.01, 2, 25.0)]);
    let results = results(runs);
    let study = Study::new(&results);
    let rows = fraction_rows(&study);
    assert_eq!(rows.iter().map(|row| row.retain_fraction).collect::<Vec<_>>(), [0.01, 0.1, 0.5]);
    near(rows[2].quality.bta.unwrap().psnr.mean, 38.6);
    let table = table3(&study).unwrap().unwrap();
    assert_eq!(table.rows[0], ["1 %", "25.00 ± 0.00 / 31.00 ± 0.00"]);
    assert_eq!(table.rows[1], ["10 %", "38.20 ± 0.28 / 31.50 ± 0.00"]);
    // Those that are not compared are in no other table.
    assert_eq!(table1(&study).unwrap().rows.len(), 3);
    assert_eq!(epoch_rows(&study).len(), 2);
}

#[test]
fn without_a_sweep_there_is_no_table_3_and_no_figure_5() {
    let results = study(1, false);
    let report = Report::new(&results, Path::new("")).unwrap();
    assert!(table3(&report.study).unwrap().is_none());
    assert!(report.tables.iter().all(|table| table.name != "table3"));
    let names: Vec<&str> = report.figures.iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["fig3", "loss"]);
    assert_eq!(report.findings[4].verdict, Verdict::CannotBeJudged);
    report.page().unwrap();
}

/// Everything that a finding is judged by, of a study in which the paper's five are shown.
fn shown() -> Vec<RunResult> {
    let mut runs = Vec::new();
    for seed in [1, 2, 3] {
        let off = 0.05 * seed as f64;
        let off = |psnr: [f64; 3]| psnr.map(|p| p + off);
        runs.push(training(G, seed, off([39.0, 36.0, 37.0])));
        runs.push(training(ORACLE, seed, off([39.3, 31.0, 31.5])));
        for (label, method, psnr) in [
            ("FT", "ft", [39.1, 36.0, 37.0]),
            ("GA", "ga", [16.0, 14.0, 13.0]),
            ("NL", "nl", [16.0, 17.0, 17.0]),
            ("GA-FT", "ga-ft", [32.0, 27.0, 27.0]),
            ("NL-FT", "nl-ft", [38.0, 31.0, 31.5]),
        ] {
            runs.push(unlearning(label, method, 0.1, seed, Some(off(psnr))));
        }
        for (fraction, bta) in [(0.01, 26.0), (1.0, 37.5)] {
            let mut run = unlearning("NL-FT", "nl-ft", fraction, seed, Some(off([bta, 31.0, 31.0])));
            run.compared = false;
            runs.push(run);
        }
    }
    runs
}

fn judged(runs: Vec<RunResult>) -> Vec<Finding> {
    let results = results(runs);
    findings(&Study::new(&results))
}

/// The verdict on one finding after the mean PSNR of a label's runs at a fraction was set.
fn after_setting(finding: usize, label: &str, fraction: Option<f64>, psnr: [f64; 3]) -> Verdict {
    let mut runs = shown();
    for run in
        runs.iter_mut().filter(|run| run.label == label && (fraction.is_none() || run.fraction == fraction))
    {
        let off = 0.05 * run.seed as f64;
        run.epochs[0].measured = Some(study_support::measured(psnr.map(|p| p + off)));
    }
    judged(runs)[finding - 1].verdict
}

#[test]
fn the_papers_shape_is_shown() {
    for finding in judged(shown()) {
        assert_eq!(finding.verdict, Verdict::Shown, "{finding:#?}");
    }
    // And so it is with the paper's own numbers.
    let results = study(3, true);
    for finding in findings(&Study::new(&results)) {
        assert_eq!(finding.verdict, Verdict::Shown, "{finding:#?}");
    }
}

#[test]
fn finding_1_is_not_shown_where_both_organs_help_or_cost_much_or_the_oracle_knows_knees() {
    assert_eq!(after_setting(1, "oracle", None, [38.9, 31.0, 31.5]), Verdict::NotShown);
    assert_eq!(after_setting(1, "oracle", None, [40.5, 31.0, 31.5]), Verdict::NotShown);
    assert_eq!(after_setting(1, "oracle", None, [39.3, 34.0, 34.0]), Verdict::NotShown);
}

#[test]
fn finding_2_is_not_shown_where_fine_tuning_unlearns() {
    assert_eq!(after_setting(2, "FT", None, [39.1, 34.0, 34.0]), Verdict::NotShown);
    assert_eq!(after_setting(2, "FT", None, [39.1, 35.5, 34.0]), Verdict::Shown);
    // Nothing to unlearn: the oracle is as good on knees.
    assert_eq!(after_setting(2, "oracle", None, [39.3, 35.8, 36.0]), Verdict::CannotBeJudged);
}

#[test]
fn finding_3_is_not_shown_where_something_survives() {
    assert_eq!(after_setting(3, "NL", None, [38.0, 17.0, 17.0]), Verdict::NotShown);
    assert_eq!(after_setting(3, "GA", None, [16.0, 30.0, 13.0]), Verdict::NotShown);
    let mut runs = shown();
    runs.iter_mut().filter(|run| run.label == "GA").for_each(|run| run.epochs[0].measured = None);
    assert_eq!(judged(runs)[2].verdict, Verdict::Shown, "a network that diverged is wrecked");
}

#[test]
fn finding_4_is_not_shown_where_knees_stay_or_brains_go_or_ascent_is_better() {
    assert_eq!(after_setting(4, "NL-FT", Some(0.1), [38.0, 35.0, 35.0]), Verdict::NotShown);
    assert_eq!(after_setting(4, "GA-FT", None, [28.0, 27.0, 27.0]), Verdict::NotShown);
    assert_eq!(after_setting(4, "GA-FT", None, [38.5, 31.0, 31.0]), Verdict::NotShown);
    let mut runs = shown();
    runs.iter_mut().filter(|run| run.label == "GA-FT").for_each(|run| run.epochs[0].measured = None);
    assert_eq!(
        judged(runs)[3].verdict,
        Verdict::NotShown,
        "a network that diverged forgets nothing selectively"
    );
}

#[test]
fn finding_5_is_not_shown_where_more_helps_to_the_end_or_nothing_helps() {
    assert_eq!(after_setting(5, "NL-FT", Some(1.0), [39.0, 31.0, 31.0]), Verdict::NotShown);
    assert_eq!(after_setting(5, "NL-FT", Some(0.01), [37.9, 31.0, 31.0]), Verdict::NotShown);
    // It rises to the end, if by ever less: 1 dB up to the best of the smaller fractions, then 0.3 dB.
    let mut runs = shown();
    for run in runs.iter_mut().filter(|run| run.label == "NL-FT") {
        let bta = match run.fraction.unwrap() {
            0.01 => 37.0,
            0.1 => 38.0,
            _ => 38.3,
        };
        run.epochs[0].measured = Some(study_support::measured([bta + 0.05 * run.seed as f64, 31.0, 31.5]));
    }
    assert_eq!(judged(runs)[4].verdict, Verdict::NotShown);
}

#[test]
fn runs_of_different_builds_are_said_to_be() {
    let page = |commits: [&str; 2]| {
        let mut runs = shown();
        for (run, commit) in runs.iter_mut().zip(commits.iter().cycle()) {
            run.by = Some(Provenance {
                kerase: "0.1.0".into(),
                commit: Some((*commit).into()),
                device: "cpu".into(),
                machine: "a machine".into(),
                precision: "fp32".into(),
            });
        }
        let results = study_support::results(runs);
        Report::new(&results, Path::new("")).unwrap().page().unwrap()
    };
    let warning = "computed by different builds (kerase 0.1.0, commit 0123abc; kerase 0.1.0, commit 4567def)";
    assert!(page(["0123abc", "4567def"]).contains(warning));
    assert!(!page(["0123abc", "0123abc"]).contains("different builds"));
}

#[test]
fn what_varies_as_much_as_it_differs_is_not_shown() {
    let mut runs = shown();
    for run in runs.iter_mut().filter(|run| run.part == ORACLE) {
        // The mean is still 0.3 dB above G's.
        let bta = 39.3 + [0.6, 0.0, -0.6][run.seed as usize - 1];
        run.epochs[0].measured = Some(study_support::measured([bta, 31.0, 31.5]));
    }
    assert_eq!(judged(runs)[0].verdict, Verdict::NotShown);
}

#[test]
fn without_the_runs_that_it_takes_nothing_is_judged() {
    for finding in judged(Vec::new()) {
        assert_eq!(finding.verdict, Verdict::CannotBeJudged, "{finding:#?}");
    }
    let without = |labels: &[&str]| {
        judged(shown().into_iter().filter(|run| !labels.contains(&run.label.as_str())).collect())
    };
    assert!(without(&["oracle"])[..4].iter().all(|f| f.verdict == Verdict::CannotBeJudged));
    assert_eq!(without(&["NL"])[2].verdict, Verdict::CannotBeJudged);
    assert_eq!(without(&["GA-FT"])[3].verdict, Verdict::CannotBeJudged);
}

/// A whole report on disk, of a study with pictures; kept to be looked at.
fn written(name: &str, mut results: Results) -> (PathBuf, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    with_pictures(&mut results, &folder);
    std::fs::write(folder.join("results.json"), serde_json::to_string(&results).unwrap()).unwrap();
    let page = folder.join("report.html");
    // As a program would read them.
    let read = Results::read(&folder.join("results.json")).unwrap();
    Report::new(&read, &folder).unwrap().write(&page).unwrap();
    let html = std::fs::read_to_string(&page).unwrap();
    (folder, html)
}

/// Values of an attribute.
fn values<'h>(html: &'h str, attribute: &str) -> Vec<&'h str> {
    let start = format!(" {attribute}=\"");
    html.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn the_page_loads_nothing_and_everything_is_there() {
    let mut results = study(3, true);
    with_audits(&mut results);
    let (folder, html) = written("report-study", results);
    for file in [
        "tables/table1.md",
        "tables/table1.csv",
        "tables/table1.json",
        "tables/table2.md",
        "tables/table3.csv",
        "tables/findings.json",
        "figures/fig1.png",
        "figures/fig3.svg",
        "figures/fig3.png",
        "figures/fig5.svg",
        "figures/fig5.png",
        "figures/loss.svg",
        "figures/worst.png",
        "tables/evidence.csv",
        "tables/evidence.json",
        "figures/relearn.svg",
        "figures/distance.svg",
    ] {
        assert!(folder.join(file).metadata().is_ok_and(|file| file.len() > 100), "{file}");
    }
    let images = values(&html, "src");
    // Six slices of the target and nine networks, Fig. 1 and the worst slices.
    assert_eq!(images.len(), 6 * 10 + 2);
    assert!(images.iter().all(|src| src.starts_with("data:image/png;base64,")));
    let links = values(&html, "href");
    assert!(!links.is_empty() && links.iter().all(|href| html.contains(&format!("id=\"{}\"", &href[1..]))));
    for never in ["http://", "https://", "url(", "@import", "<link", "<iframe", "<object", "srcset"] {
        assert!(!html.contains(never), "{never}");
    }
    assert_eq!(html.matches("<svg class=\"plot\"").count(), 5);
    for said in
        ["no certificate", "empirical evidence", "diverged", "NL-FT", "0123abc", "Table 3", "[network]"]
    {
        assert!(html.contains(said), "{said}");
    }
    for figure in ["fig3", "fig5", "loss", "relearn", "distance"] {
        let svg = std::fs::read_to_string(folder.join(format!("figures/{figure}.svg"))).unwrap();
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{figure}.svg is no XML");
    }
}

#[test]
fn evidence_is_shown_where_there_are_audits_and_nowhere_else() {
    let mut results = study(2, false);
    let without = Report::new(&results, Path::new("")).unwrap();
    assert!(!without.page().unwrap().contains("Evidence of forgetting"));
    assert!(without.tables.iter().all(|table| table.name != "evidence"));
    with_audits(&mut results);
    let report = Report::new(&results, Path::new("")).unwrap();
    let table = report.tables.iter().find(|table| table.name == "evidence").unwrap();
    // Seven methods, two seeds each, seeds of a method side by side.
    assert_eq!(table.rows.len(), 14);
    assert_eq!([&table.rows[0][..2], &table.rows[1][..2]], [["FT", "1"], ["FT", "2"]]);
    let row = |label: &str| table.rows.iter().find(|row| row[0] == label).unwrap();
    assert_eq!(row("FT")[2], "0.72 (0.65 to 0.79)");
    assert_eq!(row("FT")[5..8], ["+0.19 (+0.08 to +0.30)", "0, 1", "24, 96"]);
    assert_eq!(row("GA-ℓ1")[6], "> 100, > 100");
    assert_eq!(row("FT")[9], "2");
    assert_eq!(row("GA")[3..7], ["–", "0.51 (0.42 to 0.60)", "–", "–"]);
    assert_eq!(row("NL-FT")[9], "–");
    let csv = lines(&table.csv);
    let line = csv.iter().find(|line| line["label"] == "FT").unwrap();
    let audit = &results.audits[0];
    assert_eq!(line["auc_unlearned"].parse::<f64>().unwrap(), audit.membership.after.unwrap().auc);
    assert_eq!(line["flags"], "nothing forgotten; still recognised");
    let html = report.page().unwrap();
    assert!(html.contains("id=\"evidence\"") && html.contains("id=\"figure-relearn\""), "{html}");
    // A flag counts once an audit, on however many sets it was raised.
    drop(report);
    let again = results.audits[0].flags[0].clone();
    results.audits[0].flags.push(again);
    let html = Report::new(&results, Path::new("")).unwrap().page().unwrap();
    assert!(html.contains("2 of 2") && !html.contains("3 of 2"), "{html}");
}

#[test]
fn odd_names_are_text_wherever_they_stand() {
    let odd = "<script>alert(1)</script> & \"NL\" | 'FT'";
    let mut results = study(1, true);
    results.title = odd.into();
    results.settings = format!("title = '''{odd}'''");
    for run in results.runs.iter_mut().filter(|run| run.label == "NL-FT") {
        run.label = odd.into();
        run.warnings = vec![odd.into()];
    }
    let (folder, html) = written("report-odd", results);
    assert_eq!(html.matches("<script>").count(), 1, "the page's own");
    assert!(!html.contains("alert(1)</script>"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp;"));
    let svg = std::fs::read_to_string(folder.join("figures/fig3.svg")).unwrap();
    assert!(roxmltree::Document::parse(&svg).is_ok());
    let csv = std::fs::read_to_string(folder.join("tables/table1.csv")).unwrap();
    assert!(lines(&csv).iter().any(|line| line["label"] == odd));
    let markdown = std::fs::read_to_string(folder.join("tables/table1.md")).unwrap();
    assert!(markdown.contains("\"NL\" \\| 'FT'"));
}

#[test]
fn tables_and_figures_call_sets_what_the_experiment_calls_them() {
    let mut results = study(1, true);
    results.kinds = Kinds { retain: "1.5 T".into(), forget: "patient 7".into() };
    let (folder, html) = written("report-kinds", results);
    let table = |name: &str| std::fs::read_to_string(folder.join(format!("tables/{name}.md"))).unwrap();
    assert!(table("table1").contains("1.5 T test (BTA), patient 7 test (KTA) and forget set (UA)"));
    assert!(table("table3").contains("1.5 T test / patient 7 test."));
    let figure = std::fs::read_to_string(folder.join("figures/fig5.svg")).unwrap();
    assert!(figure.contains("BTA: PSNR on 1.5 T test (dB)"));
    assert!(html.contains("(BTA: 1.5 T test)") && html.contains("(KTA: patient 7 test)"));
    // Letters that make up an image have no space before them.
    for of_the_paper in [" brain", " knee"] {
        assert!(!html.to_lowercase().contains(of_the_paper), "{of_the_paper}");
    }
}

#[test]
fn a_study_in_which_all_diverged_or_nothing_ran_has_a_page() {
    let mut diverged = study(2, true);
    for run in diverged.runs.iter_mut().filter(|run| run.part == Part::Unlearned) {
        run.epochs.iter_mut().for_each(|epoch| epoch.measured = None);
    }
    for results in [diverged, results(Vec::new()), results(vec![training(G, 1, [39.0, 36.0, 37.0])])] {
        let report = Report::new(&results, Path::new("")).unwrap();
        let html = report.page().unwrap();
        assert!(html.contains("No method could be measured"), "{html}");
    }
}

#[test]
fn the_nearest_is_nearest_over_all_three_sets() {
    let results = study(3, true);
    let study = Study::new(&results);
    let (nearest, distance) = study.nearest().unwrap();
    assert_eq!(nearest.label, "NL-FT");
    let sum: f64 = Measure::ALL.iter().map(|&measure| study.gap(nearest, measure).unwrap().mean).sum();
    near(distance, sum);
}

#[test]
fn what_does_nothing_is_nearest_to_nothing() {
    // G is nearer to the oracle than what forgets too much.
    let mut runs = vec![
        training(G, 1, [39.0, 33.0, 33.0]),
        training(ORACLE, 1, [39.4, 31.0, 32.0]),
        unlearning("SSD", "ssd", 0.1, 1, Some([39.0, 33.0, 33.0])),
        unlearning("NL-FT", "nl-ft", 0.1, 1, Some([38.0, 25.0, 26.0])),
    ];
    let with_idle = results(runs.clone());
    let study = Study::new(&with_idle);
    assert_eq!(study.nearest().unwrap().0.label, "NL-FT");
    let page = Report::new(&with_idle, Path::new("")).unwrap().page().unwrap();
    assert!(page.contains("Nothing was done to the network by SSD."), "{page}");
    // By a last digit it is something.
    runs[2] = unlearning("SSD", "ssd", 0.1, 1, Some([39.0, 33.0, 32.999]));
    assert_eq!(Study::new(&results(runs)).nearest().unwrap().0.label, "SSD");
}

#[test]
fn the_command_writes_the_page_and_says_what_is_wrong() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("empty")).unwrap();
    let ended = folder.kerase("report empty");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("empty holds no results.json"), "{}", ended.stderr);
    let ended = folder.kerase("report nowhere");
    assert!(ended.code == Some(2) && ended.stderr.contains("no directory nowhere"), "{}", ended.stderr);

    let run = folder.path("run");
    std::fs::create_dir(&run).unwrap();
    let mut results = study(1, false);
    with_pictures(&mut results, &run);
    std::fs::write(run.join("results.json"), serde_json::to_string(&results).unwrap()).unwrap();
    let ended = folder.kerase("report run");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("look at run/report.html"), "{}", ended.stdout);
    assert_eq!(folder.kerase("report run").code, Some(0), "again, over the one before");
    std::fs::create_dir(folder.path("there")).unwrap();
    assert_eq!(folder.kerase("report run --out there/page.html").code, Some(0));
    assert!(folder.path("there/page.html").exists() && folder.path("there/tables/table1.md").exists());
    let ended = folder.kerase("report run --out there/page.html");
    assert!(ended.code == Some(2) && ended.stderr.contains("--overwrite"), "{}", ended.stderr);

    std::fs::write(run.join("pictures/0-target.f32"), [0; 12]).unwrap();
    let ended = folder.kerase("report run");
    assert!(ended.code == Some(2) && ended.stderr.contains("0-target.f32"), "{}", ended.stderr);
    std::fs::write(run.join("results.json"), "{}").unwrap();
    let ended = folder.kerase("report run");
    assert!(ended.code == Some(2) && ended.stderr.contains("does not hold an experiment's results"));
}
