//! The paper's three tables.

use serde::Serialize;

use super::condition::{Condition, Quality, Seeds, Study, after, ssim};
use super::numbers;
use super::table::{Record, Shown, Table};
use crate::error::Result;
use crate::experiment::results::Measure;
use crate::metrics::Spread;
use crate::table::plus_minus;

/// One number for each set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sets<T> {
    pub bta: T,
    pub kta: T,
    pub ua: T,
}

impl<T: Copy> Sets<T> {
    fn of(number: impl Fn(Measure) -> T) -> Self {
        Self { bta: number(Measure::Bta), kta: number(Measure::Kta), ua: number(Measure::Ua) }
    }

    fn each(&self) -> [(Measure, T); 3] {
        [(Measure::Bta, self.bta), (Measure::Kta, self.kta), (Measure::Ua, self.ua)]
    }
}

/// How far from the oracle: |difference|, over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gap {
    pub psnr: Spread,
    pub ssim: Spread,
}

/// A line of Table 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedRow {
    pub label: String,
    pub title: String,
    pub method: Option<String>,
    pub retain_fraction: Option<f64>,
    pub seeds: Seeds,
    pub quality: Sets<Option<Quality>>,
    pub gap: Sets<Option<Gap>>,
    pub seconds: Option<Spread>,
    pub share_of_retraining: Option<Spread>,
    pub seconds_per_step: Option<Spread>,
}

/// A line of Table 2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochRow {
    pub label: String,
    pub title: String,
    pub retain_fraction: Option<f64>,
    pub epoch: u64,
    pub seeds: Seeds,
    pub quality: Sets<Option<Quality>>,
    /// Spent in the run's steps up to here.
    pub seconds: Option<Spread>,
}

/// A cell of Table 3.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FractionRow {
    pub retain_fraction: f64,
    pub label: String,
    pub title: String,
    pub seeds: Seeds,
    pub quality: Sets<Option<Quality>>,
    pub seconds: Option<Spread>,
}

pub fn compared_rows(study: &Study) -> Vec<ComparedRow> {
    let row = |condition: &Condition| ComparedRow {
        label: condition.label.into(),
        title: condition.title.into(),
        method: condition.method.map(String::from),
        retain_fraction: condition.fraction,
        seeds: condition.seeds(),
        quality: Sets::of(|measure| condition.quality(measure)),
        gap: Sets::of(|measure| {
            let gap = condition.with(study.oracle()?, |run, oracle| {
                Some((ssim(run, measure)? - ssim(oracle, measure)?).abs())
            });
            Some(Gap { psnr: study.gap(condition, measure)?, ssim: gap? })
        }),
        seconds: condition.seconds(),
        share_of_retraining: study.against_retraining(condition),
        seconds_per_step: condition.seconds_per_step(),
    };
    study.rows().map(row).collect()
}

/// # Errors
/// Numbers that JSON or CSV cannot take.
pub fn table1(study: &Study) -> Result<Table> {
    let rows = compared_rows(study);
    let mut header = vec!["method".to_string(), "retain data".into()];
    header.extend(Measure::ALL.map(|m| format!("{} PSNR / SSIM", m.name())));
    header.extend(Measure::ALL.map(|m| format!("|Δ| {}", m.name())));
    header.extend(["time / retraining", "time per step", "seeds"].map(String::from));
    let oracle = study.oracle().map(|oracle| oracle.label);
    let shown = rows.iter().map(|row| {
        let mut cells =
            vec![row.label.clone(), row.retain_fraction.map_or_else(|| "–".into(), numbers::percent)];
        cells.extend(row.quality.each().map(|(_, quality)| cell(quality, row.seeds)));
        cells.extend(row.gap.each().map(|(_, gap)| {
            // The oracle's distance to itself says nothing.
            let gap = gap.filter(|_| oracle != Some(row.label.as_str()));
            gap.map_or_else(
                || numbers::nothing(Seeds { diverged: 0, ..row.seeds }),
                |g| plus_minus(g.psnr, 2),
            )
        }));
        cells.push(row.share_of_retraining.map_or_else(|| "–".into(), numbers::percent_spread));
        cells.push(row.seconds_per_step.map_or_else(|| "–".into(), |s| numbers::duration(s.mean)));
        cells.push(numbers::seeds(row.seeds));
        cells
    });
    let caption = format!(
        "{} |Δ|: distance of the mean PSNR from the oracle's of the same seed, in dB{}. Time: what was spent in the \
         run's own steps, for the methods without the training of G, as a share of what the oracle's training took on \
         the same kind of machine{}. \"diverged\": the network's images were no longer finite; means are over the seeds that were measured.",
        quality_caption(study),
        over_seeds(study),
        over_seeds(study),
    );
    let shown = Shown { header, rows: shown.collect(), words: 1 };
    let sets =
        Measure::ALL.map(|measure| format!("{} ({})", measure.set(&study.results.kinds), measure.name()));
    let title = format!("Table 1. {}, {} and {}", capitalised(&sets[0]), sets[1], sets[2]);
    Table::new("table1", &title, caption, shown, &rows, |row| {
        let mut record = Record::default()
            .put("label", &row.label)
            .put("title", &row.title)
            .put_option("method", row.method.as_deref())
            .put_option("retain_fraction", row.retain_fraction);
        record = put_seeds(put_quality(record, &row.quality), row.seeds);
        for (measure, gap) in row.gap.each() {
            let name = measure.name().to_lowercase();
            record = record
                .put_spread(&format!("{name}_psnr_gap"), gap.map(|g| g.psnr))
                .put_spread(&format!("{name}_ssim_gap"), gap.map(|g| g.ssim));
        }
        record
            .put_spread("seconds", row.seconds)
            .put_spread("share_of_retraining", row.share_of_retraining)
            .put_spread("seconds_per_step", row.seconds_per_step)
    })
}

