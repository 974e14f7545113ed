//! The page about a migration.

use crate::findings::tone;
use crate::frame::{Head, Section, Tile, document, filter, scroll};
use crate::text;
use maud::{Markup, html};
use serde::Serialize;
use std::cmp::Reverse;

/// Most rows: those that need somebody first.
const ROWS: usize = 5000;

/// Everything a page about a migration tells.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MigrationPage {
    /// The migration's name, for the title.
    pub title: String,
    /// The plan, as the user named it.
    pub source: String,
    /// A row a model, in the plan's order.
    pub rows: Vec<MigrationRow>,
}

/// One model of a migration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MigrationRow {
    /// Its name: where it lies below the root.
    pub name: String,
    /// How far it is.
    pub status: Status,
    /// Bytes of its inputs.
    pub bytes_before: u64,
    /// Bytes of its outputs, or what they are estimated to be; none where nobody can tell.
    pub bytes_after: Option<u64>,
    /// How many findings `scan` had, and the worst verdict.
    pub findings: u64,
    /// `dangerous`, `suspicious`, `clean` or `malformed`; empty where it was not scanned.
    pub verdict: String,
    /// How long it took, where it is done.
    pub seconds: Option<f64>,
    /// What went wrong, or what is worth knowing.
    pub message: String,
}

/// How far a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It could not be migrated.
    Failed,
    /// A run has begun it: this one goes on, or is dead and the next one takes it up.
    Running,
    /// Not begun.
    #[default]
    Planned,
    /// Left alone, as the plan says.
    Left,
    /// Written, read back and compared.
    Done,
}

impl Status {
    /// Every status, what needs somebody first.
    pub const ALL: [Self; 5] = [
        Self::Failed,
        Self::Running,
        Self::Planned,
        Self::Left,
        Self::Done,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Running => "begun",
            Self::Planned => "to do",
            Self::Left => "left alone",
            Self::Done => "done",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Failed => "tone bad",
            Self::Running => "tone odd",
            Self::Planned | Self::Left => "tone dim",
            Self::Done => "tone good",
        }
    }

    /// The colour of its part of the bar.
    fn fill(self) -> &'static str {
        match self {
            Self::Failed => "s-bad",
            Self::Running => "s-odd",
            Self::Planned => "s-dim",
            Self::Left => "s-skip",
            Self::Done => "s-good",
        }
    }
}

/// Sums over rows.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    models: u64,
    before: u64,
    after: u64,
    seconds: f64,
}

impl Sum {
    fn of<'a>(rows: impl Iterator<Item = &'a MigrationRow>) -> Self {
        rows.fold(Self::default(), |sum, row| Self {
            models: sum.models + 1,
            before: sum.before.saturating_add(row.bytes_before),
            after: sum.after.saturating_add(row.bytes_after.unwrap_or(0)),
            seconds: sum.seconds + row.seconds.unwrap_or(0.0),
        })
    }
}

/// The page about a migration as one HTML document.
pub fn migration_page(page: &MigrationPage) -> String {
    let title = text::name(&page.title);
    let head = Head {
        title: &title,
        kind: "Migration report",
        lead: lead(page),
        tiles: tiles(page),
    };
    let sections = [
        Section {
            id: "totals",
            title: "Totals".to_owned(),
            body: totals(page),
        },
        Section {
            id: "models",
            title: "Models".to_owned(),
            body: models(page),
        },
    ];
    document(&head, &sections)
}

fn lead(page: &MigrationPage) -> Markup {
    html! { p class="lead" { code { (text::name(&page.source)) } } }
}

