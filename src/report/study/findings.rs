//! What the paper finds, and whether a study shows it.
//!
//! A finding is judged by checks. Each compares a number, its mean over seeds, with a bound that it has to pass by more
//! than its standard deviation over seeds. The bounds are this program's, taken from the paper's tables with room for
//! other data: they were set before any study was run, but for `BEYOND`, and none is met by every outcome.

use serde::Serialize;

use super::condition::{Condition, SMALLEST_GAP, Study, psnr};
use super::numbers::{self, trimmed};
use super::table::{Record, Shown, Table};
use crate::error::Result;
use crate::experiment::results::Measure;
use crate::json;
use crate::metrics::Spread;
use crate::table::plus_minus;

/// BTA that training on both sets may cost and still be called little; in dB.
const LITTLE: f64 = 1.0;
/// How much worse in KTA the oracle has to be: half of what it is in the paper; in dB.
const CLEARLY: f64 = 2.5;
/// Of the oracle's loss in KTA: below this, nothing was unlearned.
const STAYS: f64 = 0.25;
/// Of the oracle's loss in KTA: above this, the forget set's kind was forgotten.
pub const FORGOTTEN: f64 = 0.5;
/// Below this, in dB, a network is wrecked.
const WRECKED: f64 = 3.0;
/// Less BTA than this is no help; in dB.
const HELP: f64 = 0.5;
/// Of what more retain data has gained: adding less than this, and less than [`HELP`], is no help beyond that point. The
/// share came later: a study met the other bound whose quality rose to the end.
const BEYOND: f64 = 0.1;

const FINE_TUNING: [&str; 1] = ["ft"];
const ASCENT_ALONE: [&str; 2] = ["ga", "ga-l1"];
const NOISE_ALONE: [&str; 1] = ["nl"];
const ASCENT_MIXED: [&str; 2] = ["ga-ft", "ga-l1-ft"];
const NOISE_MIXED: [&str; 1] = ["nl-ft"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Shown,
    NotShown,
    /// A run that it takes is not there.
    CannotBeJudged,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::NotShown => "not shown",
            Self::CannotBeJudged => "cannot be judged",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub number: usize,
    /// As the paper finds it.
    pub claim: &'static str,
    /// The paper's numbers.
    pub paper: &'static str,
    /// When it counts as shown, in words and numbers.
    pub criterion: String,
    pub verdict: Verdict,
    pub checks: Vec<Check>,
}

/// One number against one bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub what: String,
    pub value: Option<Spread>,
    pub unit: Unit,
    pub bound: Bound,
    /// None where there is nothing to judge it by.
    pub met: Option<bool>,
    /// Why there is no number, or what it leaves out.
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Db,
    /// Of one.
    Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Above(f64),
    Below(f64),
}

/// What it says of a network that its images are no longer finite.
#[derive(Clone, Copy, PartialEq)]
enum Diverging {
    Meets,
    Fails,
}

impl Bound {
    /// With more distance than the deviation.
    fn met(self, value: Spread) -> bool {
        let sd = value.sd.unwrap_or(0.0);
        match self {
            Self::Above(bound) => value.mean - sd > bound,
            Self::Below(bound) => value.mean + sd < bound,
        }
    }
}

impl Check {
    fn new(what: impl Into<String>, value: Option<Spread>, unit: Unit, bound: Bound) -> Self {
        let note = value.is_none().then(|| "the runs that it takes are not there".to_string());
        Self { what: what.into(), value, unit, bound, met: value.map(|value| bound.met(value)), note }
    }

    /// What no run was made for.
    fn missing(what: impl Into<String>, unit: Unit, bound: Bound) -> Self {
        Self::new(what, None, unit, bound)
    }

    fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Takes a method's diverged seeds into account, which are not in the mean.
    fn with_diverged(mut self, condition: &Condition, diverging: Diverging) -> Self {
        let seeds = condition.seeds();
        if seeds.diverged == 0 {
            return self;
        }
        let others = self.met.or((seeds.diverged == seeds.all).then_some(true));
        self.met = match diverging {
            Diverging::Meets => others,
            Diverging::Fails => Some(false),
        };
        self.noting(format!("{} of {} seeds diverged", seeds.diverged, seeds.all))
    }

    /// "0.29 ± 0.10 dB", "81 ± 4 %".
    pub fn value_text(&self) -> String {
        let Some(value) = self.value else {
            // What has no number and is judged all the same is a network that has none.
            return if self.met.is_some() { "diverged".into() } else { "–".into() };
        };
        let text = match self.unit {
            Unit::Db => format!("{} dB", plus_minus(value, 2)),
            Unit::Share => numbers::percent_spread(value),
        };
        text.replace('-', "−")
    }

