//! `weightbridge convert`.

use crate::args::{Common, ConvertArgs, DTypeArg, IntentArg, SharedArg};
use crate::exit;
use crate::keys::Keys;
use crate::show::{self, Paint, Tone};
use convert::{DTypeChoice, Shared};
use ir::{Outcome, ReadOptions, Record, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use weightbridge::{Attest, ConvertRequest, Converted, Edit, Intent, LlmOptions, Session};

/// Most records of one kind shown to a person without `--verbose`.
const SHOWN: usize = 8;

pub(crate) fn run(
    args: &ConvertArgs,
    keys: Keys,
    common: &Common,
    session: &Session,
) -> Result<u8> {
    let start = Instant::now();
    let done = match &args.output {
        Some(output) => weightbridge::convert(&request(args, output, keys)?, session)?,
        None => weightbridge::edit_in_place(&args.input, &edits(args)?, args.dry_run, session)?,
    };
    let took = start.elapsed();
    if common.json {
        show::document(&document(args, &done, took));
    }
    if !common.quiet {
        tell(args, &done, took, common);
    }
    Ok(exit::OK)
}

fn request(args: &ConvertArgs, output: &Path, keys: Keys) -> Result<ConvertRequest> {
    let attest = args.attest.clone();
    Ok(ConvertRequest {
        from: args.part.from.clone(),
        to: args.to.clone(),
        overwrite: args.overwrite,
        dry_run: args.dry_run,
        verify: args.verify,
        strict: args.strict,
        dtype: args
            .dtype
            .dtype()
            .map_or(DTypeChoice::Keep, DTypeChoice::To),
        read: ReadOptions {
            key: args.part.key.clone(),
            all: args.part.all,
            partial: args.partial,
        },
        policy: args.policy,
        allow_globals: args.allow_global.clone(),
        include: args.include.clone(),
        drop: args.drop.clone(),
        rename: args.rename.clone(),
        shared: match args.shared {
            SharedArg::KeepOne => Shared::KeepOne,
            SharedArg::Copy => Shared::Copy,
        },
        shard_size: args.shard_size.map(|size| size.0),
        shard_tensors: args.shard_tensors,
        external_data: args.external_data,
        external_into: args.external_into,
        keep_graph: args.keep_graph,
        carry: args.carry.unwrap_or_default(),
        intent: args.intent.map(intent),
        names: args.names.map(Into::into),
        raw_names: args.raw_names,
        keep_blocks: args.keep_blocks,
        edits: edits(args)?,
        quantize: args.quantize.clone().map_or_else(Vec::new, |types| types.0),
        imatrix: args.imatrix.clone(),
        llm: LlmOptions {
            arch: args.arch.clone(),
            arch_map: args.arch_map.clone(),
            base: args.base.clone(),
            pre: args.pre.clone(),
            half: args.dtype == DTypeArg::Auto,
            modelfile: args.modelfile,
        },
        attest: attest.map(|file| Attest {
            file,
            key: keys.private,
        }),
        ..ConvertRequest::new(&args.input, output)
    })
}

pub(super) fn intent(intent: IntentArg) -> Intent {
    match intent {
        IntentArg::Llm => Intent::Llm,
        IntentArg::Container => Intent::Container,
    }
}

/// Removals first, so that a key can be moved to the end.
fn edits(args: &ConvertArgs) -> Result<Vec<Edit>> {
    let mut edits: Vec<Edit> = args.unset.iter().cloned().map(Edit::Unset).collect();
    for text in &args.set {
        edits.push(Edit::set(text)?);
    }
    if let Some(file) = &args.chat_template {
        edits.push(weightbridge::chat_template(file)?);
    }
    Ok(edits)
}

fn document(args: &ConvertArgs, done: &Converted, took: Duration) -> Value {
    let files = done.files.iter();
    let mut document = json!({
        "input": args.input.to_string_lossy(),
        "output": args.output.as_ref().unwrap_or(&args.input).to_string_lossy(),
        "in_place": args.in_place,
        "from": done.from.id,
        "to": done.to.id,
        "dry_run": args.dry_run,
        "files": files
            .map(|(path, len)| json!({ "path": path.to_string_lossy(), "nbytes": len }))
            .collect::<Vec<_>>(),
        "tensor_count": done.report.tensors,
        "nbytes": done.report.tensor_bytes,
        "seconds": took.as_secs_f64(),
        "report": done.report.records.iter().map(record).collect::<Vec<_>>(),
    });
    if args.dry_run {
        let tensors = done.planned.tensors.iter().map(|tensor| {
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype().name(),
                "shape": tensor.spec.shape.to_vec(),
                "nbytes": tensor.byte_len(),
                "from": tensor.history(),
            })
        });
        document["tensors"] = tensors.collect();
    }
    document
}

