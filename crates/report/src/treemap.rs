//! Where the bytes are, as a picture.
//!
//! Places and widths across are shares of the width that the page has, heights and text are
//! pixels: so text keeps its size on every screen. Two layouts are drawn, for wide screens and for
//! narrow ones, and the style sheet shows one of them.

use crate::modules::{Module, Modules};
use crate::palette::class;
use crate::squarify::{Rect, squarify};
use crate::text;
use maud::{Markup, html};

/// A layout: the width it is made for, the share of it that may be missing, and its height.
struct Layout {
    class: &'static str,
    width: f64,
    fit: f64,
    height: f64,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        class: "map wide",
        width: 1100.0,
        fit: 0.76,
        height: 480.0,
    },
    Layout {
        class: "map narrow",
        width: 340.0,
        fit: 0.85,
        height: 560.0,
    },
];

/// Levels drawn inside each other.
const LEVELS: usize = 4;
/// Smallest area worth a rectangle of its own, in pixels; the rest of a module is one rectangle.
const AREA_MIN: f64 = 110.0;
/// Most rectangles drawn inside one module.
const CHILDREN_MAX: usize = 96;
/// Most rectangles in one layout.
const CELLS_MAX: usize = 1200;
/// Height of a module's own label.
const HEAD: f64 = 18.0;
/// Width of a letter of a label, roughly.
const LETTER: f64 = 6.6;

/// What is drawn.
enum Cell {
    /// A module with more inside.
    Group {
        rect: Rect,
        label: String,
        title: String,
    },
    /// A tensor, a small module, or the rest of one.
    Leaf {
        rect: Rect,
        colour: usize,
        label: String,
        size: String,
        title: String,
    },
}

/// The treemap in both layouts.
pub(crate) fn treemap(modules: &Modules, summary: &str) -> Markup {
    html! {
        @for layout in &LAYOUTS {
            (draw(modules, layout, summary))
        }
    }
}

fn draw(modules: &Modules, layout: &Layout, summary: &str) -> Markup {
    let whole = Rect {
        x: 0.0,
        y: 0.0,
        w: layout.width,
        h: layout.height,
    };
    let mut painter = Painter {
        modules,
        layout,
        cells: Vec::new(),
    };
    painter.inside(modules.root(), whole, 0);
    html! {
        svg class=(layout.class) role="img" aria-label=(summary) width="100%" height=(layout.height) {
            @for cell in &painter.cells {
                @match cell {
                    Cell::Group { rect, label, title } => {
                        rect class="group" x=(across(layout, rect.x)) y=(px(rect.y))
                            width=(across(layout, rect.w)) height=(px(rect.h)) { title { (title) } }
                        text class="head" x=(across(layout, rect.x)) dx="5" y=(px(rect.y + 13.0)) { (label) }
                    }
                    Cell::Leaf { rect, colour, label, size, title } => {
                        rect class={ "leaf " (class(*colour)) } x=(across(layout, rect.x)) y=(px(rect.y))
                            width=(across(layout, rect.w)) height=(px(rect.h)) { title { (title) } }
                        @if !label.is_empty() {
                            text x=(across(layout, rect.x)) dx="5" y=(px(rect.y + 14.0)) { (label) }
                        }
                        @if !size.is_empty() {
                            text class="size" x=(across(layout, rect.x)) dx="5" y=(px(rect.y + 28.0)) { (size) }
                        }
                    }
                }
            }
        }
    }
}

fn across(layout: &Layout, x: f64) -> String {
    format!("{:.2}%", x * 100.0 / layout.width)
}

fn px(y: f64) -> String {
    format!("{y:.1}")
}

struct Painter<'a> {
    modules: &'a Modules,
    layout: &'a Layout,
    cells: Vec<Cell>,
}

