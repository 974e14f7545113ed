//! `weightbridge completions` and `weightbridge man`.

use crate::args::Cli;
use crate::exit;
use crate::show;
use clap::CommandFactory;
use ir::{Error, Result};

pub(crate) fn completions(shell: clap_complete::Shell) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weightbridge", &mut text);
    show::raw(&text);
    exit::OK
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
    show::raw(&text);
    Ok(exit::OK)
}
