//! An audit as one page: everything that its record holds, for whoever asked for the data to be forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use maud::{Markup, html};

use super::text::{self, estimate};
use crate::atomic;
use crate::audit::Audit;
use crate::audit::distance::Moved;
use crate::audit::evidence::{Difference, Each, NetworkScores, SetEvidence, WeightsFile};
use crate::audit::flags;
use crate::audit::interval::Estimate;
use crate::audit::relearn::Relearned;
use crate::audit::settings::SetRole;
use crate::data::digest::VolumeDigest;
use crate::error::Result;
use crate::provenance::Provenance;
use crate::report::page::{self, Section, chart, grid, unbroken};
use crate::report::study::figures::draw;
use crate::report::study::figures::relearn::RelearnCurves;
use crate::report::study::numbers;

/// Writes audit.html beside a record; returns where.
///
/// # Errors
/// A record that cannot be read, a full disk.
pub fn write_page(record: &Path) -> Result<PathBuf> {
    let path = record.with_extension("html");
    atomic::write_bytes(&path, page(&Audit::read(record)?)?.as_bytes())?;
    Ok(path)
}

/// The page as HTML.
///
/// # Errors
/// What plotters cannot draw.
pub fn page(audit: &Audit) -> Result<String> {
    let sections = [
        summary(audit),
        scores(audit),
        membership(audit),
        relearning(audit)?,
        distances(audit),
        forgotten(audit),
        networks(audit),
        settings(audit),
    ];
    let sections: Vec<Section> = sections
        .into_iter()
        .flatten()
        .map(|(id, title, body)| Section { id, title: title.into(), body })
        .collect();
    let run = audit.run.directory.file_name().unwrap_or(audit.run.directory.as_os_str());
    let kicker = format!("Audit of an unlearning run · {}", run.to_string_lossy());
    let title = match audit.run.title.as_str() {
        // A run that diverged said nothing.
        "" => &audit.run.method,
        title => title,
    };
    Ok(page::page(&kicker, title, &sections, &audit.provenance.kerase))
}

/// Id, title and body; none where there is nothing to show.
type Part = Option<(&'static str, &'static str, Markup)>;

fn words(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.into()).collect()
}

fn dash() -> String {
    "–".into()
}

fn summary(audit: &Audit) -> Part {
    let run = &audit.run;
    let body = html! {
        dl {
            @if let Some(id) = &audit.request.id { dt { "Request" } dd { (id) } }
            @if let Some(reason) = &audit.request.reason { dt { "Reason" } dd { (reason) } }
            dt { "Forgotten" } dd { (audit.forget().slices) " slices of " (audit.forget().volumes) " volumes" }
            dt { "Method" } dd { (run.method) @if !run.objective.is_empty() { ": " (run.objective) } }
            dt { "Effort" } dd { (run.steps) " steps, " (numbers::duration(run.seconds)) " spent in them" }
        }
        h3 { "What stands out" }
        @if audit.flags.is_empty() { p { (text::no_flags(audit)) } }
        @else {
            ul.warnings { @for flag in &audit.flags { li { b { (flag.kind.name()) ": " } (unbroken(&flag.text)) } } }
        }
        @if let Some(not_judged) = text::not_judged(audit) { p { (not_judged) } }
        @if !run.warnings.is_empty() {
            h3 { "What the run itself found odd" }
            ul.warnings { @for warning in &run.warnings { li { (unbroken(warning)) } } }
        }
        @if !audit.notes.is_empty() {
            h3 { "What cannot be said" }
            ul { @for note in &audit.notes { li { (unbroken(note)) } } }
        }
        p.note { (audit.note) }
    };
    Some(("summary", "Summary", body))
}

