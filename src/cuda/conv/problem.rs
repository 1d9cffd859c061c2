//! Which product of a convolution is to be made, of which size: what there are several tilings for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::{Convolution, MapShape, Pass};
use crate::error::{Error, Result};

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

    /// Values of maps that it reads and writes at least.
    pub fn values(&self) -> usize {
        let pixels = self.n * self.height * self.width;
        pixels
            * match self.kind {
                Kind::Conv3x3(Makes::Output) => self.from + self.to,
                // Gradients, and the maps whose gradients they are.
                Kind::Conv3x3(Makes::InputGradients) => 2 * (self.from + self.to),
                Kind::Filters => self.from + 2 * self.to,
                Kind::Transposed(Makes::Output) => self.from + 4 * self.to,
                Kind::Transposed(Makes::InputGradients) => 8 * self.from + 2 * self.to,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
