//! CF-k and EU-k (Goel et al. 2022, "Towards Adversarial Evaluations for Inexact Machine Unlearning", arXiv:2201.06640):
//! catastrophic forgetting, or exact unlearning, of the last k layers. All others are frozen; the last k are trained on
//! the retain set, by CF-k from where they are, by EU-k anew from random weights.
//!
//! The paper's layers are convolutions and linear layers; here a layer is a cascade, data consistency and U-Net. The
//! sensitivity network comes before all of them, and is frozen even where k is their number. The paper tries many k (10
//! and 50 layers of a ResNet110, in the authors' scripts); k = 1 is the least. EU-k trains for as many epochs as training
//! took in those scripts, CF-k for half: that is for --epochs to say, 5 being what all methods here have.

use crate::error::{Error, Result};
use crate::model::VarNet;
use crate::unlearn::hyperparameters::Hyperparameters;
use crate::unlearn::method::{Anew, Method, PLAIN, Trained};

pub const CF_K: Method = Method {
    name: "cf-k",
    title: "Catastrophic forgetting of the last k cascades",
    objective: "J(x_r) on the last k cascades",
    trained: Trained::LastCascades,
    defaults: Hyperparameters { last_cascades: Some(1), ..Hyperparameters::NONE },
    ..PLAIN
};

pub const EU_K: Method = Method {
    name: "eu-k",
    title: "Exact unlearning of the last k cascades",
    objective: "J(x_r) on the last k cascades, from random weights",
    anew: Anew::LastCascades,
    ..CF_K
};

/// Which weights are those of the last `k` cascades.
///
/// # Errors
/// Where there are not so many.
pub fn flags(net: &VarNet, k: usize) -> Result<Vec<bool>> {
    let cascades = net.architecture.cascades;
    if k > cascades {
        return Err(Error::input(format!("--last-cascades {k}: the network has {cascades}")));
    }
    let mut flags = vec![false; net.layout.len()];
    for cascade in cascades - k..cascades {
        let prefix = format!("cascades.{cascade}.");
        for parameter in net.layout.parameters.iter().filter(|found| found.name.starts_with(&prefix)) {
            flags[parameter.span.range()].fill(true);
        }
    }
    Ok(flags)
}
