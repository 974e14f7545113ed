//! The table of tensors, and the table of modules that the treemap draws.

use crate::data::TensorRow;
use crate::frame::{bar, filter, scroll};
use crate::histogram::histogram;
use crate::modules::{Module, Modules};
use crate::palette::{Palette, class};
use crate::text;
use crate::types::swatch;
use crate::values::finite_figure;
use maud::{Markup, html};
use std::cmp::Reverse;

/// Most rows of the table of tensors.
const ROWS: usize = 1000;
/// Most rows of the table of modules, rows below one module, and levels.
const MODULE_ROWS: usize = 300;
const MODULE_CHILDREN: usize = 48;
const MODULE_LEVELS: usize = 3;

/// The modules as a table: what the treemap shows, in words and figures.
pub(crate) fn modules(modules: &Modules) -> Markup {
    let mut rows = Vec::new();
    let left_out = collect(modules, modules.root(), 0, &mut rows);
    let all = modules.root().bytes;
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Module" }
                th scope="col" class="n" { "Tensors" }
                th scope="col" class="n" { "Parameters" }
                th scope="col" class="n" { "Size" }
                th scope="col" class="n" { "Share" }
            } }
            tbody {
                @for (level, module) in &rows {
                    tr {
                        th scope="row" class=(level_class(*level)) { code { (text::breaking(&text::name(&module.path))) } }
                        td class="n" { (text::thousands(module.tensors)) }
                        td class="n" { (text::many(module.elements)) }
                        td class="n" { (text::bytes(module.bytes)) }
                        td class="n bars" { (text::share(module.bytes, all)) (bar(module.bytes, all, class(module.colour()))) }
                    }
                }
            }
        }
    };
    html! {
        (scroll("Modules", &table))
        @if left_out > 0 {
            p class="note" { (text::count(left_out, "smaller module")) " at these levels are left out." }
        }
    }
}

fn level_class(level: usize) -> &'static str {
    ["l0", "l1", "l2"].get(level).copied().unwrap_or("l2")
}

/// Rows in the order of the tree; answers how many are left out. Bounded by `MODULE_LEVELS`.
fn collect<'a>(
    modules: &'a Modules,
    module: &Module,
    level: usize,
    rows: &mut Vec<(usize, &'a Module)>,
) -> u64 {
    let mut left_out = 0;
    for (rank, child) in modules.below(module).into_iter().enumerate() {
        if rank >= MODULE_CHILDREN || rows.len() >= MODULE_ROWS {
            left_out += 1;
            continue;
        }
        rows.push((level, child));
        if level + 1 < MODULE_LEVELS {
            left_out += collect(modules, child, level + 1, rows);
        }
    }
    left_out
}

/// Indices of the tensors that get a row of their own, in the model's order: the largest.
pub fn shown(tensors: &[TensorRow]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    if order.len() > ROWS {
        order.sort_by_key(|at| (Reverse(tensors[*at].bytes), *at));
        order.truncate(ROWS);
        order.sort_unstable();
    }
    order
}

/// The table of tensors.
pub(crate) fn tensors(tensors: &[TensorRow], palette: &Palette) -> Markup {
    let shown = shown(tensors);
    let rest = tensors.len() - shown.len();
    let all = tensors
        .iter()
        .fold(0u64, |n, tensor| n.saturating_add(tensor.bytes));
    let held = shown
        .iter()
        .fold(0u64, |n, at| n.saturating_add(tensors[*at].bytes));
    let values = tensors.iter().any(|tensor| tensor.values.is_some());
    let table = html! {
        table id="tensors-table" data-sort {
            thead { tr {
                th scope="col" { "Name" }
                th scope="col" { "Type" }
                th scope="col" { "Shape" }
                th scope="col" class="n" { "Size" }
                @if values {
                    th scope="col" data-plain { "Values" }
                    @for head in ["Min", "Max", "Mean", "Std", "Zeros", "NaN, ∞"] { th scope="col" class="n" { (head) } }
                }
            } }
            tbody { @for at in &shown { (row(&tensors[*at], palette, values)) } }
        }
    };
    html! {
        @if rest > 0 {
            p class="note" {
                "The " (text::thousands(shown.len() as u64)) " largest of " (text::count(tensors.len() as u64, "tensor"))
                ". The other " (text::thousands(rest as u64)) " take " (text::bytes(all - held)) " together; they count in all sums and pictures of this page."
            }
        }
        (filter("tensors-table", "Filter tensors", &[]))
        (scroll("Tensors", &table))
    }
}

fn row(tensor: &TensorRow, palette: &Palette, values: bool) -> Markup {
    html! {
        tr {
            th scope="row" class="name" { code { (text::breaking(&text::name(&tensor.name))) }
                @if let Some(first) = &tensor.tied_to { " " span class="soft" { "is " code { (text::name(first)) } } } }
            td class="tight" { (swatch(palette.colour(&tensor.dtype))) (text::name(&tensor.dtype)) }
            td class="tight" data-v=(tensor.elements) { (text::shape(&tensor.shape)) }
            td class="n" data-v=(tensor.bytes) { (text::bytes(tensor.bytes)) }
            @if values { (figures(tensor)) }
        }
    }
}

fn figures(tensor: &TensorRow) -> Markup {
    let Some(values) = &tensor.values else {
        return html! { td { } @for _ in 0..6 { td class="n" data-v="" { "–" } } };
    };
    let bad = values.nan.saturating_add(values.infinite);
    html! {
        td class="spark" { (histogram(values, &text::name(&tensor.name), "small")) }
        @for x in [values.min, values.max, values.mean, values.std] {
            td class="n" data-v=(x) { (finite_figure(values, x)) }
        }
        td class="n" data-v=(values.zeros as f64 / values.read.max(1) as f64) { (text::share(values.zeros, values.read)) }
        td class={ "n" @if bad > 0 { " bad" } } data-v=(bad) { (text::thousands(bad)) }
    }
}
