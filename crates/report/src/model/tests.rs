//! What holds for every page about a model.

use super::*;
use crate::data::{
    Comparison, Conversion, ErrorRow, FileRow, FindingRow, Histogram, RecordRow, RoleValues, Scan,
    ScannedFile, TensorRow, ValueSection, Values,
};

const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'`&\u{202e}\x07";

/// A page in which every text is `text`.
fn page(text: &str) -> ModelPage {
    let s = || text.to_owned();
    let histogram = Histogram {
        low: -1.0,
        high: 1.0,
        bins: vec![1, 2, 3],
        outside: 1,
    };
    let values = Values {
        read: 7,
        nan: 1,
        max: 1.0,
        histogram: Some(histogram),
        ..Values::default()
    };
    let fact = || Fact {
        key: s(),
        value: s(),
    };
    let record = RecordRow {
        outcome: s(),
        kind: s(),
        what: s(),
        why: s(),
        flag: Some(s()),
        loss: true,
    };
    let tensor = |name: String| TensorRow {
        name,
        dtype: s(),
        shape: vec![2, 3],
        elements: 6,
        bytes: 24,
        tied_to: None,
        values: Some(values.clone()),
    };
    let tied = TensorRow {
        tied_to: Some(s()),
        ..tensor(format!("tied {text}"))
    };
    ModelPage {
        title: s(),
        source: format!("./{text}"),
        format: s(),
        version: s(),
        files: vec![FileRow {
            path: s(),
            bytes: 1,
        }],
        parameters: 12,
        bytes: 48,
        facts: vec![fact()],
        metadata: vec![fact()],
        tensors: vec![
            tensor(s()),
            tensor(format!("blk.0.{text}")),
            tensor("blk.0.q".into()),
            tied,
        ],
        graph: Some(Graph {
            inputs: vec![s()],
            outputs: vec![s()],
            nodes: 1,
            operators: vec![(s(), 1)],
        }),
        values: Some(ValueSection {
            rule: s(),
            sampled: true,
            roles: vec![RoleValues {
                role: s(),
                tensors: 1,
                values: values.clone(),
            }],
        }),
        comparison: Some(Comparison {
            against: s(),
            names: s(),
            compared: 1,
            rows: vec![ErrorRow {
                name: "blk.0.q".into(),
                from: s(),
                to: s(),
                ..ErrorRow::default()
            }],
            unlike: vec![fact()],
            only_here: vec![s()],
            only_there: vec![s()],
        }),
        scan: Scan {
            skipped: None,
            files: vec![ScannedFile {
                path: s(),
                verdict: s(),
                findings: vec![FindingRow {
                    severity: s(),
                    rule: s(),
                    place: s(),
                    what: s(),
                    detail: s(),
                }],
                error: Some(s()),
            }],
        },
        reading: vec![record.clone()],
        notes: vec![s()],
        conversion: Some(Conversion {
            input: s(),
            output: s(),
            from: s(),
            to: s(),
            seconds: Some(1.0),
            records: vec![record],
            ..Conversion::default()
        }),
    }
}

/// Tags and attributes of a page, texts left out: `<a href>`.
fn skeleton(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let tail = &rest[start..];
        let mut quoted = false;
        let end = tail
            .char_indices()
            .find_map(|(at, c)| {
                quoted ^= c == '"';
                (c == '>' && !quoted).then_some(at)
            })
            .unwrap();
        let tag: Vec<&str> = tail[..end].split('"').step_by(2).collect();
        let name = tail[1..end].split_whitespace().next().unwrap_or_default();
        tags.push(tag.join(""));
        rest = &tail[end..];
        if matches!(name, "style" | "script") {
            rest = &rest[rest.find("</").unwrap()..];
        }
    }
    tags
}

/// Whatever the texts say, the page has the same elements with the same attributes.
#[test]
fn no_text_becomes_markup() {
    // The same parts of names in the same order, so that modules and layers are the same.
    let plain = HOSTILE.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '/'), "!");
    let (harmless, hostile) = (model_page(&page(&plain)), model_page(&page(HOSTILE)));
    assert!(skeleton(&harmless).len() > 300);
    let text = |tags: Vec<String>| {
        tags.into_iter()
            .filter(|tag| !tag.starts_with("<text") && tag != "</text")
    };
    let (a, b): (Vec<_>, Vec<_>) = (
        text(skeleton(&harmless)).collect(),
        text(skeleton(&hostile)).collect(),
    );
    assert_eq!(a, b);
    assert!(
        !hostile.contains("<img") && !hostile.contains('\u{202e}') && !hostile.contains('\x07')
    );
    assert!(hostile.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;"));
}

#[test]
fn the_page_loads_nothing_and_is_the_same_every_time() {
    let html = model_page(&page("x"));
    assert_eq!(html, model_page(&page("x")));
    assert!(html.contains("default-src 'none'; style-src 'sha256-"));
    for word in [
        " src=", "http:", "https:", "url(", "@import", "<link", "<iframe", " style=", " onclick",
    ] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn any_number_of_tensors_is_a_bounded_page() {
    let values = page("x").tensors[0].values.clone();
    let tensors: Vec<TensorRow> = (0..300_000u64)
        .map(|i| TensorRow {
            name: format!(
                "model.layers.{}.mlp.experts.{}.part{}.weight",
                i % 100,
                i / 300,
                i % 3
            ),
            dtype: ["BF16", "F32", "U8"][usize::try_from(i % 3).unwrap()].to_owned(),
            shape: vec![64, 64],
            elements: 4096,
            bytes: 8192 + i,
            tied_to: None,
            values: values.clone(),
        })
        .collect();
    let bytes = tensors.iter().map(|t| t.bytes).sum();
    let rows = tensors.iter().map(|t| ErrorRow {
        name: t.name.clone(),
        relative: 0.1,
        ..ErrorRow::default()
    });
    let comparison = Comparison {
        rows: rows.collect(),
        ..Comparison::default()
    };
    let page = ModelPage {
        tensors,
        bytes,
        comparison: Some(comparison),
        ..ModelPage::default()
    };
    let html = model_page(&page);
    assert!(html.len() < 4 << 20, "{}", html.len());
    assert!(
        html.contains("largest of 300\u{202f}000 tensors") && html.contains("other 299\u{202f}000")
    );
}

/// The small page as it was looked at in a browser. `UPDATE_GOLDEN=1 cargo test` writes it anew.
#[test]
fn the_small_page_is_as_it_was_looked_at() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/model/golden.html");
    let html = model_page(&page("plain"));
    let body = &html[html.find("<body>").unwrap()..html.find("<script>").unwrap()];
    let body = body.replace("><", ">\n<") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &body).unwrap();
    }
    assert!(
        body == std::fs::read_to_string(golden).unwrap(),
        "differs from {golden}"
    );
}
