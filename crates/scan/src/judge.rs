//! From a survey to a verdict.

use crate::finding::{Finding, Judgement, Severity, Verdict};
use crate::render::printable;
use crate::rules::{self, Rule};
use crate::{graph, judge_objects, texts};
use ir::{Anomaly, AnomalyKind, Survey};
use std::cmp::Reverse;

/// How long the description of an anomaly may be.
const MAX_WHAT: usize = 300;
/// Findings of all pickles of one file that are kept.
const FINDINGS: usize = 10_000;

/// Judges a file by what its reader saw.
///
/// Danger decides first, however broken the file is; then whether all of it could be read; then
/// whether anything in it is unknown. A file is [`Verdict::Clean`] only if it was read to its end
/// and all it holds is known.
pub fn judge(survey: &Survey) -> Judgement {
    let mut findings = Vec::new();
    for pickle in &survey.objects {
        let found = judge_objects(&pickle.objects, &pickle.place);
        if pickle.misread {
            // Most of it is what the right reading said.
            for finding in found.into_iter().filter(stands_misread) {
                let same =
                    |told: &Finding| (told.rule, &told.what) == (finding.rule, &finding.what);
                if !findings.iter().any(same) {
                    findings.push(finding);
                }
            }
            continue;
        }
        keep(&mut findings, found);
        if !pickle.complete {
            findings.push(plain(rules::BROKEN_PICKLE, &pickle.place, "pickle", ""));
        }
    }
    let model = survey.model.as_ref();
    if let (true, Some(objects)) = (
        survey.objects.is_empty(),
        model.and_then(|model| model.objects.as_ref()),
    ) {
        findings.extend(judge_objects(objects, survey.format));
    }
    for text in &survey.texts {
        findings.extend(texts::judge(text));
    }
    findings.extend(survey.anomalies.iter().map(anomaly));
    if let Some((model, graph)) = model.and_then(|m| Some((m, m.graph.as_ref()?))) {
        findings.extend(graph::judge(graph, &model.tensors));
    }
    findings.sort_by_key(|finding| Reverse(finding.severity));
    Judgement {
        verdict: verdict(survey, &findings),
        findings,
    }
}

fn verdict(survey: &Survey, findings: &[Finding]) -> Verdict {
    let unread = survey.error.is_some()
        || (survey.objects.iter()).any(|pickle| !pickle.complete && !pickle.misread)
        || findings.iter().any(|f| f.rule == rules::UNREADABLE.id)
        || survey.anomalies.iter().any(|anomaly| {
            matches!(
                anomaly.kind,
                AnomalyKind::Unreadable | AnomalyKind::ClosedArchive
            )
        });
    if findings.iter().any(|f| f.severity == Severity::Dangerous) {
        Verdict::Dangerous
    } else if unread {
        Verdict::Malformed
    } else if findings.is_empty() {
        Verdict::Clean
    } else {
        Verdict::Suspicious
    }
}

/// Keeps findings of another pickle. However many there are, some say it all, and the worst are kept.
fn keep(findings: &mut Vec<Finding>, found: Vec<Finding>) {
    for finding in found {
        let most = match finding.severity {
            Severity::Dangerous => 2 * FINDINGS,
            Severity::Suspicious => FINDINGS,
        };
        if findings.len() < most {
            findings.push(finding);
        }
    }
}

/// Whether a finding counts where a pickle is read as it was not meant: a name that is known to be
/// dangerous does. Nonsense is unknown, and fails where it is imported or called.
fn stands_misread(finding: &Finding) -> bool {
    // numpy's `dtype` behind some other word, and a call of that; what only joblib reads on from.
    let nonsense = finding.what.starts_with("call of ") && finding.what.contains(".dtype")
        || finding
            .what
            .rsplit_once('.')
            .is_some_and(|(_, name)| name == "dtype")
        || finding.what == "joblib.numpy_pickle.NumpyArrayWrapper";
    let told = finding.severity == Severity::Dangerous || finding.rule == rules::CLASS_ARGUMENTS.id;
    told && !nonsense
}