    /// "above 2.5 dB".
    pub fn bound_text(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::Above(bound) => ("above", bound),
            Bound::Below(bound) => ("below", bound),
        };
        match self.unit {
            Unit::Db => format!("{word} {} dB", trimmed(bound, 2)),
            Unit::Share => format!("{word} {}", numbers::percent(bound)),
        }
    }

    pub fn met_text(&self) -> &'static str {
        match self.met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "cannot be judged",
        }
    }
}

impl Finding {
    fn new(
        number: usize,
        claim: &'static str,
        paper: &'static str,
        criterion: String,
        checks: Vec<Check>,
    ) -> Self {
        let verdict = if checks.iter().any(|check| check.met == Some(false)) {
            Verdict::NotShown
        } else if checks.is_empty() || checks.iter().any(|check| check.met.is_none()) {
            Verdict::CannotBeJudged
        } else {
            Verdict::Shown
        };
        Self { number, claim, paper, criterion, verdict, checks }
    }
}

/// The paper's five.
pub fn findings(study: &Study) -> Vec<Finding> {
    vec![
        both_sets(study),
        fine_tuning_alone(study),
        forget_set_alone(study),
        retain_in_the_mix(study),
        more_retain_data(study),
    ]
}

fn both_sets(study: &Study) -> Finding {
    let difference = |measure, of_oracle: f64| {
        let (original, oracle) = (study.original()?, study.oracle()?);
        oracle.with(original, |oracle, g| Some(of_oracle * (psnr(oracle, measure)? - psnr(g, measure)?)))
    };
    let diverged = |mut check: Check| {
        for condition in study.original().into_iter().chain(study.oracle()) {
            check = check.with_diverged(condition, Diverging::Fails);
        }
        check
    };
    let costs = difference(Measure::Bta, 1.0);
    let checks = vec![
        Check::new("BTA, oracle minus G: what training on both costs", costs, Unit::Db, Bound::Above(0.0)),
        Check::new("the same: and that it is little", costs, Unit::Db, Bound::Below(LITTLE)),
        Check::new(
            "KTA, G minus oracle: what never having learned it costs",
            difference(Measure::Kta, -1.0),
            Unit::Db,
            Bound::Above(CLEARLY),
        ),
    ];
    Finding::new(
        1,
        "Learning both sets costs a little of BTA, and the oracle is clearly worse in KTA.",
        "BTA 39.36 − 39.07 = 0.29 dB; KTA 36.65 − 31.82 = 4.83 dB",
        format!(
            "The oracle's mean BTA PSNR is above G's, by less than {LITTLE} dB, and its KTA PSNR is more than \
             {CLEARLY} dB below G's."
        ),
        checks.into_iter().map(diverged).collect(),
    )
}

fn fine_tuning_alone(study: &Study) -> Finding {
    let bound = Bound::Below(STAYS);
    let mut checks: Vec<Check> = of_methods(study, &FINE_TUNING)
        .map(|c| forgotten(study, c, bound).with_diverged(c, Diverging::Fails))
        .collect();
    if checks.is_empty() {
        checks.push(Check::missing("forgotten by ft", Unit::Share, bound));
    }
    Finding::new(
        2,
        "Fine-tuning on retain data alone does not unlearn.",
        "KTA 36.67 (FT) and 36.26 (Full FT) against 36.65 (G) and 31.82 (oracle): 0 % and 8 % of the way; in the paper's \
         Table 3 FT goes 25 % of it with 10 % of the retain data, and 32 % with half of them",
        format!(
            "Every fine-tuned network has lost less than {} of what the oracle has lost on KTA, \
             (G − method) / (G − oracle).",
            numbers::percent(STAYS)
        ),
        checks,
    )
}