/// G at its last epoch, then every epoch of every compared method.
pub fn epoch_rows(study: &Study) -> Vec<EpochRow> {
    let mut rows = Vec::new();
    let original = study.original().map(|g| (g, true));
    for (condition, last_alone) in original.into_iter().chain(study.compared().map(|c| (c, false))) {
        let mut epochs: Vec<u64> =
            condition.runs.iter().flat_map(|run| run.epochs.iter().map(|e| e.epoch)).collect();
        epochs.sort_unstable();
        epochs.dedup();
        let from = if last_alone { epochs.len().saturating_sub(1) } else { 0 };
        rows.extend(epochs[from..].iter().map(|&epoch| {
            let reached = condition.runs.iter().filter_map(|run| Some(after(run, epoch)?.measured.is_some()));
            let reached: Vec<bool> = reached.collect();
            let measured = reached.iter().filter(|&&measured| measured).count();
            EpochRow {
                label: condition.label.into(),
                title: condition.title.into(),
                retain_fraction: condition.fraction,
                epoch,
                seeds: Seeds { all: condition.runs.len(), measured, diverged: reached.len() - measured },
                quality: Sets::of(|measure| condition.quality_after(epoch, measure)),
                seconds: condition.over_seeds(|run| Some(after(run, epoch)?.seconds)),
            }
        }));
    }
    rows
}

/// # Errors
/// As [`table1`].
pub fn table2(study: &Study) -> Result<Table> {
    let rows = epoch_rows(study);
    let mut header = vec!["method".to_string(), "epoch".into()];
    header.extend(Measure::ALL.map(|m| format!("{} PSNR / SSIM", m.name())));
    header.extend(["time", "seeds"].map(String::from));
    let mut last = None;
    let shown = rows.iter().map(|row| {
        let named = last.replace(&row.label) == Some(&row.label);
        let mut cells = vec![if named { String::new() } else { row.label.clone() }, row.epoch.to_string()];
        cells.extend(row.quality.each().map(|(_, quality)| cell(quality, row.seeds)));
        cells.push(row.seconds.map_or_else(|| "–".into(), |s| numbers::duration(s.mean)));
        cells.push(numbers::seeds(row.seeds));
        cells
    });
    let caption = format!(
        "Epochs go on from those of training; the first line is G. {} Time: mean of what was spent in the run's steps \
         up to there.",
        quality_caption(study)
    );
    let shown = Shown { header, rows: shown.collect(), words: 1 };
    Table::new("table2", "Table 2. Epoch by epoch", caption, shown, &rows, |row| {
        let record = Record::default()
            .put("label", &row.label)
            .put("title", &row.title)
            .put_option("retain_fraction", row.retain_fraction)
            .put("epoch", row.epoch);
        put_seeds(put_quality(record, &row.quality), row.seeds).put_spread("seconds", row.seconds)
    })
}

