//! `weightbridge report`.

use crate::args::{Common, ReportArgs};
use crate::exit;
use crate::show;
use ir::{Error, Fault, ReadOptions, Result};
use std::path::PathBuf;
use weightbridge::{ReadValues, ReportRequest, Session};

pub(crate) fn run(args: &ReportArgs, common: &Common, session: &Session) -> Result<u8> {
    if migrate::is_plan(&args.input) {
        return of_plan(args, common, session);
    }
    let request = ReportRequest {
        output: args.output.clone(),
        overwrite: args.overwrite,
        from: args.part.from.clone(),
        read: ReadOptions {
            key: args.part.key.clone(),
            all: args.part.all,
            ..ReadOptions::default()
        },
        values: match (args.no_values, args.all_values) {
            (true, _) => ReadValues::None,
            (false, true) => ReadValues::All,
            (false, false) => ReadValues::Sample,
        },
        against: args.against.clone(),
        names: args.names.map(Into::into),
        conversion: args.conversion.clone(),
        ..ReportRequest::new(&args.input)
    };
    let done = weightbridge::report(&request, session)?;
    if common.json {
        show::document(&serde_json::to_value(&done.page).unwrap_or_default());
    }
    told(&done.html, done.file.as_ref(), common);
    Ok(exit::OK)
}

/// The page about a migration: how far a plan is.
fn of_plan(args: &ReportArgs, common: &Common, session: &Session) -> Result<u8> {
    let of_models = args.part.from.is_some()
        || args.part.key.is_some()
        || args.against.is_some()
        || args.conversion.is_some()
        || args.part.all
        || args.no_values
        || args.all_values;
    if of_models {
        let what = "a plan is given: only --output and --overwrite go with it".to_owned();
        return Err(Error::from(Fault::Usage { what }).in_file(&args.input));
    }
    let page = migrate::page(&args.input)?;
    let output = args.output.as_deref();
    let (html, file) = migrate::write_page(&page, output, args.overwrite, &session.places)?;
    if common.json {
        show::document(&serde_json::to_value(&page).unwrap_or_default());
    }
    told(&html, file.as_ref(), common);
    Ok(exit::OK)
}

/// Says where the page is, or gives it.
fn told(html: &str, file: Option<&(PathBuf, u64)>, common: &Common) {
    let Some((path, len)) = file else {
        if !common.json {
            show::raw(html.as_bytes());
        }
        return;
    };
    if !common.quiet {
        let path = show::printable(&path.to_string_lossy());
        note!("wrote {path}, {}", show::bytes(*len));
    }
}