fn forget_set_alone(study: &Study) -> Finding {
    let mut checks = Vec::new();
    for methods in [&ASCENT_ALONE[..], &NOISE_ALONE] {
        let before = checks.len();
        for c in of_methods(study, methods) {
            for (measure, against) in [
                (Measure::Bta, study.original()),
                (Measure::Kta, study.oracle()),
                (Measure::Ua, study.oracle()),
            ] {
                let below = against.and_then(|against| {
                    c.with(against, |run, against| Some(psnr(against, measure)? - psnr(run, measure)?))
                });
                let name = against.map_or("G or oracle", |against| against.label);
                let what = format!("{}, {name} minus {}", measure.name(), c.label);
                let check = Check::new(what, below, Unit::Db, Bound::Above(WRECKED));
                checks.push(check.with_diverged(c, Diverging::Meets));
            }
        }
        if checks.len() == before {
            let what = format!("a run of {}", methods.join(" or "));
            checks.push(Check::missing(what, Unit::Db, Bound::Above(WRECKED)));
        }
    }
    Finding::new(
        3,
        "Ascent or noisy labels on the forget set alone wreck everything.",
        "GA-ℓ1: BTA 39.07 → 16.19, KTA 14.15, UA 13.40; NL: BTA 16.44, KTA 17.39, UA 17.04 (oracle's KTA 31.82, UA \
         31.74)",
        format!(
            "Both kinds end more than {WRECKED} dB below G on BTA, and more than {WRECKED} dB below the oracle on KTA \
             and UA: they lose what should be kept, and more than was asked for. A network that diverged counts as \
             wrecked."
        ),
        checks,
    )
}

fn retain_in_the_mix(study: &Study) -> Finding {
    let mut checks = Vec::new();
    for methods in [&ASCENT_MIXED[..], &NOISE_MIXED] {
        let before = checks.len();
        for c in of_methods(study, methods) {
            let selective = study.original().and_then(|g| {
                c.with(g, |run, g| {
                    let lost = |measure| Some(psnr(g, measure)? - psnr(run, measure)?);
                    Some(lost(Measure::Kta)? - lost(Measure::Bta)?)
                })
            });
            let what = format!("{}: dB lost on KTA minus dB lost on BTA", c.label);
            checks.push(forgotten(study, c, Bound::Above(FORGOTTEN)).with_diverged(c, Diverging::Fails));
            checks.push(
                Check::new(what, selective, Unit::Db, Bound::Above(0.0)).with_diverged(c, Diverging::Fails),
            );
        }
        if checks.len() == before {
            let what = format!("a run of {}", methods.join(" or "));
            checks.push(Check::missing(what, Unit::Share, Bound::Above(FORGOTTEN)));
        }
    }
    for noise in of_methods(study, &NOISE_MIXED) {
        for ascent in of_methods(study, &ASCENT_MIXED).filter(|c| c.seeds().measured > 0) {
            let better = noise
                .with(ascent, |noise, ascent| Some(psnr(noise, Measure::Bta)? - psnr(ascent, Measure::Bta)?));
            let what = format!("BTA, {} minus {}", noise.label, ascent.label);
            checks.push(Check::new(what, better, Unit::Db, Bound::Above(0.0)));
        }
    }
    Finding::new(
        4,
        "With retain data in the mix both forget selectively, and NL-FT keeps most of BTA.",
        "GA-ℓ1-FT: BTA 31.81, KTA 27.09; NL-FT: BTA 38.24, KTA 31.18 (17.42 in a file beside the paper's code)",
        format!(
            "Ascent and noisy labels, mixed with retain data, have each lost more than {} of what the oracle has lost \
             on KTA, and more dB on KTA than on BTA; and NL-FT's BTA is above every mixed ascent's.",
            numbers::percent(FORGOTTEN)
        ),
        checks,
    )
}

fn more_retain_data(study: &Study) -> Finding {
    let mut checks = Vec::new();
    let mixed =
        |method: Option<&str>| method.is_some_and(|m| ASCENT_MIXED.contains(&m) || NOISE_MIXED.contains(&m));
    for sweep in study.sweeps().iter().filter(|sweep| mixed(sweep.method)) {
        let [first, .., last] = sweep.conditions[..] else { continue };
        if sweep.conditions.len() < 3 {
            continue;
        }
        let smaller = &sweep.conditions[..sweep.conditions.len() - 1];
        let bta = |c: &Condition| c.quality(Measure::Bta).map_or(f64::NEG_INFINITY, |q| q.psnr.mean);
        let Some(best) = smaller.iter().copied().max_by(|a, b| bta(a).total_cmp(&bta(b))) else { continue };
        let at = |c: &Condition| numbers::percent(c.fraction.unwrap_or_default());
        let gain = |more: &Condition, less: &Condition| {
            more.with(less, |more, less| Some(psnr(more, Measure::Bta)? - psnr(less, Measure::Bta)?))
        };
        let most = gain(best, first).map_or(HELP, |gain| HELP.min(BEYOND * gain.mean.max(0.0)));
        for (more, less, bound) in [(best, first, Bound::Above(HELP)), (last, best, Bound::Below(most))] {
            let gain = gain(more, less);
            let what = format!("{}: BTA at {} minus BTA at {}", sweep.label, at(more), at(less));
            let check = Check::new(what, gain, Unit::Db, bound);
            let lost = more.seeds().diverged + less.seeds().diverged;
            checks.push(if lost > 0 {
                check.noting(format!("without {lost} runs that diverged"))
            } else {
                check
            });
        }
    }
    if checks.is_empty() {
        let what = "NL-FT or an ascent with retain data at three fractions or more";
        checks.push(Check::missing(what, Unit::Db, Bound::Above(HELP)));
    }
    Finding::new(
        5,
        "More retain data does not help beyond a point.",
        "NL-FT: BTA 25.61 at 1 %, 38.83 at 20 %, 37.46 at 100 %; GA-ℓ1-FT: 25.39, 33.75, 31.93",
        format!(
            "For every mixed method that was run at three fractions or more: with the best fraction below the largest, \
             BTA is more than {HELP} dB above that of the smallest fraction (it helps up to there), and the largest \
             adds less than {HELP} dB, and less than {} of that, to it (not beyond). The best is chosen by what is judged, \
             which favours both.",
            numbers::percent(BEYOND)
        ),
        checks,
    )
}

