//! Which types tensors have: in all, and layer by layer.

use crate::data::TensorRow;
use crate::frame::{bar, scroll};
use crate::grid::{Shade, stacks};
use crate::palette::{Palette, class};
use crate::place::place;
use crate::text;
use maud::{Markup, html};

/// Most tensors outside all layers that are listed.
const OUTSIDE_SHOWN: usize = 24;
/// Most types in the table.
const TYPES_SHOWN: usize = 60;

/// The table of types, which is the legend of all pictures too.
pub(crate) fn legend(palette: &Palette, bytes: u64) -> Markup {
    let table = html! {
        table data-sort {
            thead { tr {
                th scope="col" { "Type" }
                th scope="col" class="n" { "Tensors" }
                th scope="col" class="n" { "Parameters" }
                th scope="col" class="n" { "Size" }
                th scope="col" class="n" { "Share" }
                th scope="col" class="n" { abbr title="bits a weight, scales included" { "Bits/weight" } }
            } }
            tbody {
                @for line in palette.types.iter().take(TYPES_SHOWN) {
                    tr {
                        th scope="row" class="tight" { (swatch(line.colour)) code { (text::name(&line.dtype)) } }
                        td class="n" data-v=(line.tensors) { (text::thousands(line.tensors)) }
                        td class="n" data-v=(line.elements) { (text::many(line.elements)) }
                        td class="n" data-v=(line.bytes) { (text::bytes(line.bytes)) }
                        td class="n bars" data-v=(line.bytes) {
                            (text::share(line.bytes, bytes))
                            (bar(line.bytes, bytes, class(line.colour)))
                        }
                        td class="n" data-v=(text::bits(line.bytes, line.elements)) { (text::bits(line.bytes, line.elements)) }
                    }
                }
            }
        }
    };
    html! {
        (scroll("Types", &table))
        @if palette.types.len() > TYPES_SHOWN {
            p class="note" { (text::thousands((palette.types.len() - TYPES_SHOWN) as u64)) " more types are left out." }
        }
    }
}

/// A spot of a type's colour.
pub(crate) fn swatch(colour: usize) -> Markup {
    html! {
        svg class="swatch" aria-hidden="true" width="12" height="12" {
            rect class=(class(colour)) width="12" height="12" rx="3" {}
        }
    }
}

/// Types, layer by layer.
pub(crate) fn by_layer(tensors: &[TensorRow], palette: &Palette) -> Markup {
    let (stacks, left_out) = stacks(tensors);
    let outside: Vec<&TensorRow> = tensors
        .iter()
        .filter(|tensor| place(&tensor.name).layer.is_none())
        .collect();
    let shade = |members: &[usize]| shade(members, tensors, palette);
    html! {
        @for stack in &stacks {
            h3 { code { (text::name(&stack.name)) } " " span class="soft" { (text::count(stack.layers.len() as u64, "layer")) } }
            (stack.draw(shade))
            @if stack.left_out > 0 {
                p class="note" { (text::count(stack.left_out as u64, "further role")) " in these layers are not drawn." }
            }
        }
        @if left_out > 0 {
            p class="note" { (text::count(left_out as u64, "further stack")) " of layers are not drawn; the table of tensors has the largest of their tensors." }
        }
        @if !outside.is_empty() {
            h3 { "Outside the layers" }
            ul class="chips" {
                @for tensor in outside.iter().take(OUTSIDE_SHOWN) {
                    li { (swatch(palette.colour(&tensor.dtype))) code { (text::name(&tensor.name)) } " "
                        span class="soft" { (text::name(&tensor.dtype)) @if tensor.tied_to.is_none() { ", " (text::bytes(tensor.bytes)) } @else { ", tied" } } }
                }
            }
            @if outside.len() > OUTSIDE_SHOWN {
                p class="note" { "And " (text::thousands((outside.len() - OUTSIDE_SHOWN) as u64)) " more." }
            }
        }
    }
}

/// The type that most bytes of a cell have.
fn shade(members: &[usize], tensors: &[TensorRow], palette: &Palette) -> Option<Shade> {
    let members = members.iter().filter_map(|at| tensors.get(*at));
    let mut types: Vec<(&str, u64)> = Vec::new();
    for tensor in members {
        match types.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
            Some((_, bytes)) => *bytes = bytes.saturating_add(tensor.bytes),
            None => types.push((&tensor.dtype, tensor.bytes)),
        }
    }
    types.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let (first, _) = types.first()?;
    let words: Vec<String> = types
        .iter()
        .take(4)
        .map(|(dtype, _)| text::name(dtype))
        .collect();
    Some(Shade {
        class: class(palette.colour(first)),
        words: words.join(" and "),
    })
}
