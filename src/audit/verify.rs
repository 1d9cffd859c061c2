//! Whether a record, the data and the weights that it speaks of still belong together.
//!
//! A digest shows that something changed; it does not show who changed it. Whoever may write the record can make a new
//! one with a new digest: keep the digest elsewhere, or sign it, where that matters.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;

use crate::audit::distance::distances;
use crate::audit::evidence::{Audit, Each, WeightsFile};
use crate::audit::subject::Said;
use crate::data::digest::{SliceDigest, VolumeDigest, file_sha256, slice_sha256};
use crate::data::volume::VolumeFile;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::sha256;

/// What was compared, and what does not agree.
#[derive(Clone, Debug)]
pub struct Verification {
    pub sha256: String,
    pub files: usize,
    pub slices: usize,
    pub weights: usize,
    /// A line each.
    pub mismatches: Vec<String>,
}

/// Where recorded files lie now.
struct Places<'p> {
    /// Directory of the record: that of the run, wherever that was moved.
    beside: PathBuf,
    root: Option<&'p Path>,
}

impl Places<'_> {
    /// Under the root by as much of the path as is there; otherwise where it was.
    fn find(&self, path: &Path) -> PathBuf {
        let Some(root) = self.root else { return path.to_path_buf() };
        let parts: Vec<_> = path.components().collect();
        let suffix = |from: usize| root.join(parts[from..].iter().collect::<PathBuf>());
        // Not from 0: an absolute path would leave the root.
        let found = (1..parts.len()).map(suffix).find(|candidate| candidate.exists());
        found.unwrap_or_else(|| path.to_path_buf())
    }

    /// A file of the run.
    fn of_run(&self, path: &Path) -> PathBuf {
        let beside = path.file_name().map(|name| self.beside.join(name));
        beside.filter(|beside| beside.exists()).unwrap_or_else(|| self.find(path))
    }
}

/// Computes every digest of a record again. `root` is where files lie that were moved. `each` is called after every
/// volume.
///
/// # Errors
/// A record that cannot be read. What does not agree is no error, nor is a file that is not there.
pub fn verify(path: &Path, root: Option<&Path>, each: &(dyn Fn() + Sync)) -> Result<Verification> {
    let (audit, digest) = Audit::read_with_digest(path)?;
    let beside = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let places = Places { beside, root };
    let mut mismatches = Vec::new();
    if digest != audit.sha256 {
        mismatches.push(format!(
            "{}: the record was changed after it was made: its content has SHA-256 {digest}, it says {}",
            path.display(),
            audit.sha256
        ));
    }
    mismatches.extend(run_files(&audit, &places));
    mismatches.extend(conclusions(&audit, path)?);
    let files: Vec<&VolumeDigest> = audit.sets.iter().flat_map(|set| &set.files).collect();
    let volumes = files.par_iter().map(|volume| {
        let found = of_volume(volume, &places.find(&volume.path));
        each();
        found
    });
    mismatches.extend(volumes.collect::<Vec<_>>().into_iter().flatten());
    let weights = &audit.weights;
    let mut found = Each { before: None, after: None, oracle: None };
    for (name, file, of_run, place) in [
        ("weights before", &weights.before, false, &mut found.before),
        ("weights after", &weights.after, true, &mut found.after),
        ("weights of the oracle", &weights.oracle, false, &mut found.oracle),
    ] {
        let Some(WeightsFile { path, sha256, .. }) = file else { continue };
        let path = if of_run { places.of_run(path) } else { places.find(path) };
        match Weights::read(&path) {
            Err(error) => mismatches.push(format!("{name}: {error}")),
            Ok(found) => match differs(&sha256::of_parameters(&found.parameters), sha256) {
                Some(digests) => {
                    mismatches.push(format!("{name}: {} holds other weights: {digests}", path.display()));
                }
                None => *place = Some(found),
            },
        }
    }
    mismatches.extend(moved(&audit, &found, path)?);
    Ok(Verification {
        sha256: audit.sha256,
        files: files.len(),
        slices: files.iter().map(|volume| volume.slices.len()).sum(),
        weights: weights.named().count(),
        mismatches,
    })
}

/// Whether all that follows from what was measured is what this program says of it. Numbers may differ by rounding: other
/// machines round logarithms otherwise.
fn conclusions(audit: &Audit, path: &Path) -> Result<Vec<String>> {
    let (said, follows) = (audit.to_json()?, audit.clone().concluded().to_json()?);
    let mut places = Vec::new();
    differences("", &said, &follows, &mut places);
    let shown = path.display();
    let not_following = |place: String| {
        format!("{shown}: {place} does not follow from the losses and scores that the record lists")
    };
    Ok(places.into_iter().map(not_following).collect())
}

