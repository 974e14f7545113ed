//! `weightbridge sign`.

use crate::args::{Common, CoverageArgs, SignArgs};
use crate::exit;
use crate::keys::Keys;
use crate::show::{self, Paint, Tone};
use ir::{Error, Fault, Result};
use serde_json::json;
use weightbridge::{Coverage, Session, SignRequest};

pub(crate) fn run(args: &SignArgs, keys: Keys, common: &Common, session: &Session) -> Result<u8> {
    let Some(key) = keys.private else {
        let what = "sign needs --key".to_owned();
        return Err(Error::from(Fault::Usage { what }));
    };
    let request = SignRequest {
        model: args.model.clone(),
        signature: args.signature.clone(),
        key,
        coverage: coverage(&args.coverage),
        shard_size: args.shard_size.map(|size| size.0),
        overwrite: args.overwrite,
    };
    let done = weightbridge::sign(&request, session)?;
    if common.json {
        show::document(&json!({
            "model": args.model.to_string_lossy(),
            "signature": done.signature.to_string_lossy(),
            "key": request.key.public().hint(),
            "curve": request.key.curve(),
            "files": done.files,
            "nbytes": done.nbytes,
            "digest": done.digest.to_string(),
            "notes": done.notes,
        }));
    }
    if !common.quiet {
        for note in &done.notes {
            note!("  note     {}", show::printable(note));
        }
        let paint = Paint::new(common, false);
        let path = show::printable(&done.signature.to_string_lossy());
        note!(
            "signed {}, {}: {}",
            show::count(done.files as u64, "file"),
            show::bytes(done.nbytes),
            paint.text(Tone::Strong, &path)
        );
    }
    Ok(exit::OK)
}

pub(super) fn coverage(args: &CoverageArgs) -> Coverage {
    Coverage {
        ignore: args.ignore.clone(),
        with_git: args.with_git,
        allow_symlinks: args.allow_symlinks,
    }
}
