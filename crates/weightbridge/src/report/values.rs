//! What the values of a model are like: by tensor and by role.

use super::ReadValues;
use crate::Session;
use ::report::{ModelPage, RoleValues, ValueSection, place, shown_tensors};
use convert::Sampling;
use ir::{Model, ReadOptions, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Roles with values of their own; the smallest beyond share one line.
const ROLES: usize = 48;
const OTHERS: &str = "all other roles";

pub(super) fn fill(
    page: &mut ModelPage,
    model: &Model,
    read: ReadValues,
    session: &Session,
) -> Result<()> {
    let sampling = match read {
        ReadValues::None => return Ok(()),
        ReadValues::Sample => Sampling::Runs,
        ReadValues::All => Sampling::Everything,
    };
    let (groups, roles) = roles(page);
    let drawn: BTreeSet<usize> = shown_tensors(&page.tensors).into_iter().collect();
    let cx = session.reading(ReadOptions::default());
    let pump = session.pump()?;
    let whole = Sampling::WHOLE;
    let large = page.tensors.iter().any(|tensor| tensor.elements > whole);
    let sampled = large && sampling == Sampling::Runs;
    cx.progress
        .begin("looking at values", model.tensors.byte_len());
    let groups = (groups.as_slice(), roles.len());
    let drawn = |index: usize| drawn.contains(&index);
    let found = convert::measure(model, groups, drawn, sampling, &pump, &cx);
    cx.progress.end();
    let found = found?;
    for (row, values) in page.tensors.iter_mut().zip(found.tensors) {
        row.values = values.map(|(values, histogram)| plain(&values, histogram));
    }
    let roles = roles
        .into_iter()
        .zip(found.groups)
        .filter(|(_, group)| group.tensors > 0);
    page.values = Some(ValueSection {
        rule: rule(sampled, whole),
        sampled,
        roles: roles
            .map(|(role, group)| RoleValues {
                role,
                tensors: group.tensors,
                values: plain(&group.values, group.histogram),
            })
            .collect(),
    });
    Ok(())
}

fn rule(sampled: bool, whole: u64) -> String {
    let figures = "Pictures show the range that 99.9 % of the values are in.";
    if sampled {
        format!(
            "Of tensors with more than {whole} values a sample is read, the same every time: 64 runs \
             of 16384 values at even distances, the first and the last among them. Smallest, largest \
             and counts are those of the sample; --all-values reads everything. {figures}"
        )
    } else {
        format!("Every value was read. {figures}")
    }
}

/// The role of each tensor, by its place in the list of roles, which has the largest first.
fn roles(page: &ModelPage) -> (Vec<Option<usize>>, Vec<String>) {
    let places: Vec<_> = page
        .tensors
        .iter()
        .map(|tensor| place(&tensor.name))
        .collect();
    let stacks: BTreeSet<&str> = places
        .iter()
        .filter(|it| it.layer.is_some())
        .map(|it| it.stack.as_str())
        .collect();
    let role = |at: usize| match places.get(at) {
        Some(it) if it.layer.is_some() && stacks.len() > 1 => format!("{}.*.{}", it.stack, it.role),
        Some(it) => it.role.clone(),
        None => String::new(),
    };
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for (at, tensor) in page.tensors.iter().enumerate() {
        let size = sizes.entry(role(at)).or_default();
        *size = size.saturating_add(tensor.bytes);
    }
    let mut names: Vec<(String, u64)> = sizes.into_iter().collect();
    names.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
    if names.len() > ROLES {
        names.truncate(ROLES - 1);
        names.push(OTHERS.to_owned());
    }
    let ranks: BTreeMap<&str, usize> = names
        .iter()
        .enumerate()
        .map(|(rank, name)| (name.as_str(), rank))
        .collect();
    let rest = names.len().saturating_sub(1);
    let groups = page.tensors.iter().enumerate().map(|(at, tensor)| {
        // Ties are the same values once more.
        let own = tensor.tied_to.is_none();
        own.then(|| ranks.get(role(at).as_str()).copied().unwrap_or(rest))
    });
    (groups.collect(), names)
}

fn plain(values: &convert::Values, histogram: Option<convert::Histogram>) -> ::report::Values {
    ::report::Values {
        read: values.read,
        nan: values.nan,
        infinite: values.infinite,
        zeros: values.zeros,
        min: values.min,
        max: values.max,
        mean: values.mean,
        std: values.std(),
        histogram: histogram.map(|found| ::report::Histogram {
            low: found.low,
            high: found.high,
            bins: found.bins,
            outside: found.outside,
        }),
    }
}