fn tiles(page: &MigrationPage) -> Vec<Tile> {
    let all = Sum::of(page.rows.iter());
    let of = |status: Status| Sum::of(page.rows.iter().filter(move |row| row.status == status));
    // What has no size yet makes nothing smaller.
    let known = Sum::of(page.rows.iter().filter(|row| row.bytes_after.is_some()));
    let [done, failed, left] = [Status::Done, Status::Failed, Status::Left].map(of);
    // As `migrate status` counts them: what is left alone is no model to migrate.
    let open = of(Status::Planned).models + of(Status::Running).models;
    let mut counts = vec![format!("{} done", text::thousands(done.models))];
    for (models, word) in [(open, "to do"), (left.models, Status::Left.name())] {
        if models > 0 {
            counts.push(format!("{} {word}", text::thousands(models)));
        }
    }
    let tile = |what, figure: String, more| Tile {
        what,
        figure: html! { (figure) },
        more,
    };
    let findings = page
        .rows
        .iter()
        .fold(0u64, |n, row| n.saturating_add(row.findings));
    let dangerous = page
        .rows
        .iter()
        .filter(|row| row.verdict == "dangerous")
        .count();
    // What is left alone or failed stays as large as it was.
    let counted = match known.before {
        n if n == all.before => String::new(),
        n => format!("{} of it has an after", text::bytes(n)),
    };
    vec![
        tile(
            "Models",
            text::thousands(all.models - left.models),
            counts.join(", "),
        ),
        Tile {
            what: "Failed",
            figure: html! { span class=[(failed.models > 0).then_some("bad")] { (text::thousands(failed.models)) } },
            more: String::new(),
        },
        tile("Before", text::bytes(all.before), counted),
        tile("After", text::bytes(all.after), change(known)),
        tile(
            "Findings",
            text::thousands(findings),
            match dangerous {
                0 => String::new(),
                n => format!("{} dangerous", text::count(n as u64, "model")),
            },
        ),
    ]
}

/// `12 % less`.
fn change(sum: Sum) -> String {
    if sum.before == 0 || sum.after == 0 {
        return String::new();
    }
    let percent = (sum.after as f64 / sum.before as f64 - 1.0) * 100.0;
    match percent {
        p if p.abs() < 0.05 => "the same".to_owned(),
        p if p < 0.0 => format!("{:.1} % less", -p),
        p => format!("{p:.1} % more"),
    }
}

fn totals(page: &MigrationPage) -> Markup {
    let all = Sum::of(page.rows.iter());
    let sums: Vec<(Status, Sum)> = Status::ALL
        .into_iter()
        .rev()
        .map(|status| {
            (
                status,
                Sum::of(page.rows.iter().filter(move |row| row.status == status)),
            )
        })
        .filter(|(_, sum)| sum.models > 0)
        .collect();
    let mut at = 0.0;
    let parts: Vec<(Status, f64, f64)> = sums
        .iter()
        .map(|(status, sum)| {
            let width = sum.models as f64 * 100.0 / all.models.max(1) as f64;
            at += width;
            (*status, at - width, width)
        })
        .collect();
    let words: Vec<String> = sums
        .iter()
        .map(|(status, sum)| format!("{} {}", text::thousands(sum.models), status.name()))
        .collect();
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Status" }
                @for head in ["Models", "Before", "After", "Time"] { th scope="col" class="n" { (head) } }
            } }
            tbody { @for (status, sum) in &sums { tr {
                th scope="row" { span class=(status.class()) { (status.name()) } }
                (figures(*sum))
            } } }
            tfoot { tr { th scope="row" { "All" } (figures(all)) } }
        }
    };
    html! {
        svg class="progress" role="img" aria-label={ "Models: " (words.join(", ")) } width="100%" height="14" {
            @for (status, x, width) in &parts {
                rect class=(status.fill()) x=(format!("{x:.3}%")) width=(format!("{width:.3}%")) height="14" { title { (status.name()) } }
            }
        }
        (scroll("Totals", &table))
    }
}

fn figures(sum: Sum) -> Markup {
    html! {
        td class="n" { (text::thousands(sum.models)) }
        td class="n" { (text::bytes(sum.before)) }
        td class="n" { (text::bytes(sum.after)) }
        td class="n" { @if sum.seconds > 0.0 { (text::seconds(sum.seconds)) } @else { "–" } }
    }
}

