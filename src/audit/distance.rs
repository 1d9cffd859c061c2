//! How far a network's weights have moved, part by part.

use serde::{Deserialize, Serialize};

use crate::model::Architecture;

/// A part's weights against those of the original network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// ‖now − before‖ / ‖before‖, Euclidean.
    #[serde(with = "crate::json_float")]
    pub relative_l2: f64,
    /// Share of the weights with other bits than before.
    pub changed: f64,
}

impl Moved {
    fn of(before: &[f32], now: &[f32]) -> Self {
        let (mut moved, mut size, mut changed) = (0.0, 0.0, 0usize);
        for (&before, &now) in before.iter().zip(now) {
            moved += (f64::from(now) - f64::from(before)).powi(2);
            size += f64::from(before).powi(2);
            changed += usize::from(before.to_bits() != now.to_bits());
        }
        let relative_l2 = if moved == 0.0 { 0.0 } else { (moved / size).sqrt() };
        Self { relative_l2, changed: changed as f64 / before.len().max(1) as f64 }
    }
}

/// One part of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartDistance {
    /// "sens_net", "cascades.0" and so on, as parameters are named; "all" comes last.
    pub part: String,
    pub weights: usize,
    /// Of the unlearned network; none where it diverged.
    pub after: Option<Moved>,
    /// Of the oracle, where there is one.
    pub oracle: Option<Moved>,
}

/// All parts, the sensitivity network first.
///
/// # Panics
/// Where parameters are not the architecture's.
pub fn distances(
    architecture: Architecture,
    before: &[f32],
    after: Option<&[f32]>,
    oracle: Option<&[f32]>,
) -> Vec<PartDistance> {
    let (layout, _) = architecture.layout();
    let cascades = (0..architecture.cascades).map(|number| format!("cascades.{number}"));
    let parts = std::iter::once("sens_net".to_string()).chain(cascades);
    // The parameters of a part lie side by side.
    let ranges = parts.map(|part| {
        let inside = format!("{part}.");
        let mut spans =
            layout.parameters.iter().filter(|p| p.name.starts_with(&inside)).map(|p| p.span.range());
        let first = spans.next().expect("every part has parameters");
        let end = spans.next_back().map_or(first.end, |last| last.end);
        (part, first.start..end)
    });
    let all = ("all".to_string(), 0..layout.len());
    let part = |(part, range): (String, std::ops::Range<usize>)| {
        let of = |now: &[f32]| Moved::of(&before[range.clone()], &now[range.clone()]);
        PartDistance { part, weights: range.len(), after: after.map(of), oracle: oracle.map(of) }
    };
    ranges.chain(std::iter::once(all)).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let architecture = Architecture { cascades: 2, chans: 2, pools: 1, sens_chans: 1, sens_pools: 1 };
        let before = architecture.initial_parameters(1);
        let (layout, spans) = architecture.layout();
        let mut after = before.clone();
        let dc_weight = spans.cascades[1].0.offset;
        after[dc_weight] = 3.0;
        let found = distances(architecture, &before, Some(&after), None);
        let names: Vec<&str> = found.iter().map(|d| d.part.as_str()).collect();
        assert_eq!(names, ["sens_net", "cascades.0", "cascades.1", "all"]);
        let weights: Vec<usize> = found.iter().map(|d| d.weights).collect();
        assert_eq!(weights[..3].iter().sum::<usize>(), layout.len());
        assert_eq!(weights[1], weights[2]);
        for still in &found[..2] {
            assert_eq!(still.after, Some(Moved { relative_l2: 0.0, changed: 0.0 }));
        }
        let range = dc_weight..dc_weight + weights[2];
        let norm = before[range].iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        let moved = found[2].after.unwrap();
        assert!((moved.relative_l2 - 2.0 / norm).abs() < 1e-12);
        assert_eq!(moved.changed, 1.0 / weights[2] as f64);
        assert_eq!(found[3].after.unwrap().changed, 1.0 / layout.len() as f64);
        assert_eq!(found[3].oracle, None);
    }
}
