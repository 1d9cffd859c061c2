//! Which kernel makes a convolution on tensor cores, and in how many blocks.
//!
//! There are several for each: models of what they take choose (`conv_mma::Cut::clocks` and others), unless one was
//! measured to be quicker. Those stand in tilings.toml, which `kerase bench --tune` writes. Another tiling adds up sums in
//! another order, so this table is part of the program: the same build makes the same bits on every GPU, whether or not
//! somebody has measured on it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::{Convolution, MapShape, Pass};
use crate::cuda::{conv_mma, conv_transpose_mma};
use crate::error::{Error, Result};
use crate::precision::Precision;

/// What is made: a convolution's output, or the gradient of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Makes {
    Output,
    InputGradients,
}

/// Which of the products of a convolution it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Conv3x3(Makes),
    /// The gradient of 3×3 filters.
    Filters,
    Transposed(Makes),
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Conv3x3(Makes::Output),
        Self::Conv3x3(Makes::InputGradients),
        Self::Filters,
        Self::Transposed(Makes::Output),
        Self::Transposed(Makes::InputGradients),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Conv3x3(Makes::Output) => "conv3x3",
            Self::Conv3x3(Makes::InputGradients) => "conv3x3 inputs",
            Self::Filters => "conv3x3 filters",
            Self::Transposed(Makes::Output) => "conv_transpose",
            Self::Transposed(Makes::InputGradients) => "conv_transpose inputs",
        }
    }

    /// The names of its tilings.
    pub fn tilings(self) -> Vec<String> {
        match self {
            Self::Conv3x3(_) => conv_mma::tilings(),
            Self::Filters => conv_mma::weights::tilings(),
            Self::Transposed(makes) => conv_transpose_mma::tilings(makes),
        }
    }
}

/// What there are several tilings for. Written "conv3x3 18 -> 36, 1 x 320 x 184".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Problem {
    pub kind: Kind,
    /// Channels that are summed over, and that are made. Of filters: in and out.
    pub from: usize,
    pub to: usize,
    /// Of the output; of a transposed convolution, of its input.
    pub n: usize,
    pub height: usize,
    pub width: usize,
}

impl Problem {
    pub fn new(kind: Kind, map: MapShape, from: usize, to: usize) -> Self {
        let MapShape { n, height, width, .. } = map;
        Self { kind, from, to, n, height, width }
    }

    /// Those of a convolution's pass.
    pub fn of(convolution: &Convolution) -> Vec<Self> {
        let &Convolution { transposed, inputs, output, ref pass, .. } = convolution;
        let outs = output.channels;
        let input = MapShape { height: output.height / 2, width: output.width / 2, ..output };
        match (transposed, pass) {
            (false, Pass::Forward) => vec![Self::new(Kind::Conv3x3(Makes::Output), output, inputs, outs)],
            (true, Pass::Forward) => vec![Self::new(Kind::Transposed(Makes::Output), input, inputs, outs)],
            (true, Pass::Backward(_)) => {
                vec![Self::new(Kind::Transposed(Makes::InputGradients), input, outs, inputs)]
            }
            (false, Pass::Backward(of)) => {
                let inputs_gradient = Self::new(Kind::Conv3x3(Makes::InputGradients), output, outs, of.len());
                let filters = Self::new(Kind::Filters, output, inputs, outs);
                (!of.is_empty()).then_some(inputs_gradient).into_iter().chain([filters]).collect()
            }
        }
    }

    /// A map of its size with so many channels.
    pub fn map(&self, channels: usize) -> MapShape {
        MapShape { n: self.n, channels, height: self.height, width: self.width }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, from, to, n, height, width } = self;
        write!(f, "{} {from} -> {to}, {n} x {height} x {width}", kind.name())
    }
}

impl FromStr for Problem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (layer, size) = text.split_once(", ")?;
            let (layer, to) = layer.split_once(" -> ")?;
            let (name, from) = layer.rsplit_once(' ')?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name)?;
            let sizes: Vec<usize> = size.split(" x ").map(|n| n.parse().ok()).collect::<Option<_>>()?;
            let &[n, height, width] = &sizes[..] else { return None };
            Some(Self { kind, from: from.parse().ok()?, to: to.parse().ok()?, n, height, width })
        };
        parse().ok_or_else(|| {
            let kinds = Kind::ALL.map(Kind::name).join(", ");
            Error::input(format!(
                "'{text}' is no convolution: expected such as 'conv3x3 18 -> 36, 1 x 320 x 184', of {kinds}"
            ))
        })
    }
}

impl TryFrom<String> for Problem {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.to_string()
    }
}

