//! A self-contained HTML page: nothing is loaded from elsewhere, charts are inline, images are data.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A part of the page with an entry in its contents.
pub struct Section {
    /// In links; letters and dashes.
    pub id: &'static str,
    pub title: String,
    pub body: Markup,
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The browser itself refuses whatever would be loaded.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The whole page. `kicker` stands above its title, `kerase` is the version that computed what it shows.
pub fn page(kicker: &str, title: &str, sections: &[Section], kerase: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { (kicker) }
                    h1 { (title) }
                    nav aria-label="Contents" {
                        @for section in sections { a href={ "#" (section.id) } { (section.title) } " " }
                    }
                }
                main {
                    @for section in sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer {
                    p { (crate::unlearn::record::NOTE) }
                    p { "Made by kerase " (kerase) "." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Numbers stay on the line of their unit and their deviation.
pub fn unbroken(text: &str) -> String {
    [(" %", "\u{a0}%"), (" dB", "\u{a0}dB"), (" ± ", "\u{a0}±\u{a0}")]
        .into_iter()
        .fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// A table that scrolls within itself. `wrapped` lets its words break into lines.
pub fn grid(header: &[String], rows: &[Vec<String>], words: usize, wrapped: bool) -> Markup {
    let word = |i: usize| (i < words).then_some("word");
    html! {
        div.scroll tabindex="0" {
            table.wrapped[wrapped] {
                thead { tr { @for (i, cell) in header.iter().enumerate() { th scope="col" class=[word(i)] { (cell) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @if i == 0 { th scope="row" class="word" { (unbroken(cell)) } }
                                @else { td class=[word(i)] { (unbroken(cell)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A chart that plotters wrote, whose text it escaped. In a page, SVG needs no namespace.
pub fn chart(title: &str, svg: &str) -> Markup {
    let name = html! { (title) }.into_string();
    let start = format!("<svg class=\"plot\" role=\"img\" aria-label=\"{name}\" ");
    let inline = svg.replacen("<svg ", &start, 1).replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    html! { (PreEscaped(inline)) }
}

/// A PNG file as an address that holds it.
pub fn data(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}
