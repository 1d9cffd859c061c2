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

use crate::atomic;
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

/// A problem that is cut into blocks.
pub trait Tiled: Clone {
    /// Of its tiling, as tilings.toml has it.
    fn name(&self) -> String;

    /// Whether both are the same launch, whatever their names.
    fn launches_as(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// Of a file that `kerase bench --tune` writes.
const HEADER: &str = "\
# Tilings of convolutions that were measured to be quicker than what kerase's models choose: kerase bench --tune writes
# them, and bench --tilings takes them. See src/cuda/tilings.rs.
";

/// What was measured to be quicker than what the models choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tilings {
    measured: BTreeMap<Precision, BTreeMap<Problem, String>>,
    /// For whatever was not measured.
    #[serde(skip)]
    always: BTreeMap<Kind, String>,
    /// Where and when it was: comments at the head of the file.
    #[serde(skip)]
    notes: Vec<Note>,
}

/// A measurement whose tilings a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The GPU's name.
    pub on: String,
    pub precision: Precision,
    /// Which build, and when.
    pub by: String,
}

const MEASURED_ON: &str = "# measured on ";

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, precision, by } = self;
        write!(f, "{MEASURED_ON}{on}; {precision}; {by}")
    }
}

impl Note {
    fn read(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix(MEASURED_ON)?.splitn(3, "; ");
        let [on, precision, by] = [parts.next()?, parts.next()?, parts.next()?];
        Some(Self { on: on.into(), precision: precision.parse().ok()?, by: by.into() })
    }
}

impl Tilings {
    /// What kerase is built with.
    pub fn built_in() -> Self {
        Self::parse(include_str!("tilings.toml")).expect("a test reads it")
    }

    fn parse(text: &str) -> Result<Self> {
        let mut tilings: Self = toml::from_str(text).map_err(|error| Error::input(error.to_string()))?;
        tilings.notes = text.lines().filter_map(Note::read).collect();
        if tilings.measured.contains_key(&Precision::Fp32) {
            return Err(Error::input(
                "in fp32 there is one tiling of each convolution: expected [tf32] or [bf16]",
            ));
        }
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

    /// Replaces the file as a whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        let text = toml::to_string(self).expect("text and texts");
        atomic::write_bytes(path, format!("{HEADER}{notes}{text}").as_bytes())
    }

    /// Where its tilings were measured.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Says where tilings were measured, instead of what it said of the same GPU and precision.
    pub fn note(&mut self, note: Note) {
        self.notes.retain(|other| (&other.on, other.precision) != (&note.on, note.precision));
        self.notes.push(note);
    }

    /// What was measured.
    pub fn get(&self, precision: Precision, problem: Problem) -> Option<&str> {
        self.measured.get(&precision)?.get(&problem).map(String::as_str)
    }

    /// How many were measured in a precision.
    pub fn len(&self, precision: Precision) -> usize {
        self.of(precision).count()
    }

    /// What was measured in a precision.
    pub fn of(&self, precision: Precision) -> impl Iterator<Item = &Problem> {
        self.measured.get(&precision).into_iter().flat_map(BTreeMap::keys)
    }

    /// The same, with those of `other` in place of its own.
    pub fn overlaid(mut self, other: &Self) -> Self {
        for (&precision, of) in &other.measured {
            let own = self.measured.entry(precision).or_default();
            own.extend(of.iter().map(|(&problem, name)| (problem, name.clone())));
        }
        other.notes.iter().for_each(|note| self.note(note.clone()));
        self
    }

    /// Has the problem made by this tiling, or by what its model chooses.
    pub fn set(&mut self, precision: Precision, problem: Problem, name: Option<String>) {
        let of = self.measured.entry(precision).or_default();
        match name {
            Some(name) => drop(of.insert(problem, name)),
            None => drop(of.remove(&problem)),
        }
    }

