//! The order of tensors, where the target has its own.
//!
//! The note `order` has a number for each tensor, in the order they had: its place among all names
//! sorted by their bytes. So it holds whatever files and shards the tensors come from.

use ir::{MetaValue, Model, Result, TensorTable, ns};

const KEY: &str = "order";

/// The names of all tensors, in order.
pub(crate) fn names(model: &Model) -> Vec<String> {
    let names = model.tensors.iter().map(|tensor| tensor.name.clone());
    names.collect()
}

/// Notes the order that the tensors had; `names` has those too that are noted as ties by now.
pub(crate) fn note_order(model: &mut Model, names: &[String]) {
    let text = order_text(names);
    model.metadata.set(ns::NOTE, KEY, MetaValue::text(text));
}

/// An order of names, as notes tell it.
pub fn order_text(names: &[String]) -> String {
    let text: Vec<String> = ranks(names).iter().map(usize::to_string).collect();
    text.join(" ")
}

/// For each name its place among all of them sorted.
fn ranks(names: &[String]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..names.len()).collect();
    sorted.sort_by_key(|at| names.get(*at));
    let mut ranks = vec![0; names.len()];
    for (rank, at) in sorted.into_iter().enumerate() {
        if let Some(slot) = ranks.get_mut(at) {
            *slot = rank;
        }
    }
    ranks
}

/// Puts tensors into the order that a note tells, and removes it. A note that is no order of these
/// tensors stays where it is, and so does one beside a graph, which knows tensors by their places.
pub(crate) fn restore_order(model: &mut Model) -> Result<()> {
    let noted = model.metadata.get(ns::NOTE, KEY);
    let Some(text) = noted.and_then(MetaValue::as_str).map(str::to_owned) else {
        return Ok(());
    };
    if model.graph.is_none() && reorder(model, &text)? {
        model.metadata.remove(ns::NOTE, KEY);
    }
    Ok(())
}

/// Puts tensors into an order ([`order_text`]); whether it is one of these tensors.
pub fn reorder(model: &mut Model, text: &str) -> Result<bool> {
    let count = model.tensors.len();
    let mut place = vec![None; count];
    let mut told = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let rank = word.parse::<usize>().ok();
        match rank.and_then(|rank| place.get_mut(rank)) {
            Some(slot @ None) => *slot = Some(told),
            _ => return Ok(false),
        }
        told += 1;
    }
    if told != count {
        return Ok(false);
    }
    let ranks = ranks(&names(model));
    let tensors = std::mem::take(&mut model.tensors).into_tensors();
    let mut placed: Vec<_> = (ranks.into_iter())
        .map(|rank| place.get(rank).copied().flatten())
        .zip(tensors)
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    model.tensors = TensorTable::from_tensors(placed.into_iter().map(|(_, tensor)| tensor))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, ModelBuilder};

    fn model(order: &[&str]) -> Model {
        let empty = ModelBuilder::new();
        let tensors = order.iter().fold(empty, |builder, name| {
            builder.tensor(name, DType::U8, [1], vec![0])
        });
        tensors.build().unwrap()
    }

    #[test]
    fn an_order_comes_back_from_any_other() {
        let was = model(&["b", "", "aa", "a", "z"]);
        for now in [["z", "b", "aa", "a", ""], ["", "a", "aa", "b", "z"]] {
            let mut now = model(&now);
            note_order(&mut now, &names(&was));
            restore_order(&mut now).unwrap();
            assert_eq!(names(&now), names(&was));
            assert!(now.metadata.is_empty());
        }
    }

    #[test]
    fn a_graph_keeps_its_places() {
        let mut model = model(&["b", "a"]);
        model.metadata.set(ns::NOTE, KEY, MetaValue::text("0 1"));
        model.graph = Some(ir::Graph::default());
        restore_order(&mut model).unwrap();
        assert_eq!(names(&model), ["b", "a"]);
        model.graph = None;
        restore_order(&mut model).unwrap();
        assert_eq!(names(&model), ["a", "b"]);
    }

    #[test]
    fn a_note_of_other_tensors_does_nothing() {
        for text in ["0", "0 1 2", "0 0", "1 x", "0 -1", "0 5"] {
            let mut model = model(&["b", "a"]);
            model.metadata.set(ns::NOTE, KEY, MetaValue::text(text));
            restore_order(&mut model).unwrap();
            assert_eq!(names(&model), ["b", "a"]);
            assert_eq!(model.metadata.len(), 1);
        }
    }
}