/// By fraction, then by method; empty where no method was run at several fractions.
pub fn fraction_rows(study: &Study) -> Vec<FractionRow> {
    let mut rows: Vec<FractionRow> = Vec::new();
    for sweep in study.sweeps() {
        rows.extend(sweep.conditions.iter().map(|condition| FractionRow {
            retain_fraction: condition.fraction.unwrap_or_default(),
            label: condition.label.into(),
            title: condition.title.into(),
            seeds: condition.seeds(),
            quality: Sets::of(|measure| condition.quality(measure)),
            seconds: condition.seconds(),
        }));
    }
    // Stable: methods stay in their order.
    rows.sort_by(|a, b| a.retain_fraction.total_cmp(&b.retain_fraction));
    rows
}

/// None where no method was run at several fractions.
///
/// # Errors
/// As [`table1`].
pub fn table3(study: &Study) -> Result<Option<Table>> {
    let rows = fraction_rows(study);
    if rows.is_empty() {
        return Ok(None);
    }
    let labels: Vec<&str> = study.sweeps().iter().map(|sweep| sweep.label).collect();
    let mut header = vec!["retain data".to_string()];
    header.extend(labels.iter().map(|label| format!("{label} BTA / KTA")));
    let mut shown: Vec<Vec<String>> = Vec::new();
    for of_fraction in rows.chunk_by(|a, b| a.retain_fraction == b.retain_fraction) {
        let mut cells = vec![numbers::percent(of_fraction[0].retain_fraction)];
        cells.extend(labels.iter().map(|&label| {
            let Some(row) = of_fraction.iter().find(|row| row.label == label) else { return "–".into() };
            match (row.quality.bta, row.quality.kta) {
                (Some(bta), Some(kta)) => {
                    let lost = row.seeds.all - row.seeds.measured;
                    let lost = if lost > 0 { format!(" ({lost} lost)") } else { String::new() };
                    format!("{} / {}{lost}", plus_minus(bta.psnr, 2), plus_minus(kta.psnr, 2))
                }
                _ => numbers::nothing(row.seeds),
            }
        }));
        shown.push(cells);
    }
    let caption = format!(
        "Mean PSNR in dB over volumes{}, {} / {}. \"(1 lost)\": so many seeds diverged or were not \
         measured, and are not in the mean.",
        over_seeds(study),
        Measure::Bta.set(&study.results.kinds),
        Measure::Kta.set(&study.results.kinds)
    );
    let shown = Shown { header, rows: shown, words: 1 };
    Table::new("table3", "Table 3. How much retain data", caption, shown, &rows, |row| {
        let record = Record::default()
            .put("retain_fraction", row.retain_fraction)
            .put("label", &row.label)
            .put("title", &row.title);
        put_seeds(put_quality(record, &row.quality), row.seeds).put_spread("seconds", row.seconds)
    })
    .map(Some)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn cell(quality: Option<Quality>, seeds: Seeds) -> String {
    quality.map_or_else(|| numbers::nothing(seeds), |quality| numbers::quality(&quality))
}

/// Whether deviations over seeds are shown.
fn several_seeds(study: &Study) -> bool {
    study.conditions().iter().any(|condition| condition.seeds().measured > 1)
}

fn over_seeds(study: &Study) -> &'static str {
    if several_seeds(study) { " (mean ± standard deviation over seeds)" } else { "" }
}

fn quality_caption(study: &Study) -> String {
    if several_seeds(study) {
        "PSNR in dB: mean ± standard deviation over volumes (root of the seeds' mean variance), and in brackets the \
         standard deviation between the means of the seeds; SSIM: mean."
            .into()
    } else {
        "PSNR in dB: mean ± standard deviation over volumes; SSIM: mean. One seed.".into()
    }
}

fn put_seeds(record: Record, seeds: Seeds) -> Record {
    record.put("seeds", seeds.all).put("seeds_measured", seeds.measured).put("seeds_diverged", seeds.diverged)
}

fn put_quality(mut record: Record, quality: &Sets<Option<Quality>>) -> Record {
    for (measure, quality) in quality.each() {
        let name = measure.name().to_lowercase();
        record = record
            .put_spread(&format!("{name}_psnr"), quality.map(|q| q.psnr))
            .put_option(format!("{name}_psnr_sd_over_volumes"), quality.and_then(|q| q.psnr_sd_over_volumes))
            .put_spread(&format!("{name}_ssim"), quality.map(|q| q.ssim))
            .put_option(format!("{name}_ssim_sd_over_volumes"), quality.and_then(|q| q.ssim_sd_over_volumes))
            .put_option(format!("{name}_volumes"), quality.map(|q| q.volumes));
    }
    record
}
