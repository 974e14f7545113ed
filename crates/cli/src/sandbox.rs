//! What this process keeps of its rights, told by the command line alone, before any file of a
//! stranger is parsed. `docs/sandbox.md` says it in users' words.

use crate::args::Cli;
use ir::{Error, Fault};
use native::{Confined, confine};
use std::io::ErrorKind::PermissionDenied;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

mod rights;
use self::rights::rights;

/// Whether anything is enforced.
static ON: AtomicBool = AtomicBool::new(false);

pub(crate) const HELP: &str = "If you may read and write there yourself, it is the sandbox that refuses \
     (docs/sandbox.md): --no-sandbox switches it off";

/// Gives up what the command does not need, and says so with `--verbose`.
pub(crate) fn enter(cli: &Cli) {
    if cli.common.no_sandbox {
        if cli.common.verbose {
            note!("sandbox: switched off");
        }
        return;
    }
    let keep = rights(cli);
    let confined = confine(&keep);
    ON.store(confined != Confined::No, Ordering::Relaxed);
    if cli.common.verbose {
        note!("sandbox: {confined}");
        if confined != Confined::No {
            let some = |word: &str, paths: &[PathBuf]| {
                let shown = paths.iter().take(4).map(|path| path.display().to_string());
                let shown = shown.collect::<Vec<_>>().join(", ");
                let more = paths.len().saturating_sub(4);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                if !paths.is_empty() {
                    let line = format!("  {word} {shown}{more}");
                    note!("{}", crate::show::printable(&line));
                }
            };
            some("reads", &keep.read);
            some("writes in", &keep.write);
            some("unpacks in", &keep.scratch);
            let network = if keep.network {
                "may use the network, for the URLs given"
            } else {
                "makes and takes no TCP connection"
            };
            note!("  runs no program, {network}");
        }
    }
}

