//! PyTorch's `ReduceLROnPlateau` (mode min, relative threshold 1e-4, no cooldown), once an epoch.

use serde::{Deserialize, Serialize};

const THRESHOLD: f64 = 1e-4;
/// PyTorch leaves the rate alone where it would change by less.
const SMALLEST_CHANGE: f64 = 1e-8;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauSettings {
    /// What the learning rate is multiplied by.
    pub factor: f64,
    /// Epochs without improvement that are put up with.
    pub patience: u64,
}

/// The learning rate and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    pub lr: f64,
    /// Smallest epoch loss so far.
    best: Option<f64>,
    bad_epochs: u64,
}

impl Plateau {
    pub fn new(lr: f64) -> Self {
        Self { lr, best: None, bad_epochs: 0 }
    }

    /// After an epoch with this loss.
    pub fn epoch(&mut self, settings: PlateauSettings, loss: f64) {
        // As PyTorch computes it, also for the negative losses of ascent, where it asks for less than nothing.
        if self.best.is_none_or(|best| loss < best * (1.0 - THRESHOLD)) {
            self.best = Some(loss);
            self.bad_epochs = 0;
        } else {
            self.bad_epochs += 1;
        }
        if self.bad_epochs > settings.patience {
            self.bad_epochs = 0;
            let reduced = self.lr * settings.factor;
            if self.lr - reduced > SMALLEST_CHANGE {
                self.lr = reduced;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_pytorchs() {
        // p = torch.nn.Parameter(torch.zeros(1)); o = torch.optim.Adam([p], 1e-3)
        // s = torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.1, patience=1)
        // for l in losses: s.step(l); print(o.param_groups[0]['lr'])
        let losses = [1.0, 0.9, 0.9, 0.89999, 0.95, 0.5, 0.6, 0.6, 0.6, 0.6, 0.1, 0.2, 0.2];
        let rates = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6, 1e-6, 1e-7];
        let mut plateau = Plateau::new(1e-3);
        for (loss, rate) in losses.into_iter().zip(rates) {
            plateau.epoch(PlateauSettings { factor: 0.1, patience: 1 }, loss);
            assert!(
                (plateau.lr / rate - 1.0).abs() < 1e-12,
                "after {loss}: {} instead of {rate}",
                plateau.lr
            );
        }
    }
}
