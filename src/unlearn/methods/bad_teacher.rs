//! Bad teaching (Chundawat et al. 2023, "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an
//! Incompetent Teacher", AAAI, arXiv:2205.08096): on the forget set the network learns from an incompetent teacher, a
//! network with random weights; on the retain set from a competent one, itself as it was. The true targets are not used.
//!
//! The paper has classifiers and the divergence of their outputs; here J compares with the teacher's image. As in the
//! authors' code, both sets are one shuffled stream, a part of the retain set is enough, and nothing is weighed. The
//! incompetent teacher has the weights that a training with the run's seed would begin with.

use crate::unlearn::method::{Method, PLAIN, Teacher};
use crate::unlearn::mixing::Mixing;

pub const METHOD: Method = Method {
    name: "bad-teacher",
    title: "Bad teaching",
    objective: "J(x_r, original(x_r)) + J(x_f, random(x_f))",
    retain: Some(|_, batch| vec![Teacher::Original.teaching(batch)]),
    forget: Some(|_, batch| vec![Teacher::Incompetent.teaching(batch)]),
    steps: Some(|_| Mixing::Stream),
    teachers: &[Teacher::Original, Teacher::Incompetent],
    ..PLAIN
};
