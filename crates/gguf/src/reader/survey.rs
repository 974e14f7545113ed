//! What `scan` should know of a file.

use crate::GgufError;
use crate::wire::ID;
use ir::{Anomaly, AnomalyKind, Model, Result, Survey, Text, ns};

/// Templates that a runtime interprets: `tokenizer.chat_template` and, per name,
/// `tokenizer.chat_template.NAME`. CVE-2024-34359 was an unguarded Jinja there.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

pub(super) fn survey(opened: Result<Model>) -> Survey {
    let mut survey = Survey::of(ID, opened);
    if let Some(model) = &survey.model {
        for (key, value) in model.metadata.of(ns::GGUF) {
            if let (true, Some(text)) = (key.starts_with(TEMPLATE_KEY), value.as_str()) {
                survey.texts.push(Text {
                    place: format!("key {key:?}"),
                    language: "jinja",
                    text: text.to_owned(),
                });
            }
        }
        for record in &model.provenance.records {
            if record.kind == "trailing-bytes" {
                survey.anomalies.push(Anomaly {
                    kind: AnomalyKind::HiddenBytes,
                    place: "the end".to_owned(),
                    what: record.what.clone(),
                });
            }
        }
    }
    if let Some(error) = &survey.error {
        let kind = match error.downcast_ref::<GgufError>() {
            Some(GgufError::DuplicateKey { .. } | GgufError::DuplicateName { .. }) => {
                Some(AnomalyKind::DuplicateEntry)
            }
            Some(GgufError::BadOffset { .. }) => Some(AnomalyKind::HeaderMismatch),
            Some(GgufError::DataCut { .. }) => Some(AnomalyKind::SizeMismatch),
            _ => None,
        };
        survey.anomalies.extend(kind.map(|kind| Anomaly {
            kind,
            place: error.place().unwrap_or_default(),
            what: error.message(),
        }));
    }
    survey
}
