//! What the weights are like, role by role.

use crate::data::{RoleValues, ValueSection, Values};
use crate::histogram::histogram;
use crate::text;
use maud::{Markup, html};

/// Most roles with a picture.
const ROLES_SHOWN: usize = 60;

pub(crate) fn values(section: &ValueSection) -> Markup {
    html! {
        p class="note" { (text::printable(&section.rule)) }
        div class="cards" {
            @for role in section.roles.iter().take(ROLES_SHOWN) { (card(role)) }
        }
        @if section.roles.len() > ROLES_SHOWN {
            p class="note" { (text::thousands((section.roles.len() - ROLES_SHOWN) as u64)) " more roles are not drawn." }
        }
    }
}

fn card(role: &RoleValues) -> Markup {
    let RoleValues {
        role,
        tensors,
        values,
    } = role;
    let name = text::name(role);
    html! {
        article class="role-card" {
            h3 { code { (text::breaking(&name)) } }
            p class="soft" { (text::count(*tensors, "tensor")) ", " (text::count(values.read, "value")) }
            @match &values.histogram {
                Some(drawn) => {
                    (histogram(values, &name, ""))
                    div class="ends" aria-hidden="true" {
                        span { (text::figure(drawn.low)) } span { (text::figure(drawn.high)) }
                    }
                }
                None => p class="flat" { (flat(values)) }
            }
            (figures(values))
        }
    }
}

/// Words for values that have no spread to draw.
fn flat(values: &Values) -> String {
    if values.read == 0 {
        "no values".to_owned()
    } else if values.read == values.nan.saturating_add(values.infinite) {
        "no finite value".to_owned()
    } else {
        format!("all values are {}", text::figure(values.min))
    }
}

/// A figure of the finite values, if there are any.
pub(crate) fn finite_figure(values: &Values, figure: f64) -> String {
    if values.read > values.nan.saturating_add(values.infinite) {
        text::figure(figure)
    } else {
        "–".to_owned()
    }
}

fn figures(values: &Values) -> Markup {
    let figure = |x| finite_figure(values, x);
    let pairs = [
        ("min", figure(values.min)),
        ("max", figure(values.max)),
        ("mean", figure(values.mean)),
        ("std", figure(values.std)),
        ("zeros", text::share(values.zeros, values.read)),
    ];
    html! {
        dl class="figures" {
            @for (key, value) in &pairs { div { dt { (key) } dd { (value) } } }
            @for (key, n) in [("NaN", values.nan), ("infinite", values.infinite)] {
                div class=[(n > 0).then_some("bad")] { dt { (key) } dd { (text::thousands(n)) } }
            }
        }
    }
}