/// A way to cut a problem into blocks.
pub trait Tiling {
    /// As tilings.toml has it.
    fn name(&self) -> String;
}

/// What was measured to be quicker than what the models choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tilings {
    measured: BTreeMap<Precision, BTreeMap<Problem, String>>,
    /// For whatever was not measured.
    #[serde(skip)]
    always: BTreeMap<Kind, String>,
}

impl Tilings {
    /// What kerase is built with.
    pub fn built_in() -> Self {
        Self::parse(include_str!("tilings.toml")).expect("a test reads it")
    }

    fn parse(text: &str) -> Result<Self> {
        let tilings: Self = toml::from_str(text).map_err(|error| Error::input(error.to_string()))?;
        for (problem, name) in tilings.measured.values().flatten() {
            let known = problem.kind.tilings();
            if !known.contains(name) {
                let known = known.join(", ");
                return Err(Error::input(format!(
                    "{problem}: there is no tiling '{name}', there are {known}"
                )));
            }
        }
        Ok(tilings)
    }

    /// # Errors
    /// Where the file cannot be read, or names what there is not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
        Self::parse(&text).map_err(|error| error.of_file(path))
    }

    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).expect("text and texts");
        std::fs::write(path, text).map_err(|error| Error::io("write", path, error))
    }

    /// The same, with these for one precision.
    pub fn with(mut self, precision: Precision, of: BTreeMap<Problem, String>) -> Self {
        self.measured.insert(precision, of);
        self
    }

    /// One tiling for every problem of a kind, however bad: to check that it computes what it should.
    pub fn always(names: impl IntoIterator<Item = (Kind, String)>) -> Self {
        Self { measured: BTreeMap::new(), always: names.into_iter().collect() }
    }

    /// The tiling that was measured to be the quickest, otherwise the one that costs least.
    pub fn pick<T: Tiling>(
        &self,
        precision: Precision,
        problem: Problem,
        tilings: impl Iterator<Item = T> + Clone,
        cost: impl Fn(&T) -> f64,
    ) -> T {
        let measured = self.measured.get(&precision).and_then(|of| of.get(&problem));
        measured
            .or_else(|| self.always.get(&problem.kind))
            .and_then(|name| tilings.clone().find(|tiling| tiling.name() == *name))
            .or_else(|| tilings.min_by(|a, b| cost(a).total_cmp(&cost(b))))
            .expect("there are kernels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = "conv3x3 18 -> 36, 1 x 320 x 184";

    #[test]
    fn what_is_built_in_can_be_read() {
        Tilings::built_in();
    }

    #[test]
    fn problems_are_read_back() {
        for kind in Kind::ALL {
            let problem = Problem { kind, from: 2, to: 36, n: 4, height: 40, width: 23 };
            assert_eq!(problem.to_string().parse::<Problem>().unwrap(), problem);
        }
        for text in ["", "conv3x3", "conv 18 -> 36, 1 x 320 x 184", "conv3x3 18 -> 36, 320 x 184"] {
            let message = text.parse::<Problem>().unwrap_err().to_string();
            assert!(message.contains("conv_transpose inputs"), "{message}");
        }
    }

    #[test]
    fn what_was_measured_is_picked() {
        let text = format!("[tf32]\n\"{LAYER}\" = \"deep by 4\"\n");
        let measured = Tilings::parse(&text).unwrap();
        assert_eq!(toml::to_string(&measured).unwrap(), text);
        let map = MapShape { n: 1, channels: 36, height: 320, width: 184 };
        let cut = |tilings: &Tilings, precision| {
            conv_mma::Cut::of(tilings, precision, Makes::Output, map, 18, 36).name()
        };
        assert_eq!(cut(&measured, Precision::Tf32), "deep by 4");
        let chosen = cut(&Tilings::default(), Precision::Tf32);
        assert_ne!(chosen, "deep by 4");
        assert_eq!(cut(&measured, Precision::Bf16), cut(&Tilings::default(), Precision::Bf16));
        let always = Tilings::always([(Kind::Conv3x3(Makes::Output), "deep by 3".into())]);
        assert_eq!(Precision::ALL.map(|precision| cut(&always, precision)), ["deep by 3"; 3]);
    }

    #[test]
    fn tilings_that_there_are_not_are_refused() {
        let message =
            Tilings::parse(&format!("[tf32]\n\"{LAYER}\" = \"wide by 7\"")).unwrap_err().to_string();
        assert!(message.contains("wide by 7") && message.contains("deep by 4"), "{message}");
        for text in ["[fp64]", "[tf32]\n\"conv\" = \"wide by 3\"", "tf32 = 3"] {
            assert!(Tilings::parse(text).is_err(), "{text}");
        }
    }
}
