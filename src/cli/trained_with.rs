//! What a network was trained with, by the settings that its run left beside its weights: that is what it is used with where
//! options say nothing else.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;

use crate::batch::{MaskSeeding, Sampling};
use crate::cli::args::SamplingArgs;
use crate::data::mask::MaskKind;
use crate::data::set::VolumeSet;
use crate::error::{Error, Result};
use crate::progress::{say, warn, warn_once};
use crate::run::optimisation::{Loss, Optimisation};
use crate::run::plateau::PlateauSettings;

/// The part of a run's config.toml that is looked at here; those of `train` and of `unlearn` share it.
#[derive(Deserialize)]
struct Config {
    sampling: Sampling,
    optimisation: Steps,
    /// Where it is an unlearning.
    method: Option<String>,
}

/// What steps minimise, how large they are, how their size follows the loss, and how many there are.
#[derive(Clone, Copy, Deserialize)]
struct Steps {
    loss: Loss,
    clip: Option<f64>,
    plateau: PlateauSettings,
    lr: f64,
    batch: usize,
    epochs: Option<u64>,
    max_steps: Option<u64>,
}

/// What a network was trained with.
pub struct Trained {
    /// The file that says so.
    path: PathBuf,
    sampling: Sampling,
    steps: Steps,
    /// Whether `steps` are those of an unlearning, which came after a training.
    unlearned: bool,
}

impl Trained {
    /// By the config.toml beside weights; none where there is none, or somebody else's, which is warned of.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn beside(model: &Path) -> Result<Option<Self>> {
        let path = model.with_file_name("config.toml");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Error::io("read", &path, error))?,
        };
        let config = String::from_utf8(text).map_err(|_| "it is no text".to_string());
        match config.and_then(|text| toml::from_str(&text).map_err(|why| why.message().to_string())) {
            Ok(Config { sampling, optimisation: steps, method }) => {
                Ok(Some(Self { path, sampling, steps, unlearned: method.is_some() }))
            }
            Err(why) => {
                warn_once(&format!(
                    "{} does not say what the network beside it was trained with, so what no option says is as in the paper: \
                     {why}",
                    path.display()
                ));
                Ok(None)
            }
        }
    }

    /// Says that the network is used with the sampling that it was trained with, or warns that it is not. It may be meant: a
    /// network can be measured at any acceleration. `masked`: whether masks are drawn.
    pub fn tell_of_sampling(&self, used: &Sampling, masked: bool) {
        let (path, trained) = (self.path.display(), &self.sampling);
        if !same(trained, used, masked) {
            warn(&format!(
                "{path}: the network was trained with {}, and is used with {}: for what it was trained with, leave out the \
                 options",
                words(trained, masked),
                words(used, masked)
            ));
        } else if *trained != Sampling::default()
            && (masked && masks(trained) == masks(used) || !masked && trained.virtual_coils.is_some())
        {
            say(&format!("as in training ({path}): {}", words(used, masked)));
        }
    }

    /// Warns where the network goes on with another loss than it was trained with, or another clip, where the method takes
    /// steps: methods of unlearning speak of the loss that it was trained with.
    pub fn warn_of_another_loss(&self, used: &Optimisation, steps: bool) {
        let trained = loss_as_options(self.steps.loss, self.steps.clip, steps);
        let used = loss_as_options(used.loss, used.clip, steps);
        if trained != used {
            warn(&format!(
                "{}: the network was trained with {trained}, and goes on with {used}: for what it was trained with, leave out \
                 the options",
                self.path.display(),
            ));
        }
    }
}

/// Sampling and optimisation of a network that learns further, where options say nothing of them: as `stored` by the run that
/// goes on, or else what the network was trained with, and the paper's where that is not known.
///
/// Of a network that was unlearned since only loss and clip are: how long it was trained, and at which rate, is not known.
///
/// # Errors
/// As [`Trained::beside`].
pub fn to_go_on_with(
    model: &Path,
    stored: Option<(&Sampling, &Optimisation)>,
) -> Result<(Sampling, Optimisation)> {
    if let Some((sampling, optimisation)) = stored {
        return Ok((sampling.clone(), optimisation.clone()));
    }
    let papers = Optimisation::default();
    let Some(Trained { sampling, steps, unlearned, .. }) = Trained::beside(model)? else {
        return Ok((Sampling::default(), papers));
    };
    let Steps { loss, clip, plateau, lr, batch, epochs, max_steps } = steps;
    let of_training = match unlearned {
        true => papers,
        false => Optimisation { plateau, lr, batch, epochs, max_steps, ..papers },
    };
    Ok((sampling, Optimisation { loss, clip, ..of_training }))
}

