//! What each command needs, from its arguments alone.

use crate::args::{
    Cli, Command, ConvertArgs, MigrateCommand, QuantizeArgs, ReportArgs, RuleSource, ScanArgs,
    SignArgs, VerifyArgs,
};
use native::{Keep, holds_unnamed};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
/// What a command line needs.
pub(super) fn rights(cli: &Cli) -> Keep {
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
                // Whether the names of outputs are free is asked of a storage too.
                if let Some(dest) = &args.dest {
                    self.storage(Path::new(dest));
                }
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
            let folder = folder_of(input);
            let ends = |end: &str| {
                input
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case(end))
            };
            // The data of a graph may lie in folders below, and the shards that an index names.
            if ends("onnx") || ends("json") || has_index(input) {
                self.tree(folder);
            }
            if ends("onnx") {
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
        let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
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
                    // One to a folder around gives nothing of the model, and all that lies beside it.
                    if path.canonicalize().is_ok_and(|to| real.starts_with(to)) {
                        continue;
                    }
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
            // A file decides nothing about the network.
            .filter(|name| !ir::is_url(Path::new(name)))
            .flat_map(|name| [PathBuf::from(name), folder.join(name)])
        {
            self.read(&place.join("config.json"));
        }
    }
}

/// Whether a file is a shard with its set's index beside it.
fn has_index(input: &Path) -> bool {
    let name = input.file_name().and_then(|name| name.to_str());
    name.and_then(ir::shard::ShardName::parse)
        .is_some_and(|shard| input.with_file_name(shard.index()).is_file())
}

/// The folder of a path; `.` where it names none.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}
