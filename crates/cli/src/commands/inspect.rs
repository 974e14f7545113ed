//! `weightbridge inspect`.

use crate::args::{Common, InspectArgs};
use crate::exit;
use crate::show::{self, Paint, Tone};
use ir::{ReadOptions, Result};
use std::collections::BTreeMap;
use weightbridge::{Description, Session};

/// Longest metadata value shown to a person.
const VALUE_SHOWN: usize = 100;

pub(crate) fn run(args: &InspectArgs, common: &Common, session: &Session) -> Result<u8> {
    let read = ReadOptions {
        key: args.part.key.clone(),
        all: args.part.all,
        ..ReadOptions::default()
    };
    let opened = weightbridge::open(&args.input, args.part.from.as_deref(), read, session)?;
    let description = weightbridge::describe(&opened.model);
    if common.json {
        show::document(&serde_json::to_value(&description).unwrap_or_default());
    } else {
        tell(
            &description,
            opened.format.title,
            args,
            Paint::new(common, true),
        );
        if args.graph {
            for line in weightbridge::graph_text(&opened.model) {
                // A name with a line end in it must not look like another node.
                show::line(&show::printable(&line.replace('\n', "\\n")));
            }
        }
    }
    Ok(exit::OK)
}

/// Bits a number takes: `4.50`.
fn bits(bytes: u64, elements: u64) -> String {
    format!("{:.2}", bytes as f64 * 8.0 / elements.max(1) as f64)
}

fn tell(description: &Description, title: &str, args: &InspectArgs, paint: Paint) {
    let version = match description.version.as_str() {
        "" => String::new(),
        version => format!(" ({version})"),
    };
    show::line(&paint.text(Tone::Strong, &show::printable(&format!("{title}{version}"))));
    for file in &description.files {
        show::line(&show::printable(&format!(
            "  {}, {}",
            file.path,
            show::bytes(file.nbytes)
        )));
    }
    show::line(&format!(
        "  {}, {} parameters, {}",
        show::count(description.tensor_count, "tensor"),
        show::thousands(description.parameter_count),
        show::bytes(description.nbytes)
    ));
    let mut types: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let mut total = (0u64, 0u64);
    for tensor in description
        .tensors
        .iter()
        .filter(|tensor| tensor.same_as.is_none())
    {
        let elements = tensor
            .shape
            .iter()
            .fold(1u64, |n, dim| n.saturating_mul(*dim));
        let (n, bytes, held) = types.entry(&tensor.dtype).or_default();
        *n += 1;
        *bytes = bytes.saturating_add(tensor.nbytes);
        *held = held.saturating_add(elements);
        total = (
            total.0.saturating_add(tensor.nbytes),
            total.1.saturating_add(elements),
        );
    }
    for (dtype, (n, bytes, held)) in types {
        let tensors = show::count(n, "tensor");
        let bits = bits(bytes, held);
        show::line(&format!(
            "  {dtype:8} {tensors}, {}, {bits} bits a weight",
            show::bytes(bytes)
        ));
    }
    if total.1 > 0 {
        show::line(&format!(
            "  {} bits a weight in all",
            bits(total.0, total.1)
        ));
    }
    if !description.metadata.is_empty() {
        show::line(&paint.text(Tone::Strong, "metadata"));
    }
    for (key, value) in &description.metadata {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let mut short: String = text.chars().take(VALUE_SHOWN).collect();
        if short.len() < text.len() {
            short += &format!("… ({} characters)", text.chars().count());
        }
        show::line(&show::printable(&format!(
            "  {key}: {}",
            short.replace('\n', "\\n")
        )));
    }
    if let Some(graph) = &description.graph {
        show::line(&paint.text(Tone::Strong, "graph"));
        show::line(&show::printable(&format!(
            "  {} from {} to {}",
            show::count(graph.node_count, "node"),
            graph.inputs.join(", "),
            graph.outputs.join(", ")
        )));
        let mut ops: Vec<_> = graph.ops.iter().collect();
        ops.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
        let ops: Vec<_> = ops.iter().map(|(name, n)| format!("{n} {name}")).collect();
        show::line(&show::printable(&format!("  {}", ops.join(", "))));
    }
    if !description.tensors.is_empty() {
        show::line(&paint.text(Tone::Strong, "tensors"));
    }
    let shapes: Vec<String> = description
        .tensors
        .iter()
        .map(|t| format!("{:?}", t.shape))
        .collect();
    let width = shapes.iter().map(String::len).max().unwrap_or(0).min(28);
    for (tensor, shape) in description.tensors.iter().zip(&shapes) {
        let same = match &tensor.same_as {
            Some(name) => format!("  = {name}"),
            None => String::new(),
        };
        let line = format!("  {:8} {shape:width$}  {}{same}", tensor.dtype, tensor.name);
        show::line(&show::printable(&line));
    }
    if let (true, Some(tree)) = (args.tree, &description.tree) {
        show::line(&paint.text(Tone::Strong, "objects"));
        let text = serde_json::to_string_pretty(tree).unwrap_or_default();
        show::line(&show::printable(&text));
    }
    if !description.notes.is_empty() {
        show::line(&paint.text(Tone::Strong, "notes"));
    }
    for note in &description.notes {
        show::line(&show::printable(&format!("  {note}")));
    }
}