fn scores(audit: &Audit) -> Part {
    let header = words(&["set", "volumes", "original", "unlearned", "oracle"]);
    let table = |of: fn(&NetworkScores) -> Estimate, decimals: usize, unit: &str| {
        let row = |set: &SetEvidence| {
            let Each { before, after, oracle } = &set.scores;
            let number = |scores: &NetworkScores| estimate(of(scores), decimals, unit);
            let numbers = [before, after, oracle].map(|scores| scores.as_ref().map_or_else(dash, number));
            [vec![set.set.clone(), set.volumes.to_string()], numbers.to_vec()].concat()
        };
        grid(&header, &audit.sets.iter().map(row).collect::<Vec<_>>(), 1, false)
    };
    let psnr = |of: Option<Difference>| of.map_or_else(dash, |of| flags::decibels(of.psnr));
    let ssim = |of: Option<Difference>| of.map_or_else(dash, |of| flags::ssim(of.ssim));
    let changes = audit.sets.iter().map(|set| {
        let (change, against) = (set.change, set.against_oracle);
        vec![set.set.clone(), psnr(change), psnr(against), ssim(change), ssim(against)]
    });
    let body = html! {
        h3 { "PSNR" }
        (table(|scores| scores.psnr, 2, " dB"))
        h3 { "SSIM" }
        (table(|scores| scores.ssim, 3, ""))
        h3 { "Training loss" }
        (table(|scores| scores.loss, 4, ""))
        h3 { "The unlearned network less the others, volume by volume" }
        (grid(
            &words(&["set", "PSNR, original", "PSNR, oracle", "SSIM, original", "SSIM, oracle"]),
            &changes.collect::<Vec<_>>(),
            1,
            false,
        ))
        p.caption {
            "Means over volumes; in brackets intervals of " (100.0 * audit.confidence) " % by Student's t. They speak of \
             other volumes, not of other trainings."
        }
    };
    Some(("scores", "Scores", body))
}

fn membership(audit: &Audit) -> Part {
    let mut rows: Vec<Vec<String>> =
        audit.membership.named().map(|(name, auc)| vec![name.into(), flags::auc(auc)]).collect();
    if let Some(difference) = &audit.membership_against_oracle {
        rows.push(vec!["unlearned less oracle".into(), flags::auc_difference(difference)]);
    }
    if let Some(difference) = &audit.membership_of_original {
        rows.push(vec!["original less oracle".into(), flags::auc_difference(difference)]);
    }
    let body = html! {
        p {
            "Does a network's loss tell a slice of the forget set from one of unseen volumes of its kind? 0.5 tells \
             nothing. The oracle's number is that of a network that never saw the forget set: where there is one, it is \
             what the unlearned network's is to be compared with, and flags go by the difference. The original's difference \
             says whether losses tell at all what a network was trained on."
        }
        (grid(&words(&["network", "AUC"]), &rows, 1, false))
    };
    (!rows.is_empty()).then_some(("membership", "Membership inference", body))
}

fn relearning(audit: &Audit) -> Result<Part> {
    let Some(relearning) = &audit.relearning else { return Ok(None) };
    let most = relearning.most_steps;
    let half = |loss: f64, network: &Relearned| flags::back(network.steps_to(loss), most, network.diverged);
    let row = |(name, network): (&str, &Relearned)| {
        let half = relearning.half.as_ref().map_or_else(dash, |of| half(of.loss, network));
        vec![name.into(), half, flags::relearned(network, most)]
    };
    let rows: Vec<Vec<String>> = relearning.networks.named().map(row).collect();
    let title = "Loss on the forget set while it is relearned";
    let curves = RelearnCurves::of(std::iter::once(("forget set", relearning)));
    let svg = curves.map(|curves| draw::svg(&curves)).transpose()?;
    let body = html! {
        p {
            "Each network was fine-tuned on the forget set until its loss there was back at the original's, "
            (format!("{:.4}", relearning.goal)) ". One that is back much sooner than the oracle, or half-way back from \
             where the oracle begins, seems to have kept something."
        }
        (grid(&words(&["network", "half-way back", "the loss is back"]), &rows, 3, false))
        @if let Some(svg) = &svg { figure { div.scroll tabindex="0" { (chart(title, svg)) } } }
    };
    Ok(Some(("relearning", "Relearning", body)))
}