pub(super) fn record(record: &Record) -> Value {
    json!({
        "outcome": record.outcome.name(),
        "kind": record.kind,
        "what": record.what,
        "why": record.why,
        "flag": record.flag,
        "loss": record.loss,
    })
}

fn tell(args: &ConvertArgs, done: &Converted, took: Duration, common: &Common) {
    let paint = Paint::new(common, false);
    if args.in_place {
        tell_records(&done.report.records, common, paint);
        let word = match (args.dry_run, done.changed) {
            (_, false) => "are so already in",
            (true, true) => "fit in",
            (false, true) => "were changed in",
        };
        let name = show::printable(&args.input.to_string_lossy());
        note!("the keys {word} {}", paint.text(Tone::Strong, &name));
        return;
    }
    let version = &done.planned.provenance.version;
    let detail = if version.is_empty() {
        String::new()
    } else {
        format!(" ({version})")
    };
    note!(
        "{}{} to {}",
        done.from.title,
        show::printable(&detail),
        done.to.title
    );
    if args.dry_run {
        for tensor in &done.planned.tensors {
            let line = format!(
                "  {:8} {:24} {}  {}",
                tensor.dtype(),
                tensor.spec.shape.to_string(),
                tensor.name,
                paint.text(Tone::Dim, &format!("← {}", tensor.history()))
            );
            note!(
                "{}",
                if common.verbose {
                    line
                } else {
                    show_safe(&line)
                }
            );
        }
    }
    for note in &done.planned.provenance.notes {
        note!("  note     {}", show::printable(note));
    }
    tell_records(&done.report.records, common, paint);
    let tensors = show::count(done.report.tensors, "tensor");
    let size = show::bytes(done.report.tensor_bytes);
    if args.dry_run {
        note!("would write {tensors}, {size}; nothing was written");
        return;
    }
    for (path, len) in &done.files {
        let path = paint.text(Tone::Strong, &show::printable(&path.to_string_lossy()));
        note!("wrote {path}, {}", show::bytes(*len));
    }
    let seconds = took.as_secs_f64().max(1e-6);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate for people
    let rate = show::bytes((done.report.tensor_bytes as f64 / seconds) as u64);
    note!("{tensors}, {size} in {seconds:.2} s, {rate}/s");
}

/// Keeps the colour codes this program made and nothing else.
fn show_safe(line: &str) -> String {
    line.split('\x1b')
        .map(show::printable)
        .collect::<Vec<_>>()
        .join("\x1b")
}

/// Records, many of one kind in short.
pub(super) fn tell_records(records: &[Record], common: &Common, paint: Paint) {
    let mut shown: Vec<(&str, usize)> = Vec::new();
    for record in records {
        if !shown.iter().any(|(kind, _)| *kind == record.kind) {
            shown.push((record.kind, 0));
        }
        let mut n = 0;
        if let Some((_, count)) = shown.iter_mut().find(|(kind, _)| *kind == record.kind) {
            *count += 1;
            n = *count;
        }
        if n > SHOWN && !common.verbose {
            continue;
        }
        let tone = match (record.outcome, record.loss) {
            (Outcome::Carried, _) => Tone::Good,
            (_, false) => Tone::Dim,
            (Outcome::Changed | Outcome::Dropped, true) => Tone::Odd,
        };
        let word = paint.text(tone, &format!("{:8}", record.outcome.name()));
        let flag = record
            .flag
            .map_or(String::new(), |flag| format!("  [{flag}]"));
        let text = show::printable(&format!("{}: {}{flag}", record.what, record.why));
        note!("  {word} {text}");
    }
    for (kind, n) in shown {
        if n > SHOWN && !common.verbose {
            note!("  …        {} more of kind {kind} (all with -v)", n - SHOWN);
        }
    }
}
