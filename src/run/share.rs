//! A rank's part of a step: the slices of all its terms are dealt out in turn, so that ranks have equally many, give or take
//! one, and every slice is somebody's.

use crate::data::volume::SliceId;
use crate::run::job::Run;
use crate::run::schedule::{PlannedStep, Term};

/// What a rank computes of a term.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Which term of the step it is of.
    pub term: usize,
    /// The rank's slices of it, at least one.
    pub batch: Vec<SliceId>,
    /// Their share of the term's slices: what the mean over them counts for in the mean over all.
    pub share: f64,
}

impl Run<'_> {
    /// What this rank computes of a step.
    pub(super) fn parts(&self, step: &PlannedStep) -> Vec<Part> {
        parts(&step.terms, self.session.ranks.rank(), self.session.ranks.size())
    }

    /// The terms that this rank looks at, where each is looked at as a whole.
    pub(super) fn own_terms<'t>(&self, terms: &'t [Term]) -> impl Iterator<Item = &'t Term> + use<'t> {
        terms.iter().skip(self.session.ranks.rank()).step_by(self.session.ranks.size())
    }
}

/// The parts of rank `rank` of `size`, in the order of the terms. A rank may have none.
pub fn parts(terms: &[Term], rank: usize, size: usize) -> Vec<Part> {
    let mut dealt = 0;
    let mut parts = Vec::new();
    for (number, term) in terms.iter().enumerate() {
        let mine = |(i, _): &(usize, &SliceId)| (dealt + i) % size == rank;
        let batch: Vec<SliceId> =
            term.batch.iter().enumerate().filter(mine).map(|(_, slice)| *slice).collect();
        dealt += term.batch.len();
        if !batch.is_empty() {
            let share = batch.len() as f64 / term.batch.len() as f64;
            parts.push(Part { term: number, batch, share });
        }
    }
    parts
}

/// The most slices that a step's ranks can share.
pub fn slices(step: &PlannedStep) -> usize {
    step.terms.iter().map(|term| term.batch.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::schedule::Role;

    fn terms(sizes: &[usize]) -> Vec<Term> {
        let term = |(volume, &len): (usize, &usize)| {
            Term::new(Role::Retain, (0..len).map(|i| (volume, i)).collect())
        };
        sizes.iter().enumerate().map(term).collect()
    }

    #[test]
    fn every_slice_is_one_ranks() {
        for sizes in [&[1][..], &[1, 1], &[4], &[5, 3], &[2, 1, 2]] {
            let terms = terms(sizes);
            for ranks in 1..6 {
                let all: Vec<Vec<Part>> = (0..ranks).map(|rank| parts(&terms, rank, ranks)).collect();
                let mut seen: Vec<SliceId> =
                    all.iter().flatten().flat_map(|part| part.batch.clone()).collect();
                seen.sort_unstable();
                let expected: Vec<SliceId> = terms.iter().flat_map(|term| term.batch.clone()).collect();
                assert_eq!(seen, expected, "{sizes:?} on {ranks}");
                let counts: Vec<usize> =
                    all.iter().map(|parts| parts.iter().map(|part| part.batch.len()).sum()).collect();
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
                for term in 0..terms.len() {
                    let shares: f64 =
                        all.iter().flatten().filter(|part| part.term == term).map(|part| part.share).sum();
                    assert!((shares - 1.0).abs() < 1e-15);
                }
            }
        }
    }

    #[test]
    fn a_pair_is_two_ranks_work() {
        let terms = terms(&[1, 1]);
        let of = |rank| parts(&terms, rank, 3).iter().map(|part| part.term).collect::<Vec<_>>();
        assert_eq!([of(0), of(1), of(2)], [vec![0], vec![1], vec![]]);
    }
}