fn anomaly(anomaly: &Anomaly) -> Finding {
    let rule = match anomaly.kind {
        AnomalyKind::DuplicateEntry => rules::DUPLICATE_ENTRY,
        AnomalyKind::HeaderMismatch => rules::HEADER_MISMATCH,
        AnomalyKind::ChecksumMismatch => rules::CHECKSUM_MISMATCH,
        AnomalyKind::HiddenBytes => rules::HIDDEN_BYTES,
        AnomalyKind::SecondDirectory => rules::SECOND_DIRECTORY,
        AnomalyKind::OddFlags => rules::ODD_FLAGS,
        AnomalyKind::UnsafeName => rules::UNSAFE_NAME,
        AnomalyKind::HiddenPayload => rules::HIDDEN_PAYLOAD,
        AnomalyKind::TrailingPickle => rules::TRAILING_PICKLE,
        AnomalyKind::ParserDisagreement => rules::PARSER_DISAGREEMENT,
        AnomalyKind::LooseHeader => rules::LOOSE_HEADER,
        AnomalyKind::SizeMismatch => rules::SIZE_MISMATCH,
        AnomalyKind::Unreadable => rules::UNREADABLE,
        AnomalyKind::ExternalPath => rules::EXTERNAL_PATH,
        AnomalyKind::NativeCode => rules::NATIVE_CODE,
        AnomalyKind::ClosedArchive => rules::CLOSED_ARCHIVE,
    };
    let what = anomaly
        .what
        .split(&[':', ';', ','][..])
        .next()
        .unwrap_or_default();
    plain(rule, &anomaly.place, what, &anomaly.what)
}

/// A finding of a rule.
pub(crate) fn plain(rule: Rule, place: &str, what: &str, more: &str) -> Finding {
    let more = printable(more, MAX_WHAT);
    let separator = if more.is_empty() { "" } else { ": " };
    Finding {
        severity: rule.severity,
        rule: rule.id,
        where_: printable(place, MAX_WHAT),
        what: printable(what, 100),
        detail: format!("{}{separator}{more}", rule.why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;
    use ir::{Objects, SurveyedObjects, Text};

    fn survey(objects: Objects, complete: bool) -> Survey {
        Survey {
            format: "ckpt",
            objects: vec![SurveyedObjects {
                place: "archive/data.pkl".into(),
                objects,
                complete,
                misread: false,
            }],
            ..Survey::default()
        }
    }

    fn dangerous() -> Objects {
        let mut b = Builder::new();
        let text = b.str("id");
        b.reduce("posix", "system", &[text]);
        b.objects
    }

    fn fault() -> ir::Error {
        let what = "opcode 0xff is not known".to_owned();
        ir::Fault::Invalid { what }.into()
    }

    #[test]
    fn danger_decides_before_damage() {
        let mut broken = survey(dangerous(), false);
        broken.error = Some(fault());
        let judgement = judge(&broken);
        assert_eq!(judgement.verdict, Verdict::Dangerous);
        assert_eq!(judgement.findings[0].rule, "process");
        assert_eq!(judgement.findings[0].where_, "archive/data.pkl, byte 40");
        assert_eq!(judgement.findings[1].rule, "broken-pickle");
    }

    #[test]
    fn what_cannot_be_read_is_never_clean() {
        assert_eq!(judge(&survey(Objects::new(), true)).verdict, Verdict::Clean);
        assert_eq!(
            judge(&survey(Objects::new(), false)).verdict,
            Verdict::Malformed
        );
        let mut failed = survey(Objects::new(), true);
        failed.error = Some(fault());
        assert_eq!(judge(&failed).verdict, Verdict::Malformed);
        let mut hidden = survey(Objects::new(), true);
        hidden.anomalies.push(Anomaly {
            kind: AnomalyKind::Unreadable,
            place: "x".into(),
            what: "method 99".into(),
        });
        assert_eq!(judge(&hidden).verdict, Verdict::Malformed);
    }

    #[test]
    fn anomalies_and_code_count() {
        let mut odd = survey(Objects::new(), true);
        odd.anomalies.push(Anomaly {
            kind: AnomalyKind::DuplicateEntry,
            place: "data.pkl".into(),
            what: "2 entries: 10 and 20 bytes\u{1b}".into(),
        });
        let judgement = judge(&odd);
        assert_eq!(judgement.verdict, Verdict::Suspicious);
        assert_eq!(judgement.findings[0].what, "2 entries");
        assert!(judgement.findings[0].detail.ends_with("20 bytes\\x1b"));

        odd.texts.push(Text {
            place: "code/__torch__.py".into(),
            language: "torchscript",
            text: "torch.save(x, \"y\")".into(),
        });
        let judgement = judge(&odd);
        assert_eq!(judgement.verdict, Verdict::Dangerous);
        assert_eq!(judgement.findings[0].rule, "torchscript-file-access");
    }

    #[test]
    fn a_model_without_a_survey_is_judged_too() {
        let model = ir::Model {
            objects: Some(dangerous()),
            ..ir::Model::default()
        };
        let opened = Survey::of("ckpt", Ok(model));
        assert_eq!(judge(&opened).verdict, Verdict::Dangerous);
    }
}