/// Whether distances of weights are those of the weights, where all that the record names are there.
fn moved(audit: &Audit, found: &Each<Weights>, path: &Path) -> Result<Vec<String>> {
    let Some(before) = &found.before else { return Ok(Vec::new()) };
    if found.named().count() < audit.weights.named().count() {
        return Ok(Vec::new());
    }
    let parameters = |of: &Option<Weights>| of.as_ref().map(|of| of.parameters.clone());
    let [after, oracle] = [&found.after, &found.oracle].map(parameters);
    let follows = distances(before.architecture, &before.parameters, after.as_deref(), oracle.as_deref());
    let json = |of: &Audit| of.to_json();
    let (said, follows) = (json(audit)?, json(&Audit { distances: follows, ..audit.clone() })?);
    let mut places = Vec::new();
    differences("", &said, &follows, &mut places);
    let shown = path.display();
    Ok(places.into_iter().map(|place| format!("{shown}: {place} does not follow from the weights")).collect())
}

/// Two numbers are the same if they differ by no more than this share,
const ROUNDING: f64 = 1e-9;
/// or, near zero, by this share of this: what is left of a difference of equal numbers.
const NOTHING: f64 = 1e-6;

/// Adds every place where two values differ.
fn differences(at: &str, one: &Value, other: &Value, places: &mut Vec<String>) {
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(NOTHING);
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            let pairs = one.iter().zip(other.values());
            pairs.for_each(|((key, one), other)| differences(&format!("{at}.{key}"), one, other, places));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.for_each(|(i, (one, other))| differences(&format!("{at}[{i}]"), one, other, places));
        }
        (Value::Number(one), Value::Number(other))
            if one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| near(one, other)) => {}
        _ if one == other => {}
        _ => places.push(at.trim_start_matches('.').to_string()),
    }
}

fn differs(found: &str, expected: &str) -> Option<String> {
    (found != expected).then(|| format!("SHA-256 is {found}, the record says {expected}"))
}

/// The run's own files, and whether its record names the same volumes.
fn run_files(audit: &Audit, places: &Places) -> Vec<String> {
    let mut mismatches = Vec::new();
    let run = &audit.run;
    let files =
        [("config.toml", Some(&run.config_sha256)), ("unlearning.json", run.unlearning_sha256.as_ref())];
    for (name, expected) in files.into_iter().filter_map(|(name, sha256)| Some((name, sha256?))) {
        let path = places.of_run(&run.directory.join(name));
        mismatches.extend(match file_sha256(&path) {
            Err(error) => Some(error.to_string()),
            Ok(found) => differs(&found, expected).map(|digests| format!("{}: {digests}", path.display())),
        });
        if name == "unlearning.json"
            && let Ok(said) = Said::read(&path)
            && said.forgotten != audit.forget().files
        {
            mismatches.push(format!("{}: it lists other volumes or slices than the audit", path.display()));
        }
    }
    mismatches
}

/// What does not agree in a volume of a set.
fn of_volume(volume: &VolumeDigest, path: &Path) -> Vec<String> {
    let shown = path.display();
    let found = match file_sha256(path) {
        Err(error) => return vec![error.to_string()],
        Ok(found) => found,
    };
    let file = differs(&found, &volume.sha256);
    let opened = match VolumeFile::open(path) {
        Err(error) => {
            return file
                .map(|digests| format!("{shown}: {digests}"))
                .into_iter()
                .chain([error.to_string()])
                .collect();
        }
        Ok(opened) => opened,
    };
    let of_slice = |SliceDigest { slice, sha256 }: &SliceDigest| match opened.read_slice(*slice) {
        Err(Error::Input(message)) if message.contains(&shown.to_string()) => Some(message),
        Err(error) => Some(format!("{shown} slice {slice}: {error}")),
        Ok(data) => {
            differs(&slice_sha256(&data), sha256).map(|digests| format!("{shown} slice {slice}: {digests}"))
        }
    };
    let slices: Vec<String> = volume.slices.iter().filter_map(of_slice).collect();
    let whole = file.map(|digests| {
        let still = match slices.is_empty() {
            true => " (its slices are the same numbers still)",
            false => "",
        };
        format!("{shown}: {digests}{still}")
    });
    whole.into_iter().chain(slices).collect()
}
