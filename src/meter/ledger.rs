//! What was done, operation by operation and shape by shape: how often, what it had to do, how long it took.

use serde::Serialize;

use super::ceiling::Ceiling;
use super::cost::Cost;
use crate::backend::Convolution;
use crate::median::median;

/// One operation at one shape.
#[derive(Clone, Debug)]
pub struct Entry {
    pub operation: &'static str,
    pub shape: String,
    pub cost: Cost,
    /// Times in all.
    pub calls: usize,
    /// Seconds of each call, where it was timed.
    pub seconds: Vec<f64>,
}

/// Entries in the order in which they first came, and the convolutions that were announced.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    announced: Vec<Convolution>,
}

/// An entry of a pass over the network, or a sum of entries.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub operation: String,
    pub shape: String,
    /// In one pass.
    pub calls: f64,
    #[serde(flatten)]
    pub cost: Cost,
    /// The least seconds for all calls of a pass.
    pub floor_seconds: f64,
    /// Medians of a call's seconds, added up over the calls of a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Ledger {
    /// Counts a call, and returns the number of its entry.
    pub fn call(&mut self, operation: &'static str, shape: String, cost: Cost) -> usize {
        let same = |e: &Entry| e.operation == operation && e.shape == shape && e.cost == cost;
        let at = self.entries.iter().position(same).unwrap_or_else(|| {
            self.entries.push(Entry { operation, shape, cost, calls: 0, seconds: Vec::new() });
            self.entries.len() - 1
        });
        self.entries[at].calls += 1;
        at
    }

    pub fn took(&mut self, entry: usize, seconds: f64) {
        self.entries[entry].seconds.push(seconds);
    }

    pub fn announce(&mut self, convolutions: &[Convolution]) {
        self.announced.extend_from_slice(convolutions);
    }

    /// Every convolution that was announced.
    pub fn announced(&self) -> &[Convolution] {
        &self.announced
    }

    /// The entries of `passes` equal passes, as one.
    pub fn rows(&self, passes: usize, ceiling: Ceiling) -> Vec<Row> {
        let row = |entry: &Entry| {
            let calls = entry.calls as f64 / passes as f64;
            let all = |x: f64| calls * x;
            let Cost { bytes, matrix_flop, flop } = entry.cost;
            Row {
                operation: entry.operation.into(),
                shape: entry.shape.clone(),
                calls,
                cost: Cost { bytes: all(bytes), matrix_flop: all(matrix_flop), flop: all(flop) },
                floor_seconds: all(ceiling.floor(entry.cost)),
                seconds: median(&entry.seconds).map(all),
            }
        };
        self.entries.iter().map(row).collect()
    }
}

/// Rows of one operation as one, the longest first.
pub fn by_operation(rows: &[Row]) -> Vec<Row> {
    let mut sums: Vec<Row> = Vec::new();
    for row in rows {
        match sums.iter_mut().find(|sum| sum.operation == row.operation) {
            Some(sum) => sum.add(row),
            None => sums.push(Row { shape: String::new(), ..row.clone() }),
        }
    }
    sums.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
    sums
}

/// All rows as one.
pub fn total(rows: &[Row]) -> Row {
    let nothing = Row {
        operation: "all operations".into(),
        shape: String::new(),
        calls: 0.0,
        cost: Cost::default(),
        floor_seconds: 0.0,
        seconds: rows.iter().any(|row| row.seconds.is_some()).then_some(0.0),
    };
    rows.iter().fold(nothing, |mut sum, row| {
        sum.add(row);
        sum
    })
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.cost = self.cost + other.cost;
        self.floor_seconds += other.floor_seconds;
        self.seconds = self.seconds.zip(other.seconds).map(|(a, b)| a + b);
    }

    /// What is worth looking at first.
    pub fn weight(&self) -> f64 {
        self.seconds.unwrap_or(self.floor_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_shape_are_one_row() {
        let cost = Cost { bytes: 2e9, ..Cost::default() };
        let mut ledger = Ledger::default();
        for seconds in [[3e-3, 1e-3], [2e-3, 9e-3]] {
            for seconds in seconds {
                let entry = ledger.call("conv3x3", "1->2".into(), cost);
                ledger.took(entry, seconds);
            }
            ledger.call("conv3x3", "2->2".into(), cost);
            ledger.call("avg_pool", "2".into(), cost);
        }
        let a100 = Ceiling { bytes_per_second: 1e12, ..Ceiling::named("A100").unwrap() };
        let rows = ledger.rows(2, a100);
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].calls, rows[0].seconds), (2.0, Some(5e-3)));
        assert_eq!((rows[0].cost.bytes, rows[0].floor_seconds), (4e9, 4e-3));
        let operations = by_operation(&rows);
        assert_eq!((operations[0].operation.as_str(), operations[0].calls), ("conv3x3", 3.0));
        assert_eq!(operations[0].seconds, None, "a part was not timed");
        assert_eq!(total(&rows).calls, 4.0);
        assert_eq!(total(&rows).floor_seconds, 8e-3);
    }
}