/// Whether an error may be the sandbox's doing.
pub(crate) fn may_have_refused(error: &Error) -> bool {
    let denied = matches!(
        error.downcast_ref::<Fault>(),
        Some(Fault::Io { source, .. }) if source.kind() == PermissionDenied
    );
    denied && ON.load(Ordering::Relaxed)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::args::Command;
    use crate::keys::Keys;
    use clap::Parser as _;
    use native::holds_unnamed;
    use std::path::Path;
    use std::process::Command as Program;
    use std::{fs, io};

    fn cli(args: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once(&"weightbridge").chain(args)).unwrap()
    }

    /// A conversion with the rights its command line gets, and then what a parser that was taken
    /// over would do.
    #[test]
    fn a_stray_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["in", "out", "other"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let input = at("in/model.pt");
        fs::copy(
            repository.join("testdata/ckpt/good/zip/state_dict.pt"),
            &input,
        )
        .unwrap();
        fs::create_dir(at("in/private")).unwrap();
        for secret in ["in/.secret", "in/private/secret", "other/secret"] {
            fs::write(at(secret), "s").unwrap();
        }
        let output = at("out/model.safetensors");
        let cli = cli(&[
            "convert",
            "-q",
            input.to_str().unwrap(),
            output.to_str().unwrap(),
        ]);
        let keep = rights(&cli);
        // Only the thread is confined; the pump's threads are its children.
        let confined = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let confined = confine(&keep);
                let Command::Convert(args) = &cli.command else {
                    return confined;
                };
                let session = weightbridge::Session::default();
                let code =
                    crate::commands::convert::run(args, Keys::default(), &cli.common, &session);
                assert_eq!(code.unwrap(), crate::exit::OK);
                if confined == Confined::No {
                    return confined;
                }
                let attacks: [(&str, io::Result<()>); 8] = [
                    ("write elsewhere", fs::write(at("other/stray"), "x")),
                    ("write beside the input", fs::write(at("in/stray"), "x")),
                    ("change the input", fs::write(&input, "x")),
                    ("remove the input", fs::remove_file(&input)),
                    ("read elsewhere", fs::read(at("other/secret")).map(drop)),
                    ("read a hidden file", fs::read(at("in/.secret")).map(drop)),
                    ("read below", fs::read(at("in/private/secret")).map(drop)),
                    (
                        "run a program",
                        Program::new("/bin/true").status().map(drop),
                    ),
                ];
                for (what, result) in attacks {
                    let error = result.expect_err(what);
                    assert_eq!(error.kind(), PermissionDenied, "{what}");
                }
                let error = Error::io("write", "x", PermissionDenied.into());
                ON.store(true, Ordering::Relaxed);
                assert!(may_have_refused(&error));
                confined
            });
            work.join().unwrap()
        });
        if confined == Confined::No {
            note!("this kernel has no Landlock: refusals were not tested");
        }
        assert!(output.is_file());
    }

    #[test]
    fn the_command_line_tells_the_rights() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        for name in [
            "repo/config.json",
            "table.toml",
            "key.pem",
            "base/config.json",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "{}").unwrap();
        }
        let [repo, out, table, base] = ["repo", "new/out.gguf", "table.toml", "base"].map(at);
        let keep = rights(&cli(&[
            "convert",
            &repo,
            &out,
            "--arch-map",
            &table,
            "--base",
            &base,
        ]));
        let reads = |path: &str| keep.read.contains(&root.join(path));
        assert!(reads("repo") && reads("table.toml") && reads("base/config.json"));
        assert!(!reads("base") && !reads("key.pem"));
        // The folder of the output is not there yet: it is made in the one above.
        assert_eq!(keep.write, std::slice::from_ref(&root));

        let key = at("key.pem");
        let keep = rights(&cli(&["sign", &repo, "--key", &key]));
        assert_eq!(keep.write, [root.join("repo")]);
        let keep = rights(&cli(&["verify", &repo, "--key", &key]));
        assert!(keep.write.is_empty() && keep.scratch.is_empty());
        let keep = rights(&cli(&["convert", "--dry-run", &repo, &at("x.gguf")]));
        assert!(keep.write.is_empty() || !holds_unnamed(&root));
        assert!(rights(&cli(&["man"])).write.is_empty());
    }

    #[test]
    fn findings_may_be_written_where_the_command_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("log.sarif");
        let keep = rights(&cli(&["scan", "m.pt", "--sarif", file.to_str().unwrap()]));
        assert_eq!(keep.write, [root]);
        assert!(
            rights(&cli(&["scan", "m.pt", "--sarif", "-"]))
                .write
                .is_empty()
        );
    }

    #[test]
    fn only_a_url_keeps_the_network() {
        let keep = rights(&cli(&["convert", "s3://bucket/a.bin", "out.safetensors"]));
        assert!(keep.network && keep.read.contains(&PathBuf::from("/etc")));
        let plan = ["migrate", "plan", ".", "--to", "gguf", "-o", "plan.jsonl"];
        let to = |dest| rights(&cli(&[&plan[..], &["--dest", dest]].concat()));
        assert!(to("az://container/models").network && !to("models").network);
        let keep = rights(&cli(&["inspect", "model.gguf"]));
        assert!(!keep.network && !keep.read.contains(&PathBuf::from("/etc")));
    }

    #[test]
    fn a_base_that_an_adapter_names_may_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("adapter")).unwrap();
        fs::create_dir_all(root.join("base")).unwrap();
        fs::write(root.join("base/config.json"), "{}").unwrap();
        let named = r#"{"base_model_name_or_path": "../base"}"#;
        fs::write(root.join("adapter/adapter_config.json"), named).unwrap();
        let adapter = root.join("adapter");
        let out = root.join("a.gguf");
        let line = ["convert", adapter.to_str().unwrap(), out.to_str().unwrap()];
        let keep = rights(&cli(&line));
        assert!(keep.read.contains(&root.join("base/config.json")));
    }
}