impl Painter<'_> {
    /// Draws what is in a module. The recursion is bounded by `LEVELS`.
    fn inside(&mut self, module: &Module, rect: Rect, level: usize) {
        let children = self.modules.below(module);
        let scale = rect.area() / module.bytes.max(1) as f64;
        let large = children
            .iter()
            .take(CHILDREN_MAX)
            .take_while(|child| child.bytes as f64 * scale >= AREA_MIN)
            .count();
        // One left over is drawn as what it is.
        let shown = if large + 1 == children.len() {
            large + 1
        } else {
            large
        };
        let (shown, rest) = children.split_at(shown);
        let mut sizes: Vec<f64> = shown.iter().map(|child| child.bytes as f64).collect();
        let left: u64 = rest
            .iter()
            .fold(0, |n, child| n.saturating_add(child.bytes));
        if left > 0 {
            sizes.push(left as f64);
        }
        let rects = squarify(&sizes, rect);
        for (child, rect) in shown.iter().zip(&rects) {
            self.module(child, *rect, level);
        }
        if let (true, Some(rect)) = (left > 0, rects.last()) {
            let tensors = rest.iter().fold(0, |n, child| n + child.tensors);
            let label = format!("{} more", text::thousands(rest.len() as u64));
            let colour = rest.first().map_or(0, |child| child.colour());
            let title = format!(
                "{label} in {}: {}, {}",
                text::name(&module.path),
                text::count(tensors, "tensor"),
                text::bytes(left)
            );
            self.leaf(*rect, colour, &label, left, title);
        }
    }

    fn module(&mut self, module: &Module, rect: Rect, level: usize) {
        let roomy = rect.w * self.layout.fit >= 44.0 && rect.h >= 40.0;
        let more = level + 1 < LEVELS && !module.children.is_empty();
        let title = format!(
            "{}: {}, {}, {} of all",
            text::name(&module.path),
            match &module.dtype {
                Some(dtype) => text::name(dtype),
                None => text::count(module.tensors, "tensor"),
            },
            text::bytes(module.bytes),
            text::share(module.bytes, self.modules.root().bytes),
        );
        if more && roomy && self.cells.len() < CELLS_MAX {
            let label = self.fitting(&module.label, rect.w);
            self.cells.push(Cell::Group { rect, label, title });
            self.inside(module, rect.inset(2.0, HEAD, 2.0, 2.0), level + 1);
        } else {
            self.leaf(rect, module.colour(), &module.label, module.bytes, title);
        }
    }

    fn leaf(&mut self, rect: Rect, colour: usize, label: &str, bytes: u64, title: String) {
        let label = if rect.h >= 18.0 {
            self.fitting(label, rect.w)
        } else {
            String::new()
        };
        let size = text::bytes(bytes);
        let fits =
            !label.is_empty() && rect.h >= 34.0 && self.letters(rect.w) >= size.chars().count();
        let size = if fits { size } else { String::new() };
        self.cells.push(Cell::Leaf {
            rect,
            colour,
            label,
            size,
            title,
        });
    }

    /// How many letters fit on the narrowest screen of the layout.
    fn letters(&self, width: f64) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not below zero
        let letters = ((width * self.layout.fit - 8.0) / LETTER).max(0.0) as usize;
        letters
    }

    /// A label as long as there is room; nothing where less than four letters fit. What nearly
    /// every tensor's name ends in is left to the tooltip.
    fn fitting(&self, label: &str, width: f64) -> String {
        let letters = self.letters(width);
        let label = label.strip_suffix(".weight").unwrap_or(label);
        if letters >= label.chars().count() || letters >= 4 {
            text::head(&text::name(label), letters)
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TensorRow;
    use crate::palette::Palette;

    fn cells(names: impl Iterator<Item = (String, u64)>) -> Vec<Cell> {
        let tensors: Vec<_> = names
            .map(|(name, bytes)| TensorRow {
                name,
                bytes,
                ..TensorRow::default()
            })
            .collect();
        let modules = Modules::of(&tensors, &Palette::of(&tensors));
        let layout = &LAYOUTS[0];
        let whole = Rect {
            x: 0.0,
            y: 0.0,
            w: layout.width,
            h: layout.height,
        };
        let mut painter = Painter {
            modules: &modules,
            layout,
            cells: Vec::new(),
        };
        painter.inside(modules.root(), whole, 0);
        painter.cells
    }

    /// The leaves of one level fill the picture, and nothing of it is outside.
    #[test]
    fn a_flat_model_fills_the_picture() {
        let cells = cells((0..50).map(|i| (format!("t{i}"), 1000 + i * 37)));
        let area: f64 = cells
            .iter()
            .map(|cell| match cell {
                Cell::Leaf { rect, .. } => rect.area(),
                Cell::Group { .. } => panic!("no groups here"),
            })
            .sum();
        assert!((area - 1100.0 * 480.0).abs() < 1.0);
    }

    #[test]
    fn any_number_of_tensors_is_a_bounded_picture() {
        let many = cells((0..300_000).map(|i| (format!("m{}.{}.{}", i % 97, i % 1009, i), 4096)));
        assert!(
            many.len() < CELLS_MAX + CHILDREN_MAX * LEVELS,
            "{}",
            many.len()
        );
    }
}
