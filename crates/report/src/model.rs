//! The page about a model.

use crate::data::{Fact, Graph, ModelPage};
use crate::frame::{Head, Section, Tile, document, scroll};
use crate::modules::Modules;
use crate::palette::Palette;
use crate::{comparison, conversion, findings, tensors, text, treemap, types, values};
use maud::{Markup, html};

/// Most files, keys and notes listed.
const FILES: usize = 50;
const KEYS: usize = 300;
const NOTES: usize = 100;
/// Most operators and names of a graph.
const OPERATORS: usize = 60;
const ENDS: usize = 40;
/// Longest value of a key.
const VALUE: usize = 300;

/// The page about a model as one HTML document.
pub fn model_page(page: &ModelPage) -> String {
    let palette = Palette::of(&page.tensors);
    let modules = Modules::of(&page.tensors, &palette);
    let mut sections = Vec::new();
    let mut add = |id, title: &str, body| {
        sections.push(Section {
            id,
            title: title.to_owned(),
            body,
        });
    };
    add("facts", "What it is", facts(page));
    add("findings", "Safety", findings::findings(&page.scan));
    if modules.root().bytes > 0 {
        add(
            "bytes",
            "Where the bytes are",
            bytes(&modules, &palette, page),
        );
    }
    if !page.tensors.is_empty() {
        add(
            "types",
            "Types by layer",
            types::by_layer(&page.tensors, &palette),
        );
    }
    if let Some(found) = &page.comparison {
        add(
            "errors",
            "Error of each tensor",
            comparison::comparison(found, &page.tensors),
        );
    }
    if let Some(section) = page
        .values
        .as_ref()
        .filter(|section| !section.roles.is_empty())
    {
        add(
            "values",
            "What the weights are like",
            values::values(section),
        );
    }
    if let Some(done) = &page.conversion {
        add(
            "conversion",
            "What the conversion kept and dropped",
            conversion::conversion(done),
        );
    }
    if !page.reading.is_empty() || !page.notes.is_empty() {
        add("reading", "What reading it showed", reading(page));
    }
    if let Some(graph) = &page.graph {
        add("graph", "Graph", operators(graph));
    }
    if !page.tensors.is_empty() {
        add(
            "tensors",
            "Tensors",
            tensors::tensors(&page.tensors, &palette),
        );
    }
    if !page.metadata.is_empty() {
        add("metadata", "Metadata", metadata(&page.metadata));
    }
    let title = text::name(&page.title);
    let head = Head {
        title: &title,
        kind: "Model report",
        lead: lead(page),
        tiles: tiles(page, &palette),
    };
    document(&head, &sections)
}

fn lead(page: &ModelPage) -> Markup {
    html! {
        p class="lead" {
            @if !page.version.starts_with(&page.format) { (text::name(&page.format)) @if !page.version.is_empty() { ", " } }
            (text::name(&page.version))
            @if page.source != page.title { " · " code { (text::name(&page.source)) } }
        }
    }
}

fn tiles(page: &ModelPage, palette: &Palette) -> Vec<Tile> {
    let tile = |what, figure: String, more| Tile {
        what,
        figure: html! { (figure) },
        more,
    };
    let widest = palette.types.iter().max_by_key(|line| line.bytes);
    let verdict = findings::verdict(&page.scan);
    let count: usize = page.scan.files.iter().map(|file| file.findings.len()).sum();
    let mut tiles = vec![
        tile("Parameters", text::many(page.parameters), String::new()),
        tile(
            "Size",
            text::bytes(page.bytes),
            text::count(page.files.len() as u64, "file"),
        ),
        tile(
            "Tensors",
            text::thousands(page.tensors.len() as u64),
            match widest {
                Some(line) if page.tensors.len() > 1 => {
                    format!("most bytes in {}", text::name(&line.dtype))
                }
                _ => String::new(),
            },
        ),
        tile(
            "Bits a weight",
            text::bits(page.bytes, page.parameters),
            String::new(),
        ),
        Tile {
            what: "Scan",
            figure: html! { span class=(findings::tone(verdict)) { (verdict) } },
            more: if count == 0 {
                String::new()
            } else {
                text::count(count as u64, "finding")
            },
        },
    ];
    if page.parameters == 0 {
        tiles.remove(3);
    }
    tiles
}

