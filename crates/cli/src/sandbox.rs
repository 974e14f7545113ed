//! What this process keeps of its rights, told by the command line alone, before any file of a
//! stranger is parsed. `docs/sandbox.md` says it in users' words.

use crate::args::{
    Cli, Command, ConvertArgs, MigrateCommand, QuantizeArgs, ReportArgs, RuleSource, ScanArgs,
    SignArgs, VerifyArgs,
};
use ir::{Error, Fault};
use native::{Confined, Keep, confine, holds_unnamed};
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anything is enforced.
static ON: AtomicBool = AtomicBool::new(false);

pub(crate) const HELP: &str = "If you may read and write there yourself, it is the sandbox that refuses \
     (docs/sandbox.md): --no-sandbox switches it off";

/// Gives up what the command does not need, and says so with `--verbose`.
pub(crate) fn enter(cli: &Cli) {
    if cli.common.no_sandbox {
        if cli.common.verbose {
            eprintln!("sandbox: switched off");
        }
        return;
    }
    let keep = rights(cli);
    let confined = confine(&keep);
    ON.store(confined != Confined::No, Ordering::Relaxed);
    if cli.common.verbose {
        eprintln!("sandbox: {confined}");
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
                    eprintln!("{}", crate::show::printable(&line));
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
            eprintln!("  runs no program, {network}");
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

/// What a command line needs.
fn rights(cli: &Cli) -> Keep {
    let mut rights = Rights::default();
    match &cli.command {
        Command::Convert(args) => rights.convert(args),
        Command::Quantize(args) => rights.quantize(args),
        Command::Inspect(args) => rights.looking(&[&args.input]),
        Command::Scan(args) => rights.scan(args),
        Command::Diff(args) => rights.looking(&[&args.a, &args.b]),
        Command::Sign(args) => rights.sign(args),
        Command::Verify(args) => rights.verify(args),
        Command::Report(args) => rights.report(args),
        Command::Migrate(step) => rights.migrate(step),
        Command::Completions { .. } | Command::Man => {}
    }
    // How many cores this process may use.
    let cores = [
        "/proc/self/cgroup",
        "/proc/self/mountinfo",
        "/sys/fs/cgroup",
    ];
    rights.keep.read.extend(cores.map(PathBuf::from));
    rights.keep
}

/// Most names looked at for links. Beyond, everything may be read: a folder that large is no model,
/// and scanning it should not fail halfway.
const NAMES_MAX: usize = 200_000;

/// Most files beside an input that get a right each; with more, the folder gets one.
const BESIDE_MAX: usize = 10_000;

/// Longest configuration of an adapter looked at here.
const ADAPTER_MAX: u64 = 1 << 20;

#[derive(Default)]
struct Rights {
    keep: Keep,
    seen: HashSet<PathBuf>,
    names: usize,
}

impl Rights {
    fn looking(&mut self, inputs: &[&PathBuf]) {
        for input in inputs {
            self.input(input);
        }
        self.scratch(&std::env::temp_dir());
    }

    fn scan(&mut self, args: &ScanArgs) {
        self.looking(&args.inputs.iter().collect::<Vec<_>>());
        if let Some(file) = args.sarif.as_ref().filter(|file| file.as_os_str() != "-") {
            self.output(file, false);
        }
    }

    fn convert(&mut self, args: &ConvertArgs) {
        self.input(&args.input);
        let files = [&args.imatrix, &args.arch_map, &args.chat_template];
        for file in files.into_iter().flatten() {
            self.read(file);
        }
        match &args.base {
            Some(base) if base.is_dir() => self.read(&base.join("config.json")),
            Some(base) => self.read(base),
            None => self.named_base(&args.input),
        }
        let Some(output) = &args.output else {
            // In place: the file, and the journal beside it.
            let real = args
                .input
                .canonicalize()
                .unwrap_or_else(|_| args.input.clone());
            return self
                .write(folder_of(&args.input))
                .write(folder_of(&real))
                .done();
        };
        self.output(output, args.dry_run);
        if let Some(file) = &args.attest {
            self.output(file, args.dry_run);
        }
    }

    fn quantize(&mut self, args: &QuantizeArgs) {
        self.input(&args.input);
        if let Some(file) = &args.imatrix {
            self.read(file);
        }
        for source in &args.rules.0 {
            if let RuleSource::File(file) = source {
                self.read(file);
            }
        }
        let output = args.what().ok().and_then(|what| what.output);
        // Without a name it goes beside the input.
        self.output(output.as_ref().unwrap_or(&args.input), args.dry_run);
    }

    fn sign(&mut self, args: &SignArgs) {
        self.model(&args.model, args.coverage.allow_symlinks);
        match &args.signature {
            Some(file) => self.write(folder_of(file)).done(),
            None if args.model.is_dir() => self.write(&args.model).done(),
            None => self.write(folder_of(&args.model)).done(),
        }
    }

    fn verify(&mut self, args: &VerifyArgs) {
        if let Some(model) = &args.model {
            self.model(
                model,
                args.coverage.allow_symlinks || args.statement.is_some(),
            );
            if !model.is_dir() {
                let mut name = model.as_os_str().to_owned();
                name.push(".sig");
                self.read(Path::new(&name));
            }
        }
        for file in args.signature.iter().chain(&args.statement) {
            self.read(file);
        }
        if let (Some(file), None) = (&args.statement, &args.model) {
            self.model(folder_of(file), true);
        }
    }

    fn report(&mut self, args: &ReportArgs) {
        self.looking(&[&args.input]);
        if let Some(against) = &args.against {
            self.looking(&[against]);
        }
        if let Some(file) = &args.conversion {
            self.read(file);
        }
        if let Some(output) = &args.output {
            self.output(output, false);
        }
    }

    /// The trees of a plan. The plan is the user's own file, and is read before.
    fn migrate(&mut self, step: &MigrateCommand) {
        self.scratch(&std::env::temp_dir());
        let plan = match step {
            MigrateCommand::Plan(args) => {
                self.tree(Path::new(&args.root));
                return self.write(folder_of(&args.output)).done();
            }
            MigrateCommand::Status { plan } => return self.read(folder_of(plan)),
            MigrateCommand::Run(args) => &args.plan,
        };
        // The journal and its lock stand beside it.
        self.write(folder_of(plan));
        let Ok(read) = migrate::read_plan(plan) else {
            return;
        };
        let mut places = HashSet::new();
        for (_, line) in &read.lines {
            let root = PathBuf::from(&line.root);
            if places.insert((root.clone(), false)) {
                self.tree(&root);
            }
            // Hard links need the right in both folders.
            if (line.dest.is_none() || line.settings.link) && places.insert((root.clone(), true)) {
                self.write(&root);
            }
            if let Some(dest) = line.dest.as_ref().map(PathBuf::from)
                && places.insert((dest.clone(), true))
            {
                // The name itself is not there yet: it counts as a file's in the folder above.
                self.output(&dest, false);
            }
        }
    }

    /// A URL, which needs the network and what the system says of it: names of hosts and
    /// certificates, and the file of credentials that the environment names.
    fn storage(&mut self, path: &Path) -> bool {
        const SYSTEM: [&str; 6] = [
            "/etc",
            "/lib",
            "/usr/lib",
            "/usr/lib64",
            "/usr/share",
            "/run/systemd/resolve",
        ];
        const CREDENTIALS: [&str; 6] = [
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AZURE_FEDERATED_TOKEN_FILE",
            "SSL_CERT_FILE",
        ];
        if !ir::is_url(path) || path.symlink_metadata().is_ok() {
            return false;
        }
        if !self.keep.network {
            self.keep.network = true;
            self.keep.read.extend(SYSTEM.map(PathBuf::from));
            let named = CREDENTIALS.iter().filter_map(std::env::var_os);
            self.keep.read.extend(named.map(PathBuf::from));
            self.scratch(&std::env::temp_dir());
        }
        true
    }

    /// A model to sign or verify: all of a folder, or one file.
    fn model(&mut self, model: &Path, links: bool) {
        if model.is_dir() && links {
            self.tree(model);
        } else {
            self.read(model);
        }
    }

    /// A model to parse: a folder, or a file with what may lie beside it.
    fn input(&mut self, input: &Path) {
        if self.storage(input) {
            return;
        }
        if input.as_os_str() == "-" {
            self.scratch(&std::env::temp_dir());
        } else if input.is_dir() {
            self.tree(input);
        } else {
            self.read(input);
            self.beside(folder_of(input));
            // The data of such a graph may lie in folders below.
            if input
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
            {
                let folder = folder_of(input);
                self.tree(folder);
                // In the layout of transformers.js the repository is the folder above.
                let full = folder.canonicalize().unwrap_or_default();
                if let Some(above) = full.parent().filter(|_| full.ends_with("onnx")) {
                    self.beside(above);
                }
            }
        }
    }

    /// The files of a folder that are not hidden, by themselves: shards, data of graphs, side
    /// files. Not what is in folders below it, which may be somebody's home.
    fn beside(&mut self, folder: &Path) {
        self.keep.list.push(folder.to_owned());
        let listing = fs::read_dir(folder).into_iter().flatten().flatten();
        for (n, entry) in listing.enumerate() {
            if n > BESIDE_MAX {
                return self.keep.read.push(folder.to_owned());
            }
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            if !hidden && path.is_file() {
                self.read(&path);
            }
        }
    }

    /// A folder with all below it, and what links in it lead to: caches keep a model's files as
    /// links to elsewhere.
    fn tree(&mut self, root: &Path) {
        let mut folders = vec![root.to_owned()];
        self.read(root);
        while let Some(folder) = folders.pop() {
            if !self
                .seen
                .insert(folder.canonicalize().unwrap_or_else(|_| folder.clone()))
            {
                continue;
            }
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                self.names += 1;
                if self.names > NAMES_MAX {
                    return self.keep.read.push(PathBuf::from("/"));
                }
                let path = entry.path();
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                if kind.is_symlink() {
                    self.read(&path);
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
    }

    /// A file or a folder; where it is a link, what it leads to.
    fn read(&mut self, path: &Path) {
        if self.storage(path) {
            return;
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.keep.read.push(path);
    }

    fn write(&mut self, folder: &Path) -> &mut Self {
        if self.storage(folder) {
            return self;
        }
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        self.keep.write.push(folder.to_owned());
        self
    }

    #[allow(clippy::unused_self)] // ends a chain
    fn done(&self) {}

    /// The folder of an output, or the nearest one above it that is there: folders are made.
    fn output(&mut self, output: &Path, dry_run: bool) {
        if self.storage(output) {
            return;
        }
        let folder = if output.is_dir() {
            output
        } else {
            folder_of(output)
        };
        let mut place = folder;
        while !place.is_dir() {
            place = folder_of(place);
        }
        if place != folder {
            self.scratch(&std::env::temp_dir());
        }
        if dry_run {
            self.scratch(place);
        } else {
            self.write(place);
        }
    }

    /// Where compressed entries are unpacked, into files without a name.
    fn scratch(&mut self, folder: &Path) {
        if holds_unnamed(folder) {
            self.keep.scratch.push(folder.to_owned());
        } else {
            self.keep.write.push(folder.to_owned());
        }
    }

    /// The base model that an adapter's configuration names, if its folder is here. The only thing
    /// parsed before; nothing but the base's `config.json` can be gained by it.
    fn named_base(&mut self, input: &Path) {
        let folder = if input.is_dir() {
            input
        } else {
            folder_of(input)
        };
        let file = folder.join("adapter_config.json");
        if !fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= ADAPTER_MAX) {
            return;
        }
        let value = fs::read(&file).ok();
        let value = value.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let named = value
            .as_ref()
            .and_then(|value| value["base_model_name_or_path"].as_str());
        for place in named
            .into_iter()
            .flat_map(|name| [PathBuf::from(name), folder.join(name)])
        {
            self.read(&place.join("config.json"));
        }
    }
}

/// The folder of a path; `.` where it names none.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::keys::Keys;
    use clap::Parser as _;
    use std::io;
    use std::process::Command as Program;

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
            eprintln!("this kernel has no Landlock: refusals were not tested");
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