    /// One tiling for every problem of a kind, however bad: to check that it computes what it should.
    pub fn always(names: impl IntoIterator<Item = (Kind, String)>) -> Self {
        Self { always: names.into_iter().collect(), ..Self::default() }
    }

    /// The tiling that was measured to be the quickest, otherwise the one that costs least.
    pub fn pick<T: Tiled>(
        &self,
        precision: Precision,
        problem: Problem,
        tilings: impl Iterator<Item = T> + Clone,
        cost: impl Fn(&T) -> f64,
    ) -> T {
        self.get(precision, problem)
            .or_else(|| self.always.get(&problem.kind).map(String::as_str))
            .and_then(|name| tilings.clone().find(|tiling| tiling.name() == name))
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

    const MAP: MapShape = MapShape { n: 1, channels: 36, height: 320, width: 184 };

    /// The tiling by which such maps with 36 channels are made of, or made to, 18.
    fn chosen(tilings: &Tilings, precision: Precision, kind: Kind) -> String {
        match kind {
            Kind::Conv3x3(makes) => conv_mma::Cut::of(tilings, precision, makes, MAP, 18, 36).name(),
            Kind::Filters => conv_mma::weights::Cut::of(tilings, precision, MAP, 18).name(),
            Kind::Transposed(makes) => conv_transpose_mma::Cut::of(tilings, precision, makes, MAP, 18).name(),
        }
    }

    #[test]
    fn what_was_measured_is_picked() {
        let models = Tilings::default();
        for kind in Kind::ALL {
            let [from, to] = if kind == Kind::Transposed(Makes::Output) { [36, 18] } else { [18, 36] };
            let problem = Problem::new(kind, MAP, from, to);
            for name in kind.tilings() {
                let mut measured = Tilings::default();
                measured.set(Precision::Tf32, problem, Some(name.clone()));
                let always = Tilings::always([(kind, name.clone())]);
                for tilings in [&measured, &always, &models.clone().overlaid(&measured)] {
                    assert_eq!(chosen(tilings, Precision::Tf32, kind), name, "{problem}");
                }
                assert_eq!(chosen(&always, Precision::Bf16, kind), name);
                assert_eq!(chosen(&measured, Precision::Bf16, kind), chosen(&models, Precision::Bf16, kind));
                measured.set(Precision::Tf32, problem, None);
                assert_eq!(measured.len(Precision::Tf32), 0);
            }
        }
    }

    #[test]
    fn files_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tilings.toml");
        let mut tilings = Tilings::default();
        tilings.set(Precision::Tf32, LAYER.parse().unwrap(), Some("deep by 4".into()));
        let note = |on: &str, by: &str| Note { on: on.into(), precision: Precision::Tf32, by: by.into() };
        tilings.note(note("NVIDIA H100 PCIe", "kerase 1; yesterday"));
        tilings.note(note("NVIDIA A40", "kerase 1"));
        tilings.note(note("NVIDIA H100 PCIe", "kerase 2; today"));
        tilings.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let notes = "# measured on NVIDIA A40; tf32; kerase 1\n\
                     # measured on NVIDIA H100 PCIe; tf32; kerase 2; today\n";
        assert_eq!(text, format!("{HEADER}{notes}[tf32]\n\"{LAYER}\" = \"deep by 4\"\n"));
        assert_eq!(Tilings::read(&path).unwrap(), tilings);
    }

    #[test]
    fn tilings_that_there_are_not_are_refused() {
        let message =
            Tilings::parse(&format!("[tf32]\n\"{LAYER}\" = \"wide by 7\"")).unwrap_err().to_string();
        assert!(message.contains("wide by 7") && message.contains("deep by 4"), "{message}");
        for text in ["[fp64]", "[fp32]", "[tf32]\n\"conv\" = \"wide by 3\"", "tf32 = 3"] {
            assert!(Tilings::parse(text).is_err(), "{text}");
        }
    }
}