fn distances(audit: &Audit) -> Part {
    let moved = |moved: Option<Moved>| {
        moved.map_or_else(dash, |m| format!("{:.4}, {} changed", m.relative_l2, numbers::percent(m.changed)))
    };
    let rows: Vec<Vec<String>> = audit
        .distances
        .iter()
        .map(|part| vec![part.part.clone(), part.weights.to_string(), moved(part.after), moved(part.oracle)])
        .collect();
    let body = html! {
        p { "How far weights lie from the original's, relative to their norm, and how many have other bits." }
        (grid(&words(&["part", "weights", "unlearned", "oracle"]), &rows, 1, false))
    };
    Some(("distances", "Distances", body))
}

fn forgotten(audit: &Audit) -> Part {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = |volume: &VolumeDigest| {
        vec![name(&volume.path), volume.slices.len().to_string(), volume.sha256.clone()]
    };
    let files: Vec<Vec<String>> = audit.forget().files.iter().map(file).collect();
    let folders: BTreeSet<&Path> =
        audit.forget().files.iter().filter_map(|volume| volume.path.parent()).collect();
    let body = html! {
        (grid(&words(&["file", "slices", "SHA-256 of the file"]), &files, 1, false))
        p.caption {
            "From "
            @for (i, folder) in folders.iter().enumerate() { @if i > 0 { ", " } (folder.display()) }
        }
        details {
            summary { "Every slice" }
            @for volume in &audit.forget().files {
                @let slices: Vec<Vec<String>> =
                    volume.slices.iter().map(|s| vec![s.slice.to_string(), s.sha256.clone()]).collect();
                h3 { (name(&volume.path)) }
                (grid(&words(&["slice", "SHA-256 of its numbers"]), &slices, 2, false))
            }
        }
        details {
            summary { "Files of the other sets" }
            @for set in audit.sets.iter().filter(|set| set.role != SetRole::Forget) {
                @let files: Vec<Vec<String>> = set.files.iter().map(file).collect();
                h3 { (set.set) }
                (grid(&words(&["file", "slices", "SHA-256 of the file"]), &files, 1, false))
            }
        }
    };
    Some(("forgotten", "What was forgotten", body))
}

fn networks(audit: &Audit) -> Part {
    let row = |(name, file): (&str, &WeightsFile)| {
        vec![name.into(), file.path.display().to_string(), file.sha256.clone()]
    };
    let rows: Vec<Vec<String>> = audit.weights.named().map(row).collect();
    let body = html! {
        (grid(&words(&["network", "file", "SHA-256 of its weights"]), &rows, 2, false))
        p.caption {
            "The record's own SHA-256 is " code { (audit.sha256) } ". " code { "kerase verify audit.json" } " computes all \
             of them again."
        }
    };
    Some(("networks", "Networks", body))
}

fn settings(audit: &Audit) -> Part {
    let build = |by: &Provenance| {
        let Provenance { kerase, commit, device, machine, precision } = by;
        let commit = commit.as_deref().unwrap_or("not known");
        format!("kerase {kerase}, commit {commit}, on {device} in {precision}: {machine}")
    };
    let body = html! {
        dl {
            dt { "Unlearned by" } dd { (audit.run.by.as_ref().map_or_else(|| "not known".into(), build)) }
            dt { "Measured by" } dd { (build(&audit.provenance)) }
            dt { "Run" } dd { (audit.run.directory.display()) }
            dt { "config.toml" } dd { "SHA-256 " code { (audit.run.config_sha256) } }
            @if let Some(sha256) = &audit.run.unlearning_sha256 {
                dt { "unlearning.json" } dd { "SHA-256 " code { (sha256) } }
            }
        }
        h3 { "The run's settings" }
        pre.scroll tabindex="0" { (audit.run.settings) }
    };
    Some(("settings", "Settings, hardware and versions", body))
}