/// The sampling that networks are measured with on sets: what `options` say; where they say nothing, what the networks were
/// trained with, as far as that is known, or else what the paper has. Masks are those of file names, unless `options` ask for
/// others.
///
/// # Errors
/// As [`Trained::beside`] and [`SamplingArgs::over`]; where networks were trained with different ones, and `options` do not
/// say which is meant.
pub fn sampling_to_measure_with<'m, 's>(
    models: impl IntoIterator<Item = &'m Path>,
    sets: impl IntoIterator<Item = &'s VolumeSet>,
    options: &SamplingArgs,
) -> Result<Sampling> {
    let masked = draws_masks(sets);
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for model in models {
        match Trained::beside(model)? {
            Some(trained) => known.push(trained),
            None => unknown.push(model),
        }
    }
    let over = |base: &Sampling| options.over(Sampling { mask_seed: MaskSeeding::Filename, ..base.clone() });
    let Some(first) = known.first() else {
        let sampling = over(&Sampling::default())?;
        if masked && !options.any() {
            unknown.iter().for_each(|model| tell_of_unknown(model, &sampling));
        }
        return Ok(sampling);
    };
    let sampling = over(&first.sampling)?;
    let differs =
        |other: &&Trained| over(&other.sampling).map_or(true, |other| !same(&other, &sampling, masked));
    if let Some(other) = known[1..].iter().find(differs) {
        return Err(Error::input(format!(
            "the networks were trained with different masks or coils: {}, by {}; {}, by {}. Say which all of them are to be \
             used with, such as  {}",
            words(&first.sampling, masked),
            first.path.display(),
            words(&other.sampling, masked),
            other.path.display(),
            as_options(&first.sampling)
        )));
    }
    known.iter().for_each(|trained| trained.tell_of_sampling(&sampling, masked));
    for model in unknown {
        say(&format!(
            "nothing says what {} was trained with: it is used with {}, as the others",
            model.display(),
            words(&sampling, masked)
        ));
    }
    Ok(sampling)
}

/// Says that a network is used as the paper's was, as nothing says what it was trained with.
pub fn tell_of_unknown(model: &Path, used: &Sampling) {
    say(&format!(
        "nothing says what {} was trained with: it is used with the paper's {}; --mask, --acceleration and \
         --center-fraction choose others",
        model.display(),
        words(used, true)
    ));
}

/// Whether masks are drawn for any volume: those with a mask of their own keep it.
fn draws_masks<'s>(sets: impl IntoIterator<Item = &'s VolumeSet>) -> bool {
    sets.into_iter().flat_map(VolumeSet::volumes).any(|volume| volume.mask.is_none())
}

/// Whether a network that was trained with one has seen what the other makes. One of several accelerations that it was
/// trained at is nothing new to it.
fn same(trained: &Sampling, used: &Sampling, masked: bool) -> bool {
    let (kind, known) = masks(trained);
    let (of, pairs) = masks(used);
    let masks_known = kind == of && pairs.iter().all(|pair| known.contains(pair));
    trained.virtual_coils == used.virtual_coils && (!masked || masks_known)
}

/// The kind of masks, and each acceleration with its center fraction.
fn masks(sampling: &Sampling) -> (MaskKind, Vec<(u32, f64)>) {
    let Sampling { mask, accelerations, center_fractions, .. } = sampling;
    (*mask, accelerations.iter().copied().zip(center_fractions.iter().copied()).collect())
}

/// The clip is an option where there are steps.
fn loss_as_options(loss: Loss, clip: Option<f64>, steps: bool) -> String {
    let loss = loss.to_possible_value().expect("none is hidden");
    let clip = if steps { format!(" --clip {}", clip.unwrap_or(f64::INFINITY)) } else { String::new() };
    format!("--loss {}{clip}", loss.get_name())
}

/// "equispaced masks of acceleration 4 with center fraction 0.08 and 8 virtual coils"; of masks only where they are drawn.
fn words(sampling: &Sampling, masked: bool) -> String {
    let coils =
        sampling.virtual_coils.map_or("all coils".to_string(), |count| format!("{count} virtual coils"));
    if !masked {
        return coils;
    }
    format!(
        "{} masks of acceleration {} with center fraction {} and {coils}",
        sampling.mask.name(),
        list(&sampling.accelerations),
        list(&sampling.center_fractions)
    )
}

fn as_options(sampling: &Sampling) -> String {
    format!(
        "--mask {} --acceleration {} --center-fraction {} --virtual-coils {}",
        sampling.mask.name(),
        list(&sampling.accelerations),
        list(&sampling.center_fractions),
        sampling.virtual_coils.map_or("all".into(), |count| count.to_string())
    )
}

fn list<T: std::fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_a_network_knows_is_the_same_to_it() {
        let four = sampling(&[4], &[0.08], None);
        let both = sampling(&[4, 8], &[0.08, 0.04], None);
        let filename = Sampling { mask_seed: MaskSeeding::Filename, ..four.clone() };
        assert!(same(&four, &filename, true));
        assert!(same(&both, &four, true));
        assert!(!same(&four, &both, true));
        assert!(same(&four, &both, false), "no mask is drawn");
        assert!(!same(&Sampling { mask: MaskKind::Random, ..four.clone() }, &four, true));
        for masked in [true, false] {
            assert!(!same(&Sampling { virtual_coils: Some(6), ..four.clone() }, &four, masked));
        }
    }

    #[test]
    fn samplings_have_words() {
        let eight = sampling(&[8, 4], &[0.04, 0.08], Some(6));
        assert_eq!(
            words(&eight, true),
            "equispaced masks of acceleration 8,4 with center fraction 0.04,0.08 and 6 virtual coils"
        );
        assert_eq!(words(&eight, false), "6 virtual coils");
        assert_eq!(
            as_options(&sampling(&[4], &[0.08], None)),
            "--mask equispaced --acceleration 4 --center-fraction 0.08 --virtual-coils all"
        );
    }
}
