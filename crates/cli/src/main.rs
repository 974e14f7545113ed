//! The `weightbridge` command.
//!
//! `main` prints and exits, `run` works: it turns arguments into one request and hands it to the
//! library. stdout carries the answer, stderr everything else.

#![forbid(unsafe_code)]

/// Prints on stderr, where `eprintln` would panic when that is closed.
macro_rules! note {
    ($($text:tt)*) => { $crate::show::note(&format!($($text)*)) };
}

mod args;
mod commands;
mod keys;
mod progress;
mod reads;
mod sandbox;
mod show;
mod workers;

use args::{Cli, Command};
use clap::Parser;
use ir::{Cancel, Class, Error};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use weightbridge::Session;

/// Exit codes, as `docs/cli.md` promises them.
pub(crate) mod exit {
    /// Done, and the answer is yes.
    pub(crate) const OK: u8 = 0;
    /// The answer is no: danger found, a difference found, models left unmigrated.
    pub(crate) const NO: u8 = 1;
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 2;
    /// The input is malformed, refused or not supported.
    pub(crate) const INPUT: u8 = 3;
    /// The machine said no.
    pub(crate) const MACHINE: u8 = 4;
    /// Stopped by SIGINT or SIGTERM: 128 and the number of SIGINT, as shells have it.
    pub(crate) const STOPPED: u8 = 130;
}

/// What interprets a stranger's text gets so much memory and no more: see `native::within`.
#[global_allocator]
static ALLOCATOR: native::Budgeted = native::Budgeted;

fn main() -> ExitCode {
    // First of all: a signal that comes before it ends the process as signals do.
    let signals = listen();
    let mut json = false;
    let code = signals.and_then(|stop| {
        let cli = match Cli::try_parse() {
            Ok(cli) => cli,
            Err(told) => return tell_of_itself(&told),
        };
        json = cli.common.json;
        run(cli, stop)
    });
    // An answer that nobody got is none, whatever it was.
    let code = match code.and_then(|code| show::printed().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            tell(&error, json);
            code_of(&error)
        }
    };
    ExitCode::from(code)
}

/// Lets this process open as many files as the system allows it: sets of a thousand shards are
/// ordinary, and 1024 descriptors are what a process has unless it asks for more.
fn open_more_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Where the system says no, the old limit holds and opening says so.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Prints the help or the version that was asked for, or what is wrong with the command line.
fn tell_of_itself(told: &clap::Error) -> ir::Result<u8> {
    let printed = told.print();
    if told.use_stderr() {
        return Ok(exit::USAGE);
    }
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output", error))
        }
        _ => Ok(exit::OK),
    }
}

fn run(cli: Cli, stop: Arc<AtomicBool>) -> ir::Result<u8> {
    open_more_files();
    // Keys are their owner's own and are read first, so that what happens next cannot read them.
    let keys = keys::Keys::read(&cli.command, &stop)?;
    sandbox::enter(&cli);
    let common = cli.common;
    let cancel = Cancel::from_flag(stop);
    cancel.check()?;
    let mut places = weightbridge::storage(common.memory.0, &cancel);
    reads::spare(&cli.command, &mut places);
    let session = Session {
        threads: common.threads,
        memory: common.memory.0,
        limits: common.limits(),
        progress: progress::for_terminal(&common),
        places,
        cancel,
    };
    match cli.command {
        Command::Convert(args) => commands::convert::run(&args, keys, &common, &session),
        Command::Quantize(args) => commands::quantize::run(&args, &common, &session),
        Command::Inspect(args) => commands::inspect::run(&args, &common, &session),
        Command::Scan(args) => commands::scan::run(&args, &common, &session),
        Command::Diff(args) => commands::diff::run(&args, &common, &session),
        Command::Report(args) => commands::report::run(&args, &common, &session),
        Command::Sign(args) => commands::sign::run(&args, keys, &common, &session),
        Command::Verify(args) => commands::verify::run(&args, keys, &common, &session),
        Command::Migrate(step) => commands::migrate::run(&step, &common, &session),
        Command::Completions { shell } => Ok(commands::extras::completions(shell)),
        Command::Man => commands::extras::man(),
    }
}

/// A flag that SIGINT and SIGTERM set. While it is set, as it is for the second signal, one ends the
/// process at once; files are without a name until they are whole, so even that leaves nothing
/// behind on Linux.
fn listen() -> ir::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let now = signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(exit::STOPPED),
            Arc::clone(&flag),
        );
        now.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|source| Error::io("listen for signals", "", source))?;
    }
    // A write beyond the limit on file sizes (`ulimit -f`) is to be an error, not the end: with a
    // handler, whatever it does, the write fails with EFBIG.
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())
        .map_err(|source| Error::io("listen for signals", "", source))?;
    Ok(flag)
}

fn code_of(error: &Error) -> u8 {
    match error.class() {
        Class::Usage => exit::USAGE,
        Class::Io => exit::MACHINE,
        Class::Interrupted => exit::STOPPED,
        Class::Malformed | Class::Unsupported | Class::Limit | Class::Refused | Class::Lossy => {
            exit::INPUT
        }
    }
}

fn tell(error: &Error, json: bool) {
    if json {
        let document = serde_json::json!({ "error": {
            "class": format!("{:?}", error.class()).to_lowercase(),
            "file": error.path().map(|path| path.to_string_lossy().into_owned()),
            "place": error.place(),
            "message": error.message(),
            "help": error.help(),
        }});
        show::document(&document);
    }
    let mut text = String::from("error: ");
    if let Some(path) = error.path().filter(|path| !path.as_os_str().is_empty()) {
        text += &format!("{}: ", path.display());
    }
    if let Some(place) = error.place() {
        text += &format!("{place}: ");
    }
    text += &error.message();
    note!("{}", show::printable(&text));
    if let Some(help) = error.help() {
        note!("  {}", show::printable(&help));
    }
    if sandbox::may_have_refused(error) {
        note!("  {}", sandbox::HELP);
    }
}
