//! Retraining from scratch on the retain set: what every other method is measured against, as a method. With the whole
//! retain set, as many epochs and the same seed it gives the bits of `kerase train --data RETAIN`.

use crate::unlearn::method::{Anew, Method, PLAIN};

pub const METHOD: Method = Method {
    name: "retrain",
    title: "Retraining from scratch",
    objective: "J(x_r), from random weights",
    anew: Anew::Everything,
    ..PLAIN
};
