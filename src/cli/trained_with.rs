//! What a network was trained with, by the settings that its run left beside its weights: that is what it is used with where
//! options say nothing else.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::batch::{MaskSeeding, Sampling};
use crate::cli::args::SamplingArgs;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::progress::{say, warn, warn_once};
use crate::run::optimisation::{Loss, Optimisation};

/// The part of a run's config.toml that is looked at here; those of `train` and of `unlearn` share it.
#[derive(Deserialize)]
struct Config {
    sampling: Sampling,
    optimisation: Minimised,
}

/// What steps minimise, and how large they may be.
#[derive(Clone, Copy, Deserialize)]
struct Minimised {
    loss: Loss,
    clip: Option<f64>,
}

impl Minimised {
    /// As options: the clip is one where there are steps.
    fn options(self, steps: bool) -> String {
        let loss = self.loss.to_possible_value().expect("none is hidden");
        let clip =
            if steps { format!(" --clip {}", self.clip.unwrap_or(f64::INFINITY)) } else { String::new() };
        format!("--loss {}{clip}", loss.get_name())
    }
}

/// The settings beside weights; none where there are none. What cannot be read is warned of: then nothing is compared.
fn beside(model: &Path) -> Option<(PathBuf, Config)> {
    let path = model.with_file_name("config.toml");
    let text = std::fs::read_to_string(&path).ok()?;
    match toml::from_str(&text) {
        Ok(config) => Some((path, config)),
        Err(why) => {
            warn_once(&format!(
                "{} does not say what the network beside it was trained with: {}",
                path.display(),
                why.message()
            ));
            None
        }
    }
}

/// Whether masks are drawn for any volume: those with a mask of their own keep it.
fn draws_masks<'s>(sets: impl IntoIterator<Item = &'s VolumeSet>) -> bool {
    sets.into_iter().flat_map(VolumeSet::volumes).any(|volume| volume.mask.is_none())
}

/// The sampling that a network goes on with where `options` say nothing else: that of its training, as far as that is known,
/// or else the paper's.
///
/// # Errors
/// As [`SamplingArgs::over`].
pub fn sampling_to_go_on_with(model: &Path, options: &SamplingArgs) -> Result<Sampling> {
    let known = beside(model).map(|(path, config)| (path, config.sampling));
    let sampling = options.over(known.as_ref().map_or_else(Sampling::default, |(_, known)| known.clone()))?;
    if let Some((path, trained)) = known {
        tell(&path, &trained, &sampling, true);
    }
    Ok(sampling)
}

/// The same for networks that are measured on sets, with the masks of file names unless `options` ask for others.
///
/// # Errors
/// As [`SamplingArgs::over`]; where networks were trained with different ones, and `options` do not say which is meant.
pub fn sampling_to_measure_with<'m, 's>(
    models: impl IntoIterator<Item = &'m Path>,
    sets: impl IntoIterator<Item = &'s VolumeSet>,
    options: &SamplingArgs,
) -> Result<Sampling> {
    let known: Vec<(PathBuf, Sampling)> =
        models.into_iter().filter_map(beside).map(|(path, config)| (path, config.sampling)).collect();
    let over = |base: &Sampling| options.over(Sampling { mask_seed: MaskSeeding::Filename, ..base.clone() });
    let Some((first, trained)) = known.first() else { return over(&Sampling::default()) };
    let sampling = over(trained)?;
    for (path, other) in &known[1..] {
        if over(other)? != sampling {
            return Err(Error::input(format!(
                "the networks were trained with different masks or coils: {}, by {}; {}, by {}. Say which all of them are to \
                 be used with, such as  {}",
                words(trained),
                first.display(),
                words(other),
                path.display(),
                as_options(trained)
            )));
        }
    }
    let masked = draws_masks(sets);
    known.iter().for_each(|(path, trained)| tell(path, trained, &sampling, masked));
    Ok(sampling)
}

/// Says that a network is used with what it was trained with, or warns that it is not: it may be meant, as a network can be
/// measured at any acceleration. `masked`: whether masks are drawn.
fn tell(path: &Path, trained: &Sampling, used: &Sampling, masked: bool) {
    match difference(trained, used, masked) {
        Some(text) => warn(&format!("{}: {text}", path.display())),
        None if *trained == Sampling::default() => {}
        None => say(&format!("as in training ({}): {}", path.display(), words(used))),
    }
}

/// "equispaced masks of acceleration 4 with center fraction 0.08, 8 virtual coils".
fn words(sampling: &Sampling) -> String {
    let masks = format!(
        "{} masks of acceleration {} with center fraction {}",
        sampling.mask.name(),
        list(&sampling.accelerations),
        list(&sampling.center_fractions)
    );
    masks + &sampling.virtual_coils.map_or(String::new(), |count| format!(", {count} virtual coils"))
}

