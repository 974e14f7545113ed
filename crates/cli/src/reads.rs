//! What a command line names to be read: no output takes the place of any of it. What an input
//! turns out to have besides (shards, external data, side files) the library spares by itself.

use crate::args::{Command, MigrateCommand, RuleSource};
use ir::Places;
use std::path::Path;

const INPUT: &str = "the input";
const KEY: &str = "the key";
const FILE: &str = "a file that is read";
const SIGNED: &str = "a file that is signed";
const PLAN: &str = "the plan";

/// Spares what the command line names to be read.
pub(crate) fn spare(command: &Command, places: &mut Places) {
    let mut spare = |path: &Path, what: &'static str| {
        if path.as_os_str() != "-" {
            places.spare(path, what);
        }
    };
    match command {
        Command::Convert(args) => {
            if let Some(key) = &args.attest_key {
                spare(key, KEY);
            }
            spare(&args.input, INPUT);
            let files = [&args.imatrix, &args.arch_map, &args.chat_template];
            for file in files.into_iter().chain([&args.base]).flatten() {
                spare(file, FILE);
            }
        }
        Command::Quantize(args) => {
            spare(&args.input, INPUT);
            if let Some(file) = &args.imatrix {
                spare(file, FILE);
            }
            for source in &args.rules.0 {
                if let RuleSource::File(file) = source {
                    spare(file, FILE);
                }
            }
        }
        Command::Scan(args) => args.inputs.iter().for_each(|input| spare(input, INPUT)),
        Command::Report(args) => {
            spare(&args.input, INPUT);
            for file in args.against.iter().chain(&args.conversion) {
                spare(file, FILE);
            }
        }
        Command::Sign(args) => {
            spare(&args.key, KEY);
            spare(&args.model, SIGNED);
        }
        Command::Migrate(MigrateCommand::Run(args)) => spare(&args.plan, PLAN),
        // These write no file, or a plan, which knows the tree itself.
        Command::Migrate(_)
        | Command::Inspect(_)
        | Command::Diff(_)
        | Command::Verify(_)
        | Command::Completions { .. }
        | Command::Man => {}
    }
}