/// How much of the oracle's loss on KTA a method has lost.
fn forgotten(study: &Study, condition: &Condition, bound: Bound) -> Check {
    let what = format!("{}: share of the oracle's loss on KTA", condition.label);
    let value = study.forgotten(condition);
    let check = Check::new(what, value, Unit::Share, bound);
    let nothing = value.is_none() && condition.seeds().measured > 0 && study.oracle().is_some();
    if nothing {
        let seeds = study.seeds_without_gap(condition);
        check.noting(if seeds.is_empty() {
            "G or the oracle was not measured on KTA with the same seeds".into()
        } else {
            format!(
                "the oracle is not {SMALLEST_GAP} dB below G on KTA with seed {}: there is no loss to have a share of",
                seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
            )
        })
    } else {
        check
    }
}

fn of_methods<'s, 'r>(study: &'s Study<'r>, methods: &'s [&str]) -> impl Iterator<Item = &'s Condition<'r>> {
    study.compared().filter(|c| c.method.is_some_and(|method| methods.contains(&method)))
}

/// Every check of every finding.
///
/// # Errors
/// Numbers that JSON or CSV cannot take.
pub fn table(findings: &[Finding]) -> Result<Table> {
    let rows: Vec<(&Finding, &Check)> = findings
        .iter()
        .flat_map(|finding| finding.checks.iter().map(move |check| (finding, check)))
        .collect();
    let mut last = 0;
    let shown = rows.iter().map(|(finding, check)| {
        let first = std::mem::replace(&mut last, finding.number) != finding.number;
        let named = |text: String| if first { text } else { String::new() };
        vec![
            named(format!("{}. {}", finding.number, finding.claim)),
            named(finding.verdict.name().into()),
            check.note.as_ref().map_or(check.what.clone(), |note| format!("{} ({note})", check.what)),
            check.value_text(),
            check.bound_text(),
            check.met_text().into(),
        ]
    });
    let header =
        ["finding of the paper", "verdict", "number", "value", "has to be", "is it"].map(String::from);
    let shown = Shown { header: header.to_vec(), rows: shown.collect(), words: 3 };
    let caption = format!("{RULE}\n\n{}", criteria(findings));
    let (name, title) = ("findings", "What the paper finds, and whether this study shows it");
    let mut table = Table::new(name, title, caption, shown, &rows, |(finding, check)| {
        Record::default()
            .put("finding", finding.number)
            .put("verdict", finding.verdict.name())
            .put("check", &check.what)
            .put_spread("value", check.value)
            .put_option("seeds", check.value.map(|value| value.count))
            .put("has_to_be", check.bound_text())
            .put("met", check.met_text())
            .put_option("note", check.note.as_deref())
    })?;
    // A finding with its checks reads better than checks with their finding.
    table.json = json::text(&findings)? + "\n";
    Ok(table)
}

/// How a check is judged.
pub const RULE: &str = "Values are means over seeds ± standard deviation over seeds, of differences within a seed. A value \
                        passes its bound if it does by more than the deviation; with one seed there is none, and the value \
                        alone decides. A finding is shown if all of its checks pass. That is no test of a fixed level: where the \
                        true mean lies on its bound, a value passes by chance in 50 % of studies with one seed, in 20 % \
                        with two, 11 % with three and 3 % with six.";

fn criteria(findings: &[Finding]) -> String {
    let lines: Vec<String> =
        findings.iter().map(|f| format!("{}. {} The paper: {}.", f.number, f.criterion, f.paper)).collect();
    lines.join("\n")
}