fn as_options(sampling: &Sampling) -> String {
    let masks = format!(
        "--mask {} --acceleration {} --center-fraction {}",
        sampling.mask.name(),
        list(&sampling.accelerations),
        list(&sampling.center_fractions)
    );
    masks
        + &format!(
            " --virtual-coils {}",
            sampling.virtual_coils.map_or("all".into(), |count| count.to_string())
        )
}

/// The loss and the clip that a network was trained with, as far as that is known, in place of `papers`.
pub fn optimisation_to_go_on_with(model: &Path, papers: Optimisation) -> Optimisation {
    match beside(model) {
        Some((_, Config { optimisation: Minimised { loss, clip }, .. })) => {
            Optimisation { loss, clip, ..papers }
        }
        None => papers,
    }
}

/// Warns where a network goes on with another loss than it was trained with, or another clip, where the method takes steps:
/// methods of unlearning speak of the loss that it was trained with.
pub fn warn_of_another_loss(model: &Path, used: &Optimisation, steps: bool) {
    let Some((path, Config { optimisation: trained, .. })) = beside(model) else { return };
    let used = Minimised { loss: used.loss, clip: used.clip };
    let [trained, used] = [trained, used].map(|of| of.options(steps));
    if trained != used {
        warn(&format!(
            "{}: the network was trained with {trained}, and goes on with {used}: for what it was trained with, give  {trained}",
            path.display(),
        ));
    }
}

/// What is different, if anything is.
fn difference(trained: &Sampling, used: &Sampling, masked: bool) -> Option<String> {
    let pairs = |of: &Sampling| -> Vec<(u32, f64)> {
        of.accelerations.iter().copied().zip(of.center_fractions.iter().copied()).collect()
    };
    let known = pairs(trained);
    // One of several accelerations that it was trained at is nothing new to a network.
    let mask = masked && (trained.mask != used.mask || pairs(used).iter().any(|pair| !known.contains(pair)));
    let coils = trained.virtual_coils != used.virtual_coils;
    if !mask && !coils {
        return None;
    }
    let words = |of: &Sampling| {
        let coils_of =
            |of: &Sampling| of.virtual_coils.map_or("all coils".into(), |n| format!("{n} virtual coils"));
        match (mask, coils) {
            (true, false) => words(&Sampling { virtual_coils: None, ..of.clone() }),
            (true, true) => {
                format!("{} and {}", words(&Sampling { virtual_coils: None, ..of.clone() }), coils_of(of))
            }
            (false, _) => coils_of(of),
        }
    };
    Some(format!("the network was trained with {}, and is used with {}", words(trained), words(used)))
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::mask::MaskKind;

    fn sampling(accelerations: &[u32], center_fractions: &[f64], virtual_coils: Option<usize>) -> Sampling {
        Sampling {
            mask: MaskKind::Equispaced,
            accelerations: accelerations.to_vec(),
            center_fractions: center_fractions.to_vec(),
            mask_seed: MaskSeeding::Random,
            virtual_coils,
        }
    }

    #[test]
    fn another_sampling_is_named() {
        let four = sampling(&[4], &[0.08], None);
        let eight = sampling(&[8], &[0.04], None);
        assert_eq!(
            difference(&four, &eight, true).unwrap(),
            "the network was trained with equispaced masks of acceleration 4 with center fraction 0.08, and is used with \
             equispaced masks of acceleration 8 with center fraction 0.04"
        );
        let random = Sampling { mask: MaskKind::Random, ..four.clone() };
        assert!(
            difference(&random, &four, true).unwrap().contains("trained with random masks of acceleration 4")
        );
        let fewer = sampling(&[8], &[0.04], Some(6));
        assert_eq!(
            difference(&fewer, &eight, true).unwrap(),
            "the network was trained with 6 virtual coils, and is used with all coils"
        );
        let text = difference(&four, &fewer, true).unwrap();
        assert!(
            text.contains("0.08 and all coils, and is used with")
                && text.ends_with("0.04 and 6 virtual coils"),
            "{text}"
        );
    }

    #[test]
    fn what_a_network_knows_is_no_reason_to_warn() {
        let four = sampling(&[4], &[0.08], None);
        let both = sampling(&[4, 8], &[0.08, 0.04], None);
        let filename = Sampling { mask_seed: MaskSeeding::Filename, ..four.clone() };
        assert_eq!(difference(&four, &filename, true), None);
        assert_eq!(difference(&both, &four, true), None);
        assert!(difference(&four, &both, true).is_some());
        assert_eq!(difference(&four, &both, false), None, "no mask is drawn");
    }
}
