//! Layers across, roles down: a strip of cells for each role.

use crate::data::TensorRow;
use crate::place::place;
use crate::text;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most columns; more layers share them.
const COLUMNS: usize = 128;
/// Fewer layers than this are drawn as if there were so many: a cell is no wide bar.
const SLOTS_MIN: usize = 16;
/// Most strips of one stack.
const STRIPS: usize = 32;
/// Most stacks.
const STACKS: usize = 8;

/// Layers with the same parts, one after the other: `model.layers`, `encoder.block`.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    pub(crate) name: String,
    /// The layers there are, in order.
    pub(crate) layers: Vec<u32>,
    /// The roles, in the model's order.
    pub(crate) strips: Vec<Strip>,
    /// Roles left out.
    pub(crate) left_out: usize,
}

/// One role through all layers.
#[derive(Debug, Default)]
pub(crate) struct Strip {
    pub(crate) role: String,
    /// The tensors by the place of their layer in `Stack::layers`.
    pub(crate) tensors: BTreeMap<usize, Vec<usize>>,
}

/// A tensor of a stack: its role, its layer, its place in the model.
type Member = (String, u32, usize);

/// All stacks that tensors stand in, the largest first, and how many are left out.
pub(crate) fn stacks(tensors: &[TensorRow]) -> (Vec<Stack>, usize) {
    let mut stacks: Vec<(Stack, u64, Vec<Member>)> = Vec::new();
    // Only ever looked up, never walked.
    let mut known: HashMap<String, usize> = HashMap::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let place = place(&tensor.name);
        let Some(layer) = place.layer else { continue };
        let at = *known.entry(place.stack).or_insert_with_key(|name| {
            let stack = Stack {
                name: name.clone(),
                ..Stack::default()
            };
            stacks.push((stack, 0, Vec::new()));
            stacks.len() - 1
        });
        if let Some((_, bytes, members)) = stacks.get_mut(at) {
            *bytes = bytes.saturating_add(tensor.bytes);
            members.push((place.role, layer, index));
        }
    }
    stacks.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.name.cmp(&b.0.name)));
    let left_out = stacks.len().saturating_sub(STACKS);
    stacks.truncate(STACKS);
    let filled = stacks
        .into_iter()
        .map(|(stack, _, members)| fill(stack, members));
    (filled.collect(), left_out)
}

fn fill(mut stack: Stack, members: Vec<Member>) -> Stack {
    let layers: BTreeSet<u32> = members.iter().map(|(_, layer, _)| *layer).collect();
    stack.layers = layers.into_iter().collect();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (role, layer, index) in members {
        let next = known.len();
        let at = *known.entry(role).or_insert_with_key(|role| {
            if next < STRIPS {
                stack.strips.push(Strip {
                    role: role.clone(),
                    ..Strip::default()
                });
            }
            next
        });
        if let (Some(strip), Ok(place)) =
            (stack.strips.get_mut(at), stack.layers.binary_search(&layer))
        {
            strip.tensors.entry(place).or_default().push(index);
        }
    }
    stack.left_out = known.len() - stack.strips.len();
    stack
}

/// What a cell shows: its class in the style sheet, and the words for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shade {
    pub(crate) class: &'static str,
    pub(crate) words: String,
}

/// A run of layers that show the same.
struct Run {
    from: usize,
    to: usize,
    shade: Shade,
}

impl Stack {
    /// The grid; `shade` says what the tensors of a cell show.
    pub(crate) fn draw(&self, shade: impl Fn(&[usize]) -> Option<Shade>) -> Markup {
        let per = self.layers.len().div_ceil(COLUMNS).max(1);
        let columns = self.layers.len().div_ceil(per);
        let slots = columns.max(SLOTS_MIN);
        let lines: Vec<String> = (0..=columns).map(|x| format!("M{x} 0V1")).collect();
        html! {
            div class="grid" {
                @for strip in &self.strips {
                    @let runs = Self::runs(strip, per, columns, &shade);
                    div class="role" { code { (text::name(&strip.role)) } }
                    svg class="strip" role="img" aria-label=(self.tell(strip, &runs, per))
                        viewBox={ "0 0 " (slots) " 1" } preserveAspectRatio="none" {
                        rect class="none" width=(columns) height="1" {}
                        @for run in &runs {
                            rect class=(run.shade.class) x=(run.from) y="0" width=(run.to - run.from) height="1" {
                                title { (self.span(run, per)) ": " (run.shade.words) }
                            }
                        }
                        path class="lines" d=(lines.concat()) {}
                    }
                }
                div class="role axis" aria-hidden="true" { "layer" }
                svg class="ticks" aria-hidden="true" width="100%" height="16" {
                    @for (column, at) in ticks(columns, slots) {
                        text x=(format!("{at:.2}%")) y="12" { (self.layers.get(column * per).copied().unwrap_or(0)) }
                    }
                }
            }
        }
    }

