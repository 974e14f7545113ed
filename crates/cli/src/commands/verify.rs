//! `weightbridge verify`.

use super::sign::coverage;
use crate::args::{Common, VerifyArgs};
use crate::exit;
use crate::keys::Keys;
use crate::show::{self, Paint, Tone};
use ir::{Error, Fault, Result};
use serde_json::{Value, json};
use weightbridge::{Session, Standing, Verified, VerifyRequest};

pub(crate) fn run(args: &VerifyArgs, keys: Keys, common: &Common, session: &Session) -> Result<u8> {
    let verified = match (&args.statement, &args.model, keys.public) {
        (Some(file), folder, key) => {
            weightbridge::verify_statement(file, folder.as_deref(), key.as_ref(), session)?
        }
        (None, Some(model), Some(key)) => {
            let request = VerifyRequest {
                model: model.clone(),
                signature: args.signature.clone(),
                key,
                coverage: coverage(&args.coverage),
                ignore_unsigned: args.ignore_unsigned,
            };
            weightbridge::verify(&request, session)?
        }
        _ => {
            let what = "verify needs a model and --key, or --statement".to_owned();
            return Err(Error::from(Fault::Usage { what }));
        }
    };
    if common.json {
        show::document(&document(&verified));
    } else {
        tell(&verified, common);
    }
    Ok(if verified.holds() { exit::OK } else { exit::NO })
}

/// The word for scripts, and the sentence for people.
fn standing(standing: Standing) -> (&'static str, &'static str) {
    match standing {
        Standing::Valid => ("valid", "the signature is this key's"),
        Standing::OtherKey => ("other-key", "another key made the signature"),
        Standing::Invalid => (
            "invalid",
            "the signature is not this key's over what it is about: it was changed or forged",
        ),
        Standing::NotSigned => ("not-signed", "the statement is not signed"),
        Standing::NotChecked => (
            "not-checked",
            "no signature was checked: anybody can have written the statement",
        ),
    }
}

fn document(verified: &Verified) -> Value {
    let unsuitable = verified.unsuitable.iter();
    json!({
        "verified": verified.holds(),
        "signature": verified.signature.to_string_lossy(),
        "standing": standing(verified.standing).0,
        "files": verified.files,
        "missing": verified.difference.missing,
        "extra": verified.difference.extra,
        "changed": verified.difference.changed,
        "unsuitable": unsuitable
            .map(|(name, why)| json!({ "name": name, "why": why }))
            .collect::<Vec<_>>(),
    })
}

fn tell(verified: &Verified, common: &Common) {
    let paint = Paint::new(common, true);
    let difference = &verified.difference;
    let lists = [
        ("missing", &difference.missing),
        ("extra", &difference.extra),
        ("changed", &difference.changed),
    ];
    for (word, names) in lists {
        for name in names {
            let word = paint.text(Tone::Bad, &format!("{word:8}"));
            show::line(&format!("{word} {}", show::printable(name)));
        }
    }
    for (name, why) in &verified.unsuitable {
        let word = paint.text(Tone::Bad, "refused ");
        show::line(&format!("{word} {} {why}", show::printable(name)));
    }
    let (_, sentence) = standing(verified.standing);
    if verified.holds() {
        let word = paint.text(Tone::Good, "verified");
        let files = show::count(verified.files as u64, "file");
        show::line(&format!("{word} {files}; {sentence}"));
    } else {
        let word = paint.text(Tone::Bad, "not verified");
        show::line(&format!("{word}: {sentence}"));
    }
}
