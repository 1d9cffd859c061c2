//! Which kernel makes a convolution on tensor cores, and in how many blocks.
//!
//! There are several for each: models of what they take choose (`mma::Cut::clocks` and others), unless one was measured to be
//! quicker. Another tiling adds up sums in another order, so what was measured is part of the program (`tilings.toml`, see
//! [`super::tilings_file`]): the same build makes the same bits on every GPU, whether or not somebody has measured on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cuda::conv::problem::{Kind, Problem};
use crate::precision::Precision;

/// A problem that is cut into blocks.
pub trait Tiled: Clone {
    /// Of its tiling, as tilings.toml has it.
    fn name(&self) -> String;

    /// Whether both are the same launch, whatever their names.
    fn launches_as(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// What was measured to be quicker than what the models choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tilings {
    pub(super) measured: BTreeMap<Precision, BTreeMap<Problem, String>>,
    /// For whatever was not measured.
    #[serde(skip)]
    always: BTreeMap<Kind, String>,
    /// Where and when it was: comments at the head of the file.
    #[serde(skip)]
    pub(super) notes: Vec<Note>,
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

impl Tilings {
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
