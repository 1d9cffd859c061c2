//! Slices as the networks of a study reconstruct them, kept for figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic;
use crate::backend::Backend;
use crate::batch::Sampler;
use crate::crop::center_crop;
use crate::data::digest::fingerprint;
use crate::data::set::VolumeSet;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::experiment::graph::Graph;
use crate::experiment::node::{Node, Task};
use crate::experiment::results::{Measure, Part, Picture};
use crate::experiment::settings::Settings;
use crate::model::Weights;
use crate::paths::absolute;
use crate::progress::Progress;
use crate::reconstruct::reconstruct_set;

/// Volumes of each set of which the middle slice is shown.
const VOLUMES: usize = 2;

/// A network that the first seed left.
struct Shown<'g> {
    label: &'g str,
    /// Where its weights are.
    run: &'g Node,
    /// Where it says on which slice it is worst.
    said_by: &'g Node,
}

/// Reconstructs the slices that are shown with every network of the first seed, unless their files are there. A network
/// whose images are not finite is left out of its pictures.
///
/// # Errors
/// Weights or volumes that cannot be read, a full disk.
pub fn pictures<B: Backend>(ops: &B, settings: &Settings, graph: &Graph, out: &Path) -> Result<Vec<Picture>> {
    let shown = shown(settings, graph)?;
    let mut pictures = Vec::new();
    let root = absolute(out);
    let folder = root.join("pictures");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let sampler = Sampler::fixed(&settings.sampling)?;
    for measure in Measure::ALL {
        let set = VolumeSet::open(set_of(graph, measure))?;
        let slices = chosen(&set, measure, &shown)?;
        let ids = slices.iter().map(|c| set.slice_named(&c.volume, c.slice)).collect::<Result<Vec<_>>>()?;
        let set = Arc::new(sampler.compressed(set.only(&ids))?);
        let mut of_set = blank(&set, measure, &folder)?;
        let mut progress = Progress::new((shown.len() * set.slice_count()) as u64, "drawing");
        let of_set_key = &fingerprint(&set)[..12];
        for Shown { label, run, .. } in &shown {
            let prefix = format!("{}-{of_set_key}-{}", run.key(), measure.name().to_lowercase());
            let paths: Vec<PathBuf> = of_set
                .iter()
                .map(|p| folder.join(format!("{prefix}-{}-{}.f32", p.volume, p.slice)))
                .collect();
            if !paths.iter().all(|path| path.exists()) && !draw(ops, run, &set, &sampler, &paths)? {
                continue;
            }
            for (picture, path) in of_set.iter_mut().zip(paths) {
                picture.images.push((label.to_string(), path));
                progress.step("");
            }
        }
        progress.finish();
        pictures.extend(slices.into_iter().filter_map(|Chosen { volume, slice, worst_of }| {
            let picture = of_set.iter().find(|p| p.volume == volume && p.slice == slice)?;
            Some(Picture { worst_of, ..picture.clone() })
        }));
    }
    let relative = |path: &mut PathBuf| {
        if let Ok(inside) = path.strip_prefix(&root) {
            *path = inside.to_path_buf();
        }
    };
    for picture in &mut pictures {
        relative(&mut picture.target);
        picture.images.iter_mut().for_each(|(_, path)| relative(path));
    }
    Ok(pictures)
}

/// Those that did not diverge: what such a run left last is not what the tables say of it.
fn shown<'g>(settings: &Settings, graph: &'g Graph) -> Result<Vec<Shown<'g>>> {
    let first = settings.seeds[0];
    let mut shown = Vec::new();
    for node in &graph.nodes {
        match &node.task {
            Task::Measure { part, seed, training } if *seed == first => {
                let label = if *part == Part::Oracle { "oracle" } else { "G" };
                shown.push(Shown { label, run: &graph.nodes[*training], said_by: node });
            }
            Task::Unlearn { config, rows }
                if config.optimisation.seed == first && !node.has_diverged()? =>
            {
                let compared = rows.iter().filter(|row| row.compared);
                shown.extend(compared.map(|row| Shown { label: &row.label, run: node, said_by: node }));
            }
            _ => {}
        }
    }
    Ok(shown)
}

fn set_of(graph: &Graph, measure: Measure) -> &Path {
    match measure {
        Measure::Bta => &graph.sets.retain_test,
        Measure::Kta => &graph.sets.forget_test,
        Measure::Ua => &graph.sets.forget,
    }
}

/// A slice that is shown.
struct Chosen {
    volume: String,
    slice: usize,
    /// The method that is worst on it, if that is why.
    worst_of: Option<String>,
}

/// The middle slices of the first volumes, and of BTA's volumes those on which each method is worst.
fn chosen(set: &VolumeSet, measure: Measure, shown: &[Shown<'_>]) -> Result<Vec<Chosen>> {
    let mut slices: Vec<Chosen> = Vec::new();
    for (volume, file) in set.volumes().iter().enumerate().take(VOLUMES) {
        let of_volume = set.slices_of(volume);
        slices.push(Chosen {
            volume: file.name.clone(),
            slice: of_volume[of_volume.len() / 2],
            worst_of: None,
        });
    }
    if measure == Measure::Bta {
        for network in shown.iter().filter(|network| matches!(network.run.task, Task::Unlearn { .. })) {
            let worst = network.said_by.done()?.worst;
            slices.extend(worst.map(|(volume, slice)| Chosen {
                volume,
                slice,
                worst_of: Some(network.label.to_string()),
            }));
        }
    }
    Ok(slices)
}

/// Pictures with their targets, and no images yet.
fn blank(set: &VolumeSet, measure: Measure, folder: &Path) -> Result<Vec<Picture>> {
    let pictures = set.slices().into_iter().map(|(volume, slice)| {
        let file = &set.volumes()[volume];
        let size = file.target.expect("sets that are measured have targets");
        let images = file.read_slice(slice)?.target.expect("as said");
        let target =
            folder.join(format!("target-{}-{}-{slice}.f32", measure.name().to_lowercase(), file.name));
        write(&target, &images)?;
        let largest = || f64::from(images.iter().copied().fold(0.0, f32::max));
        let max = file.max.unwrap_or_else(largest);
        let (volume, images) = (file.name.clone(), Vec::new());
        Ok(Picture { measure, volume, slice, worst_of: None, size, max, target, images })
    });
    pictures.collect()
}

/// False where the network's images are not finite.
fn draw<B: Backend>(
    ops: &B,
    run: &Node,
    set: &Arc<VolumeSet>,
    sampler: &Sampler,
    paths: &[PathBuf],
) -> Result<bool> {
    let weights = Weights::read(run.weights())?;
    let mut engine = Engine::new(ops, weights.architecture, &weights.parameters)?;
    let mut paths = paths.iter();
    let drawn = reconstruct_set(&mut engine, set, sampler, |slice| {
        let size = slice.file.target.expect("sets that are measured have targets");
        let path = paths.next().expect("one for every slice");
        write(path, &center_crop(&slice.image, slice.file.matrix, size))
    });
    match drawn {
        Err(Error::NotFinite(_)) => Ok(false),
        drawn => drawn.map(|()| true),
    }
}

fn write(path: &Path, image: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = image.iter().flat_map(|value| value.to_le_bytes()).collect();
    atomic::write_bytes(path, &bytes)
}
