//! `weightbridge completions` and `weightbridge man`.

use crate::args::Cli;
use crate::exit;
use clap::CommandFactory;
use ir::{Error, Result};
use std::io::{self, Write};

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weightbridge", &mut text);
    print(&text)
}

/// The manual: the page of the command, then one of each subcommand.
pub(crate) fn man() -> Result<u8> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    command.build();
    let mut made = clap_mangen::Man::new(command.clone()).render(&mut text);
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        let title = format!("weightbridge-{}", sub.get_name());
        made = made.and_then(|()| {
            clap_mangen::Man::new(sub.clone())
                .title(title)
                .render(&mut text)
        });
    }
    made.map_err(|source| Error::io("write", "the manual", source))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<u8> {
    match io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output", error))
        }
        _ => Ok(exit::OK),
    }
}