fn models(page: &MigrationPage) -> Markup {
    let mut rows: Vec<&MigrationRow> = page.rows.iter().collect();
    let left_out = rows.len().saturating_sub(ROWS);
    if left_out > 0 {
        rows.sort_by_key(|row| (row.status, Reverse(row.findings)));
        rows.truncate(ROWS);
    }
    let choices: Vec<&str> = Status::ALL
        .iter()
        .filter(|status| page.rows.iter().any(|row| row.status == **status))
        .map(|status| status.name())
        .collect();
    let table = html! {
        table id="models-table" data-sort {
            thead { tr {
                th scope="col" { "Model" }
                th scope="col" { "Status" }
                @for head in ["Before", "After", "Findings", "Time"] { th scope="col" class="n" { (head) } }
                th scope="col" { "Message" }
            } }
            tbody { @for row in rows { (model(row)) } }
        }
    };
    html! {
        @if left_out > 0 {
            p class="note" { "The table has what needs somebody first; " (text::count(left_out as u64, "model")) " are left out of it, and count in the totals." }
        }
        (filter("models-table", "Filter models", &choices))
        (scroll("Models", &table))
    }
}

fn model(row: &MigrationRow) -> Markup {
    html! {
        tr data-choice=(row.status.name()) {
            th scope="row" class="name" { code { (text::breaking(&text::name(&row.name))) } }
            td class="tight" data-v=(row.status as u8) { span class=(row.status.class()) { (row.status.name()) } }
            td class="n" data-v=(row.bytes_before) { (text::bytes(row.bytes_before)) }
            td class="n" data-v=[row.bytes_after] { @match row.bytes_after { Some(n) => (text::bytes(n)), None => "–" } }
            td class="n" data-v=(row.findings) {
                (text::thousands(row.findings))
                @if !matches!(row.verdict.as_str(), "" | "clean") { " " span class=(tone(&row.verdict)) { (text::name(&row.verdict)) } }
            }
            td class="n" data-v=[row.seconds] { @match row.seconds { Some(s) => (text::seconds(s)), None => "–" } }
            td class="words" { (text::printable(&text::short(&row.message, 400))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, status: Status) -> MigrationRow {
        MigrationRow {
            name: name.to_owned(),
            status,
            bytes_before: 2000,
            bytes_after: Some(1000),
            findings: 1,
            verdict: "dangerous".to_owned(),
            seconds: Some(1.5),
            message: "<b>\u{202e}".to_owned(),
        }
    }

    #[test]
    fn totals_and_rows() {
        let rows = vec![
            row("a", Status::Done),
            row("</script><img src=x onerror=alert(1)>", Status::Failed),
            row("b", Status::Left),
            row("c", Status::Running),
            row("d", Status::Planned),
        ];
        let page = MigrationPage {
            title: "t".into(),
            source: "plan.jsonl".into(),
            rows,
        };
        let html = migration_page(&page);
        assert!(
            html.contains("50.0 % less") && html.contains("5 models dangerous"),
            "{html}"
        );
        assert!(
            html.contains("1 done, 2 to do, 1 left alone") && !html.contains("skipped"),
            "{html}"
        );
        let whole = html.replace("<wbr>", "");
        assert!(whole.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"));
        assert!(!html.contains("<img") && html.contains("&lt;b&gt;\\u{202e}"));
        assert_eq!(html, migration_page(&page));
    }

    #[test]
    fn what_needs_somebody_is_never_left_out() {
        let mut rows = vec![row("fine", Status::Done); 60_000];
        rows.push(row("the failure", Status::Failed));
        let html = migration_page(&MigrationPage {
            rows,
            ..MigrationPage::default()
        });
        assert!(html.contains("the failure") && html.contains("55\u{202f}001 models are left out"));
        assert!(html.len() < 5 << 20, "{}", html.len());
    }
}
