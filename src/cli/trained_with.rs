//! Whether a network is shown what it was trained on: the settings that its run left beside its weights say so.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::batch::Sampling;
use crate::data::set::VolumeSet;
use crate::progress::warn;
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
            warn(&format!(
                "{} does not say what the network beside it was trained with: {}",
                path.display(),
                why.message()
            ));
            None
        }
    }
}

/// Whether masks are drawn for any volume: those with a mask of their own keep it.
pub fn draws_masks<'s>(sets: impl IntoIterator<Item = &'s VolumeSet>) -> bool {
    sets.into_iter().flat_map(VolumeSet::volumes).any(|volume| volume.mask.is_none())
}

/// Warns where the config.toml beside weights has another sampling than the one they are used with. It may be meant: a
/// network can be measured at any acceleration. `masked`: as [`draws_masks`] says.
pub fn warn_of_other_sampling(model: &Path, used: &Sampling, masked: bool) {
    let Some((path, Config { sampling: trained, .. })) = beside(model) else { return };
    if let Some(text) = difference(&trained, used, masked) {
        warn(&format!("{}: {text}", path.display()));
    }
}

/// The same of the loss that a network goes on with, and of the clip, where the method takes steps: methods of unlearning
/// speak of the loss that it was trained with.
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

/// What is different, if anything is, and the options that make it the same.
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
        let mut words = Vec::new();
        if mask {
            words.push(format!(
                "{} masks of acceleration {} with center fraction {}",
                of.mask.name(),
                list(&of.accelerations),
                list(&of.center_fractions)
            ));
        }
        if coils {
            words.push(of.virtual_coils.map_or("all coils".into(), |count| format!("{count} virtual coils")));
        }
        words.join(" and ")
    };
    let mut options = Vec::new();
    if mask {
        options.push(format!(
            "--mask {} --acceleration {} --center-fraction {}",
            trained.mask.name(),
            list(&trained.accelerations),
            list(&trained.center_fractions)
        ));
    }
    if coils {
        options.push(match trained.virtual_coils {
            Some(count) => format!("--virtual-coils {count}"),
            None => "(without --virtual-coils)".into(),
        });
    }
    let remedy = match mask || trained.virtual_coils.is_some() {
        true => format!("give  {}", options.join(" ")),
        false => "leave out --virtual-coils".into(),
    };
    Some(format!(
        "the network was trained with {}, and is used with {}: for what it was trained with, {remedy}",
        words(trained),
        words(used),
    ))
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::MaskSeeding;
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
    fn another_sampling_is_named_with_the_options_that_end_it() {
        let four = sampling(&[4], &[0.08], None);
        let eight = sampling(&[8], &[0.04], None);
        let text = difference(&four, &eight, true).unwrap();
        for part in [
            "trained with equispaced masks of acceleration 4 with center fraction 0.08,",
            "used with equispaced masks of acceleration 8 with center fraction 0.04:",
            "give  --mask equispaced --acceleration 4 --center-fraction 0.08",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let random = Sampling { mask: MaskKind::Random, ..four.clone() };
        assert!(
            difference(&random, &four, true)
                .unwrap()
                .ends_with("--mask random --acceleration 4 --center-fraction 0.08")
        );

        let fewer = sampling(&[8], &[0.04], Some(6));
        let text = difference(&fewer, &eight, true).unwrap();
        assert!(text.contains("trained with 6 virtual coils, and is used with all coils"), "{text}");
        assert!(text.ends_with("give  --virtual-coils 6"), "{text}");
        assert!(difference(&eight, &fewer, true).unwrap().ends_with("with, leave out --virtual-coils"));
        assert!(
            difference(&four, &fewer, true)
                .unwrap()
                .ends_with("--center-fraction 0.08 (without --virtual-coils)")
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