fn facts(page: &ModelPage) -> Markup {
    html! {
        dl class="facts" {
            @for fact in &page.facts {
                div { dt { code { (text::breaking(&text::name(&fact.key))) } } dd { (text::printable(&text::short(&fact.value, VALUE))) } }
            }
        }
        @if !page.files.is_empty() {
            details open[page.files.len() <= 4] {
                summary { (text::count(page.files.len() as u64, "file")) }
                ul class="names" {
                    @for file in page.files.iter().take(FILES) {
                        li { code { (text::name(&file.path)) } " " span class="soft" { (text::bytes(file.bytes)) } }
                    }
                }
                @if page.files.len() > FILES {
                    p class="note" { "And " (text::thousands((page.files.len() - FILES) as u64)) " more." }
                }
            }
        }
    }
}

fn bytes(modules: &Modules, palette: &Palette, page: &ModelPage) -> Markup {
    let largest: Vec<String> = modules
        .below(modules.root())
        .iter()
        .take(3)
        .map(|m| {
            format!(
                "{} {}",
                text::name(&m.path),
                text::share(m.bytes, page.bytes)
            )
        })
        .collect();
    let summary = format!(
        "Treemap of {} in {}; the largest: {}. The table below has all modules.",
        text::bytes(page.bytes),
        text::count(modules.root().tensors, "tensor"),
        largest.join(", ")
    );
    html! {
        p class="note" { "Each rectangle is a tensor or a module, as large as its bytes, in the colour of its type." }
        (treemap::treemap(modules, &summary))
        (types::legend(palette, page.bytes))
        details { summary { "The same as a table of modules" } (tensors::modules(modules)) }
    }
}

fn reading(page: &ModelPage) -> Markup {
    html! {
        @if !page.notes.is_empty() {
            ul class="names" { @for note in page.notes.iter().take(NOTES) { li { (text::printable(&text::short(note, VALUE))) } } }
            @if page.notes.len() > NOTES {
                p class="note" { "And " (text::thousands((page.notes.len() - NOTES) as u64)) " more." }
            }
        }
        @if !page.reading.is_empty() {
            (conversion::records("reading-table", "What the reader chose", &page.reading))
        }
    }
}

fn operators(graph: &Graph) -> Markup {
    let ends = |names: &[String]| {
        let mut shown: Vec<String> = names
            .iter()
            .take(ENDS)
            .map(|name| text::name(name))
            .collect();
        if names.len() > ENDS {
            shown.push(format!("and {} more", names.len() - ENDS));
        }
        shown.join(", ")
    };
    html! {
        dl class="facts" {
            div { dt { "Nodes" } dd { (text::thousands(graph.nodes)) } }
            div { dt { "From" } dd { (ends(&graph.inputs)) } }
            div { dt { "To" } dd { (ends(&graph.outputs)) } }
        }
        ul class="chips" {
            @for (name, n) in graph.operators.iter().take(OPERATORS) {
                li { code { (text::name(name)) } " " span class="soft" { (text::thousands(*n)) } }
            }
        }
        @if graph.operators.len() > OPERATORS {
            p class="note" { "And " (text::thousands((graph.operators.len() - OPERATORS) as u64)) " more operators." }
        }
    }
}

fn metadata(facts: &[Fact]) -> Markup {
    let table = html! {
        table data-sort {
            thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } } }
            tbody {
                @for fact in facts.iter().take(KEYS) {
                    tr { th scope="row" class="name" { code { (text::breaking(&text::name(&fact.key))) } } td class="words" { (text::printable(&text::short(&fact.value, VALUE))) } }
                }
            }
        }
    };
    html! {
        details {
            summary { (text::count(facts.len() as u64, "key")) }
            (scroll("Metadata", &table))
            @if facts.len() > KEYS {
                p class="note" { "And " (text::thousands((facts.len() - KEYS) as u64)) " more." }
            }
        }
    }
}

#[cfg(test)]
mod tests;
