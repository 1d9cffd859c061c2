//! Fine-tuning (Xue et al. 2024): the network goes on training on a part of the retain set and never sees the forget set. With a retain
//! fraction of 1 it is the paper's Full FT.

use crate::unlearn::method::{Method, PLAIN};

pub const METHOD: Method =
    Method { name: "ft", title: "Fine-tuning", objective: "J(x_r)", recipe: true, ..PLAIN };