    /// What a reader of the page hears of a strip.
    fn tell(&self, strip: &Strip, runs: &[Run], per: usize) -> String {
        const TOLD: usize = 24;
        let told: Vec<String> = runs
            .iter()
            .take(TOLD)
            .map(|run| format!("{}: {}", self.span(run, per), run.shade.words))
            .collect();
        let more = if runs.len() > TOLD { "; and more" } else { "" };
        format!("{}: {}{more}", text::name(&strip.role), told.join("; "))
    }

    fn runs(
        strip: &Strip,
        per: usize,
        columns: usize,
        shade: &impl Fn(&[usize]) -> Option<Shade>,
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for column in 0..columns {
            let range = column * per..(column + 1) * per;
            let members: Vec<usize> = strip
                .tensors
                .range(range)
                .flat_map(|(_, t)| t)
                .copied()
                .collect();
            if members.is_empty() {
                continue;
            }
            let Some(shade) = shade(&members) else {
                continue;
            };
            match runs
                .last_mut()
                .filter(|run| run.to == column && run.shade == shade)
            {
                Some(run) => run.to += 1,
                None => runs.push(Run {
                    from: column,
                    to: column + 1,
                    shade,
                }),
            }
        }
        runs
    }

    /// `layers 3–7`.
    fn span(&self, run: &Run, per: usize) -> String {
        let last = (run.to * per).min(self.layers.len()).saturating_sub(1);
        let layer = |at: usize| self.layers.get(at).copied().unwrap_or(0);
        let (from, to) = (layer(run.from * per), layer(last));
        if from == to {
            format!("layer {from}")
        } else {
            format!("layers {from}–{to}")
        }
    }
}

/// Which columns get a number, and where it stands, in percent of the width.
fn ticks(columns: usize, slots: usize) -> Vec<(usize, f64)> {
    const TICKS: usize = 8;
    let step = columns.div_ceil(TICKS).max(1);
    let middle = |column: usize| (column as f64 + 0.5) * 100.0 / slots as f64;
    (0..columns)
        .step_by(step)
        .map(|column| (column, middle(column)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: String, dtype: &str) -> TensorRow {
        TensorRow {
            name,
            dtype: dtype.to_owned(),
            bytes: 1,
            ..TensorRow::default()
        }
    }

    #[test]
    fn layers_across_and_roles_down() {
        let mut tensors = vec![row("embed".into(), "F16")];
        for layer in [0, 1, 2, 10] {
            let dtype = if layer == 1 { "Q6_K" } else { "Q4_K" };
            tensors.push(row(format!("blk.{layer}.q"), dtype));
        }
        let (stacks, left) = stacks(&tensors);
        assert_eq!((stacks.len(), left), (1, 0));
        assert_eq!(stacks[0].layers, [0, 1, 2, 10]);
        let shade = |members: &[usize]| {
            let words = tensors[members[0]].dtype.clone();
            Some(Shade { class: "c0", words })
        };
        let html = stacks[0].draw(shade).into_string();
        assert!(
            html.contains("q: layer 0: Q4_K; layer 1: Q6_K; layers 2–10: Q4_K"),
            "{html}"
        );
    }

    #[test]
    fn any_number_of_layers_is_a_bounded_grid() {
        let tensors: Vec<_> = (0..100_000u32)
            .map(|i| row(format!("s{}.{}.r{}", i % 20, i * 40_000, i % 333), "F32"))
            .collect();
        let (stacks, left) = stacks(&tensors);
        assert_eq!((stacks.len(), left), (8, 12));
        let shade = |_: &[usize]| {
            Some(Shade {
                class: "c0",
                words: "F32".to_owned(),
            })
        };
        let size: usize = stacks
            .iter()
            .map(|s| s.draw(shade).into_string().len())
            .sum();
        assert!(size < 1 << 20, "{size}");
    }
}
