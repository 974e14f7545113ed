//! What an error says to people who have a plan in hand. Errors of a conversion advise the flags of
//! `convert`; a line of a plan has fields instead, and not one for each flag.

use ir::Error;

/// Flags that `migrate` has too.
const FLAGS: &[&str] = &[
    "dest",
    "in-place",
    "include",
    "exclude",
    "quantize",
    "dtype",
    "shard-size",
    "link",
    "digests",
    "overwrite",
    "delete-originals",
    "jobs",
    "task",
    "memory",
    "threads",
];

/// What went wrong and where, in one line.
pub(crate) fn message(error: &Error) -> String {
    let mut message = String::new();
    if let Some(path) = error.path() {
        message += &format!("{}: ", path.display());
    }
    if let Some(place) = error.place() {
        message += &format!("{place}: ");
    }
    message + &error.message()
}

/// What to do about it.
pub(crate) fn help(error: &Error) -> Option<String> {
    error.help().map(|help| fitting(&help))
}

/// Both.
pub(crate) fn tell(error: &Error) -> String {
    match help(error) {
        Some(help) => format!("{}. {help}", message(error)),
        None => message(error),
    }
}

/// Advice about a conversion, for a line of a plan.
fn fitting(help: &str) -> String {
    let mut text = help.to_owned();
    for policy in ["strict", "default", "extract"] {
        let field = format!("\"policy\": \"{policy}\" in the line's \"settings\"");
        text = text.replace(&format!("--policy {policy}"), &field);
    }
    let mut foreign: Vec<&str> = text.split("--").skip(1).map(word).collect();
    foreign.retain(|flag| !flag.is_empty() && !FLAGS.contains(flag));
    foreign.dedup();
    if foreign.is_empty() {
        return text;
    }
    let flags: Vec<String> = foreign.iter().map(|flag| format!("--{flag}")).collect();
    let flags = flags.join(" and ");
    format!(
        "{text} (for {flags} convert this model by itself, with `weightbridge convert`, and set the line's \
         \"action\" to \"leave\")"
    )
}

/// The name of a flag, without what follows it.
fn word(rest: &str) -> &str {
    let ends = |c: char| !(c.is_ascii_lowercase() || c == '-');
    rest.split(ends).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_about_lines_of_plans() {
        assert_eq!(
            fitting("--policy extract takes the tensors all the same"),
            "\"policy\": \"extract\" in the line's \"settings\" takes the tensors all the same"
        );
        let told = fitting("Merge it; --as container carries the tensors as they are");
        assert!(
            told.starts_with("Merge it; --as container") && told.contains("(for --as convert this"),
            "{told}"
        );
        for fits in ["Make a smaller plan with --include", "Run it again – now"] {
            assert_eq!(fitting(fits), fits);
        }
    }
}
