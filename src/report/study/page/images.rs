//! Images to compare: without a script, all of a slice side by side; with it, any two of them under a slider.

use maud::html;

use super::Section;
use crate::error::Result;
use crate::report::page::data;
use crate::report::study::Report;
use crate::report::study::figures::pictures::Loaded;

/// None where there are no pictures.
///
/// # Errors
/// An image that cannot be encoded.
pub fn section(report: &Report) -> Result<Option<Section>> {
    let pictures: Vec<&Loaded> = report.pictures.iter().filter(|p| p.picture.worst_of.is_none()).collect();
    if pictures.is_empty() {
        return Ok(None);
    }
    let original = report.study.original().map(|c| c.label);
    let nearest = report.study.nearest().map(|(c, _)| c.label);
    let mut slices = Vec::new();
    for picture in pictures {
        slices.push((picture.name(), stills(picture, original, nearest)?));
    }
    let body = html! {
        p.script-only {
            "Drag across an image: the left choice is shown left of the line, the right choice right of it. Tap a small \
             image to put it on the right."
        }
        p {
            "All images of a slice share one window. Numbers are of the slice, in the range of its volume."
        }
        @for (name, stills) in slices {
            article.compare data-name=(name) {
                h3 { (name) }
                (stills)
            }
        }
    };
    Ok(Some(Section { id: "images", title: "Images".into(), body }))
}

/// Target and networks; `left` and `right` are what the slider begins with.
fn stills(picture: &Loaded, left: Option<&str>, right: Option<&str>) -> Result<maud::Markup> {
    let images = picture.grey()?;
    let [height, width] = picture.picture.size;
    let right = right.filter(|right| images.iter().any(|(label, _)| label == right));
    let right = right.or(images.last().map(|(label, _)| *label));
    let side = |i: usize, label: &str| match label {
        // The target is no network, whatever a network is called.
        _ if i == 0 => None,
        label if Some(label) == left => Some("left"),
        label if Some(label) == right => Some("right"),
        _ => None,
    };
    let numbers = |i: usize| {
        let scores = picture.scores(&picture.images.get(i.checked_sub(1)?)?.1);
        Some(scores.map_or_else(|| "not finite".into(), |s| format!("{:.2} dB / {:.3}", s.psnr, s.ssim)))
    };
    Ok(html! {
        div.stills {
            @for (i, (label, png)) in images.iter().enumerate() {
                figure data-side=[side(i, label)] {
                    img src=(data(png)) width=(width) height=(height)
                        alt={ (label) ", " (picture.name()) };
                    figcaption { b { (label) } @if let Some(numbers) = numbers(i) { br; (numbers) } }
                }
            }
        }
    })
}
