//! `weightbridge report`.

use crate::args::{Common, ReportArgs};
use crate::exit;
use crate::show;
use ir::{Error, ReadOptions, Result};
use std::io::Write;
use weightbridge::{ReadValues, ReportRequest, Session};

pub(crate) fn run(args: &ReportArgs, common: &Common, session: &Session) -> Result<u8> {
    let request = ReportRequest {
        output: args.output.clone(),
        overwrite: args.overwrite,
        from: args.from.clone(),
        read: ReadOptions {
            key: args.key.clone(),
            all: args.all,
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
    } else if done.file.is_none() {
        let mut stdout = std::io::stdout().lock();
        let written = stdout
            .write_all(done.html.as_bytes())
            .and_then(|()| stdout.flush());
        // A reader that has seen enough is no error.
        if let Err(error) = written
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(Error::io("write", "standard output", error));
        }
    }
    if let (Some((path, len)), false) = (&done.file, common.quiet) {
        let path = show::printable(&path.to_string_lossy());
        eprintln!("wrote {path}, {}", show::bytes(*len));
    }
    Ok(exit::OK)
}
