//! What every page has around its content: policy, style, script, header.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../assets/page.css");
const SCRIPT: &str = include_str!("../assets/page.js");

/// A part of a page.
pub(crate) struct Section {
    /// Its anchor.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) body: Markup,
}

/// The head of a page.
pub(crate) struct Head<'a> {
    pub(crate) title: &'a str,
    /// What kind of page it is.
    pub(crate) kind: &'a str,
    /// Below the title.
    pub(crate) lead: Markup,
    /// The figures that matter most: what, how much, and more about it.
    pub(crate) tiles: Vec<Tile>,
}

/// A figure in the head.
pub(crate) struct Tile {
    pub(crate) what: &'static str,
    pub(crate) figure: Markup,
    pub(crate) more: String,
}

/// The whole document.
pub(crate) fn document(head: &Head, sections: &[Section]) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content="weightbridge";
                title { (head.title) " – " (head.kind) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    div class="top" {
                        p class="kind" { (head.kind) }
                        button id="theme" type="button" hidden { "Dark" }
                    }
                    h1 { (head.title) }
                    (head.lead)
                    dl class="tiles" {
                        @for tile in &head.tiles {
                            div { dt { (tile.what) } dd { (tile.figure) @if !tile.more.is_empty() { span class="more" { (tile.more) } } } }
                        }
                    }
                    nav aria-label="Sections" { ul { @for section in sections { li { a href={ "#" (section.id) } { (section.title) } } } } }
                }
                main id="main" {
                    @for section in sections {
                        section id=(section.id) aria-labelledby={ (section.id) "-title" } {
                            h2 id={ (section.id) "-title" } { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer { p { "Made by weightbridge. One file: nothing is loaded from anywhere." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// Nothing from anywhere, and of style and script exactly those of this crate.
fn policy() -> String {
    let hash = |text: &str| BASE64.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// A table that scrolls by itself where it is wider than the screen.
pub(crate) fn scroll(label: &str, table: &Markup) -> Markup {
    html! { div class="scroll" role="region" aria-label=(label) tabindex="0" { (table) } }
}

/// The field that filters a table, and a choice of words that a row must have. The script shows it.
pub(crate) fn filter(table: &str, label: &str, choices: &[&str]) -> Markup {
    html! {
        div class="filter" data-for=(table) hidden {
            label { span { (label) } input type="search" autocomplete="off" spellcheck="false"; }
            @if !choices.is_empty() {
                label { span { "Show" } select {
                    option value="" { "all" }
                    @for choice in choices { option value=(choice) { (choice) } }
                } }
            }
            output aria-live="polite" {}
        }
    }
}

/// A bar for a share of a whole.
pub(crate) fn bar(part: u64, whole: u64, class: &str) -> Markup {
    let width = format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64);
    html! {
        svg class="bar" aria-hidden="true" width="100%" height="4" { rect class=(class) width=(width) height="4" {} }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_stay_inside_their_elements() {
        assert!(!STYLE.contains('<') && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        for word in [
            "innerHTML",
            "eval",
            "fetch(",
            "http:",
            "https:",
            "document.write",
        ] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
