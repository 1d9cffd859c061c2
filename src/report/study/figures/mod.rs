//! A study's figures: charts as SVG and PNG, images as PNG.

pub mod axis;
pub mod distance;
pub mod draw;
pub mod grid;
pub mod loss;
pub mod pictures;
pub mod plot;
pub mod radar;
pub mod relearn;
pub mod tradeoff;

use std::path::Path;

use crate::atomic;
use crate::error::Result;
use crate::experiment::results::Measure;
use crate::picture::panel::Panel;

use super::condition::Study;
use draw::Chart;
use pictures::Loaded;

/// Stems of the files of the audits' figures.
pub const RELEARN: &str = "relearn";
pub const DISTANCE: &str = "distance";

pub struct Figure {
    /// Stem of its files.
    pub name: &'static str,
    pub title: String,
    pub caption: String,
    /// None for images.
    pub svg: Option<String>,
    pub png: Vec<u8>,
}

/// All figures that the results have the data for.
///
/// # Errors
/// What cannot be drawn.
pub fn figures(study: &Study, pictures: &[Loaded]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let shown = study.nearest().map(|(nearest, _)| nearest.label);
    // Where none can be told to be the nearest, the first that there are images of.
    let labels = || shown.into_iter().chain(study.compared().map(|c| c.label));
    if let Some((label, rows)) = labels().find_map(|l| Some((l, pictures::figure1(study, pictures, l)?))) {
        let which = if shown == Some(label) { ", the method nearest to the oracle" } else { "" };
        let caption = format!(
            "Target, original and unlearned ({label}{which}), each with its error; a middle slice of each set. In a row \
             all images share one window and all errors one scale; magenta is not a number. PSNR and SSIM are the \
             slice's, in the range of its volume. {}",
            rows.names
        );
        figures.push(image(
            "fig1",
            "Fig. 1. The same slice before and after unlearning",
            caption,
            &rows.panel,
        )?);
    }
    if let Some(radar) = radar::Radar::new(study) {
        let title = "Fig. 3. Every method against the oracle";
        figures.push(chart("fig3", title, radar.normalisation(), &radar)?);
    }
    if let Some(tradeoff) = tradeoff::Tradeoff::new(study) {
        let optimum = tradeoff.optimum().map_or(String::new(), |optimum| format!(" Here it is {optimum}."));
        let caption = format!("{}{optimum}", tradeoff::READING);
        figures.push(chart("fig5", "Fig. 5. What is kept over unlearning time", caption, &tradeoff)?);
    }
    if let Some(curves) = loss::LossCurves::new(study) {
        figures.push(chart("loss", "Loss over steps", loss::READING.into(), &curves)?);
    }
    if let Some(rows) = pictures::worst(study, pictures) {
        let caption = format!(
            "A row a method: of all slices of the {} set the one on which its SSIM is lowest. Target, original \
             and unlearned, each with its error, as in Fig. 1. {}",
            Measure::Bta.set(&study.results.kinds),
            rows.names
        );
        figures.push(image("worst", "The worst retain slice of each method", caption, &rows.panel)?);
    }
    if let Some(curves) = relearn::RelearnCurves::new(study) {
        figures.push(chart(RELEARN, "Relearning the forget set", relearn::READING.into(), &curves)?);
    }
    if let Some(distances) = distance::Distances::new(study) {
        figures.push(chart(DISTANCE, "How far weights have moved", distance::READING.into(), &distances)?);
    }
    Ok(figures)
}

fn chart(name: &'static str, title: &str, caption: String, chart: &impl Chart) -> Result<Figure> {
    Ok(Figure { name, title: title.into(), caption, svg: Some(draw::svg(chart)?), png: draw::png(chart)? })
}

fn image(name: &'static str, title: &str, caption: String, panel: &Panel) -> Result<Figure> {
    Ok(Figure { name, title: title.into(), caption, svg: None, png: panel.draw()?.png()? })
}

impl Figure {
    /// Writes name.png, and name.svg of a chart.
    ///
    /// # Errors
    /// From the disk.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(self.name);
        if let Some(svg) = &self.svg {
            atomic::write_bytes(path.with_extension("svg"), svg.as_bytes())?;
        }
        atomic::write_bytes(path.with_extension("png"), &self.png)
    }
}
