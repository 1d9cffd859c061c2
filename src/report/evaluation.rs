//! Scores of one or several models on one or several sets: summarised, as tables, CSV and JSON.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::evaluate::VolumeResult;
use crate::json;
use crate::metrics::{ScoreSummary, Scores};
use crate::table::{Style, csv, plus_minus, render};

/// One volume scored for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which data the volume belongs to: "brain test", "forget".
    pub set: String,
    pub model: String,
    pub volume: String,
    pub slices: usize,
    pub scores: Scores,
}

/// Mean ± deviation over a set's volumes for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryEntry {
    pub set: String,
    pub model: String,
    pub scores: ScoreSummary,
}

/// All volumes and their summary; as JSON, the content of a metrics file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    pub summary: Vec<SummaryEntry>,
    pub volumes: Vec<Entry>,
}

impl Entry {
    pub fn new(set: &str, model: &str, result: VolumeResult) -> Self {
        Self {
            set: set.into(),
            model: model.into(),
            volume: result.volume,
            slices: result.slices.len(),
            scores: result.scores.volume,
        }
    }
}

impl Evaluation {
    /// Summarises by set and model, both in the order in which they first occur.
    pub fn new(volumes: Vec<Entry>) -> Self {
        let sets = distinct(volumes.iter().map(|e| e.set.as_str()));
        let models = distinct(volumes.iter().map(|e| e.model.as_str()));
        let mut summary = Vec::new();
        for &model in &models {
            for &set in &sets {
                let of_both = volumes.iter().filter(|e| e.set == set && e.model == model);
                let scores: Vec<Scores> = of_both.map(|e| e.scores).collect();
                if let Some(scores) = ScoreSummary::of(&scores) {
                    summary.push(SummaryEntry { set: set.into(), model: model.into(), scores });
                }
            }
        }
        Self { summary, volumes }
    }

    /// Models down, sets across, each with PSNR, SSIM and NMSE. A dash where a model was not scored on a set.
    pub fn summary_table(&self, style: Style) -> String {
        let sets = distinct(self.summary.iter().map(|e| e.set.as_str()));
        let models = distinct(self.summary.iter().map(|e| e.model.as_str()));
        let mut header = vec!["model".to_string()];
        for set in &sets {
            // A lone set goes without saying.
            let set = if sets.len() > 1 { format!("{set} ") } else { String::new() };
            header.extend([format!("{set}PSNR (dB)"), format!("{set}SSIM"), format!("{set}NMSE")]);
        }
        let rows = models.iter().map(|&model| {
            let mut row = vec![model.to_string()];
            for &set in &sets {
                match self.summary.iter().find(|e| e.set == set && e.model == model) {
                    Some(SummaryEntry { scores, .. }) => row.extend([
                        plus_minus(scores.psnr, 2),
                        plus_minus(scores.ssim, 4),
                        plus_minus(scores.nmse, 4),
                    ]),
                    None => row.extend(["–", "–", "–"].map(String::from)),
                }
            }
            row
        });
        render(style, header, rows, 1)
    }

    /// One row a volume.
    pub fn volume_table(&self, style: Style) -> String {
        let header = ["set", "model", "volume", "slices", "PSNR (dB)", "SSIM", "NMSE"].map(String::from);
        let rows = self.volumes.iter().map(|e| {
            let Scores { psnr, ssim, nmse } = e.scores;
            vec![
                e.set.clone(),
                e.model.clone(),
                e.volume.clone(),
                e.slices.to_string(),
                format!("{psnr:.2}"),
                format!("{ssim:.4}"),
                format!("{nmse:.4}"),
            ]
        });
        render(style, header.to_vec(), rows, 3)
    }

    /// One line a volume, with every digit: set, model, volume, slices, psnr, ssim, nmse.
    pub fn volume_csv(&self) -> Result<String> {
        let header = ["set", "model", "volume", "slices", "psnr", "ssim", "nmse"];
        csv(
            &header,
            self.volumes.iter().map(|e| {
                let Scores { psnr, ssim, nmse } = e.scores;
                let mut record = vec![e.set.clone(), e.model.clone(), e.volume.clone(), e.slices.to_string()];
                record.extend([psnr, ssim, nmse].map(|v| v.to_string()));
                record
            }),
        )
    }

    pub fn json(&self) -> Result<String> {
        json::text(self).map(|text| text + "\n")
    }

    /// Reads what `json` wrote.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::input(format!("{} is not a file of evaluation results: {e}", path.display())))
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
