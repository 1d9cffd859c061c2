//! Images of slices: Fig. 1, the worst retain slices, and what the page shows.

use std::path::Path;

use crate::error::{Error, Result};
use crate::experiment::results::{Kinds, Measure, Picture};
use crate::metrics::{Images, Scores, evaluate};
use crate::picture::comparison::{Candidate, comparison, percentile};
use crate::picture::encode;
use crate::picture::panel::{Panel, Tile};
use crate::report::study::condition::Study;

/// A picture with its images in memory.
#[derive(Clone, Debug)]
pub struct Loaded<'r> {
    pub picture: &'r Picture,
    /// "knee test".
    pub set: String,
    pub target: Vec<f32>,
    /// Label of a run, and what its network made.
    pub images: Vec<(&'r str, Vec<f32>)>,
}

impl<'r> Loaded<'r> {
    /// # Errors
    /// A file that is missing, or of another size than the picture.
    pub fn read(picture: &'r Picture, kinds: &Kinds, experiment: &Path) -> Result<Self> {
        let image = |path: &Path| read(&experiment.join(path), picture.size);
        let images = picture.images.iter().map(|(label, path)| Ok((label.as_str(), image(path)?)));
        let set = picture.measure.set(kinds);
        Ok(Self { picture, set, target: image(&picture.target)?, images: images.collect::<Result<_>>()? })
    }

    pub fn image(&self, label: &str) -> Option<&[f32]> {
        self.images.iter().find(|(of, _)| *of == label).map(|(_, image)| image.as_slice())
    }

    /// "knee test, file1000001.h5, slice 17".
    pub fn name(&self) -> String {
        format!("{}, {}, slice {}", self.set, self.picture.volume, self.picture.slice)
    }

    /// None where an image is not finite.
    pub fn scores(&self, image: &[f32]) -> Option<Scores> {
        let shape = [1, self.picture.size[0], self.picture.size[1]];
        let images = Images::new(&self.target, shape).and_then(|t| Ok((t, Images::new(image, shape)?)));
        let (target, image) = images.ok()?;
        let scores = evaluate(target, image, Some(self.picture.max)).ok()?.volume;
        (!scores.psnr.is_nan()).then_some(scores)
    }

    /// As grey PNG files: the target, then the images, all in the target's window.
    ///
    /// # Errors
    /// A picture without pixels.
    pub fn grey(&self) -> Result<Vec<(&'r str, Vec<u8>)>> {
        let max = percentile(&self.target, 0.998);
        let png = |image: &[f32]| {
            let pixels: Vec<u8> =
                image.iter().map(|v| (255.0 * (v / max).clamp(0.0, 1.0)).round() as u8).collect();
            let [height, width] = self.picture.size;
            encode::png(&pixels, [width, height], png::ColorType::Grayscale)
        };
        let all = std::iter::once(("target", &self.target)).chain(self.images.iter().map(|(l, i)| (*l, i)));
        all.map(|(label, image)| Ok((label, png(image)?))).collect()
    }

    /// Target, then G and a method, each with its error.
    fn tiles<'a>(&'a self, original: &'a str, label: &'a str) -> Option<Vec<Tile<'a>>> {
        let names = [original, label].map(|name| self.image(name).map(|image| (name, image)));
        let candidates: Vec<Candidate> = names
            .into_iter()
            .flatten()
            .map(|(name, image)| Candidate { name, image, scores: self.scores(image), with_error: true })
            .collect();
        (candidates.len() == 2).then(|| comparison(&self.target, self.picture.size, &candidates))
    }
}

fn read(path: &Path, [height, width]: [usize; 2]) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let (values, rest) = bytes.as_chunks::<4>();
    if values.len() != height * width || !rest.is_empty() || values.is_empty() {
        return Err(Error::input(format!(
            "{} should hold {height} × {width} numbers of four bytes and holds {} bytes",
            path.display(),
            bytes.len()
        )));
    }
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// Rows of a figure, and what they are of.
pub struct Rows<'p> {
    pub panel: Panel<'p>,
    /// A sentence.
    pub names: String,
}

impl<'p> Rows<'p> {
    /// Tiles, what stands beside them, and what they are of; none for no rows.
    fn new(rows: Vec<(Vec<Tile<'p>>, String, String)>) -> Option<Self> {
        let mut panel = Panel::default();
        let mut names = Vec::new();
        for (tiles, label, name) in rows {
            panel.rows.push(tiles);
            panel.row_labels.push(label);
            names.push(name);
        }
        (!names.is_empty()).then(|| Self { panel, names: format!("Rows: {}.", names.join("; ")) })
    }
}

/// Fig. 1 for a method: of each set the first picture that shows it.
pub fn figure1<'p>(study: &Study<'p>, pictures: &'p [Loaded], label: &'p str) -> Option<Rows<'p>> {
    let original = study.original()?.label;
    let row = |measure| {
        let of_set = |p: &&Loaded| p.picture.measure == measure && p.picture.worst_of.is_none();
        pictures
            .iter()
            .filter(of_set)
            .find_map(|p| Some((p.tiles(original, label)?, p.set.clone(), p.name())))
    };
    Rows::new([Measure::Bta, Measure::Kta, Measure::Ua].into_iter().filter_map(row).collect())
}

/// Of every method the retain slice on which it is worst.
pub fn worst<'p>(study: &Study<'p>, pictures: &'p [Loaded]) -> Option<Rows<'p>> {
    let original = study.original()?.label;
    let row = |loaded: &'p Loaded| {
        let label = loaded.picture.worst_of.as_deref()?;
        let tiles = loaded.tiles(original, label)?;
        let slice = format!("slice {}", loaded.picture.slice);
        Some((tiles, slice.clone(), format!("{label}: {}, {slice}", loaded.picture.volume)))
    };
    Rows::new(pictures.iter().filter_map(row).collect())
}
