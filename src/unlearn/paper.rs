//! How an unlearning runs where nobody says otherwise: as in Xue et al., whose training is [`Optimisation::default`].

use crate::run::optimisation::Optimisation;
use crate::run::plateau::PlateauSettings;
use crate::unlearn::method::{Anew, Method};
use crate::unlearn::optimizer_state::OptimizerState;

pub const EPOCHS: u64 = 5;
/// Of the retain set; of that which a network is trained anew on, all.
pub const RETAIN_FRACTION: f64 = 0.1;
/// Factor of J on the forget set.
pub const FORGET_WEIGHT: f64 = 1.0;
/// λ.
pub const NOISE: f64 = 1e-5;
/// Of a fresh optimiser's plateau.
const PATIENCE: u64 = 1;

/// Share of the retain set that a method works with.
pub fn retain_fraction(method: &Method) -> f64 {
    if method.anew == Anew::Everything { 1.0 } else { RETAIN_FRACTION }
}

/// The optimisation of a method's run, after a training with `training`'s.
///
/// A network that is trained anew is trained as that says, and a method without steps passes over the data once. A plateau
/// that goes on from training keeps its patience, as PyTorch's does when its state is loaded.
pub fn optimisation(method: &Method, state: OptimizerState, training: Optimisation) -> Optimisation {
    if method.anew == Anew::Everything {
        return training;
    }
    let patience = match state {
        OptimizerState::Resume if method.resumes_adam() => training.plateau.patience,
        OptimizerState::Resume | OptimizerState::Fresh => PATIENCE,
    };
    Optimisation {
        epochs: Some(if method.has_steps() { EPOCHS } else { 1 }),
        max_steps: None,
        plateau: PlateauSettings { patience, ..training.plateau },
        ..training
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::optimisation::Loss;

    #[test]
    fn runs_are_as_long_and_as_patient_as_the_papers() {
        let training = Optimisation {
            loss: Loss::L1,
            lr: 2e-3,
            epochs: Some(7),
            max_steps: Some(9),
            plateau: PlateauSettings { factor: 0.3, patience: 4 },
            ..Optimisation::default()
        };
        let (resume, fresh) = (OptimizerState::Resume, OptimizerState::Fresh);
        for (name, state, epochs, max_steps, patience, fraction) in [
            ("nl-ft", resume, 5, None, 4, 0.1),
            ("nl-ft", fresh, 5, None, 1, 0.1),
            ("ga", resume, 5, None, 4, 0.1),
            ("ssd", fresh, 1, None, 1, 0.1),
            // These have no optimiser that goes on, whatever a study's settings say.
            ("ssd", resume, 1, None, 1, 0.1),
            ("eu-k", resume, 5, None, 1, 0.1),
            ("retrain", fresh, 7, Some(9), 4, 1.0),
            ("retrain", resume, 7, Some(9), 4, 1.0),
        ] {
            let method: Method = name.parse().unwrap();
            let found = optimisation(&method, state, training.clone());
            let plateau = PlateauSettings { factor: 0.3, patience };
            let expected = Optimisation { epochs: Some(epochs), max_steps, plateau, ..training.clone() };
            assert_eq!(found, expected, "{name}");
            assert_eq!(retain_fraction(&method), fraction, "{name}");
        }
    }
}
