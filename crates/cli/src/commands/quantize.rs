//! `weightbridge quantize`.

use super::convert::{record, tell_records};
use crate::args::{Common, FileTypes, QuantizeArgs, QuantizeWhat, RuleSource};
use crate::exit;
use crate::show::{self, Paint, Tone};
use convert::Line;
use convert::recipe::{FileType, QuantizeOptions, parse_layers, parse_type_file};
use ir::{Error, Fault, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use weightbridge::{QuantizeRequest, QuantizedFile, Session};

pub(crate) fn run(args: &QuantizeArgs, common: &Common, session: &Session) -> Result<u8> {
    let usage = |what| Error::from(Fault::Usage { what });
    let QuantizeWhat {
        output,
        types,
        threads,
    } = args.what().map_err(usage)?;
    let spelled = types;
    let types = spelled.parse::<FileTypes>()?.0;
    let output = match (output, types.as_slice()) {
        (Some(output), _) => output,
        (None, &[file_type]) => beside(&args.input, file_type, &spelled),
        (None, _) => {
            let what = "several types need an OUTPUT folder".to_owned();
            return Err(usage(what));
        }
    };
    let request = QuantizeRequest {
        input: args.input.clone(),
        output,
        types,
        options: options(args)?,
        imatrix: args.imatrix.clone(),
        include_weights: args.include_weights.clone(),
        exclude_weights: args.exclude_weights.clone(),
        intent: args.intent.map(super::convert::intent),
        overwrite: args.overwrite,
    };
    let session = Session {
        threads: threads.unwrap_or(session.threads),
        memory: match args.max_buffer_size {
            Some(mebibytes) => u64::from(mebibytes.get()) << 20,
            None => session.memory,
        },
        ..session.clone()
    };
    let start = Instant::now();
    let done = weightbridge::quantize(&request, &session)?;
    let seconds = start.elapsed().as_secs_f64();
    if common.json {
        let files = done
            .iter()
            .map(|file| document(&request, file))
            .collect::<Vec<_>>();
        show::document(&json!({
            "input": args.input.to_string_lossy(),
            "dry_run": args.dry_run,
            "seconds": seconds,
            "outputs": files,
        }));
    }
    if !common.quiet {
        for file in &done {
            tell(args, file, common);
        }
        note!("{seconds:.2} s");
    }
    Ok(exit::OK)
}

/// Where llama-quantize puts a file without a name: a name as it is spelled, also one that stands
/// for another, in capitals; a number by the first name that has it.
fn beside(input: &Path, file_type: FileType, spelled: &str) -> PathBuf {
    let name = if spelled.trim().parse::<u32>().is_ok() {
        // Its list has the names that stand for others first.
        let mut aliases = FileType::aliases();
        let alias = aliases.find(|(_, meant)| *meant == file_type);
        alias.map_or(file_type.name(), |(name, _)| name).to_owned()
    } else {
        spelled.to_ascii_uppercase()
    };
    input.with_file_name(format!("ggml-model-{name}.gguf"))
}

fn options(args: &QuantizeArgs) -> Result<QuantizeOptions> {
    let mut tensor_types = Vec::new();
    for source in &args.rules.0 {
        match source {
            RuleSource::Rule(rule) => tensor_types.push(rule.clone()),
            RuleSource::File(file) => tensor_types.extend(type_file(file)?),
        }
    }
    let lists = args.prune_layers.iter().map(|list| parse_layers(list));
    let mut prune_layers = lists.collect::<std::result::Result<Vec<_>, _>>()?.concat();
    prune_layers.sort_unstable();
    prune_layers.dedup();
    Ok(QuantizeOptions {
        pure: args.pure,
        leave_output: args.leave_output_tensor,
        output_type: args.output_tensor_type,
        embedding_type: args.token_embedding_type,
        tensor_types,
        allow_requantize: args.allow_requantize,
        prune_layers,
        overrides: args.override_kv.clone(),
        keep_split: args.keep_split,
        allow_nan: args.allow_nan,
        dry_run: args.dry_run,
        stats: args.stats,
    })
}

/// Longest file of rules.
const RULES_MAX: u64 = 1 << 20;

fn type_file(file: &Path) -> Result<Vec<convert::recipe::TypeRule>> {
    let region = ir::Region::open(file)?;
    ir::Limits::check("bytes of a file of rules", region.len(), RULES_MAX)?;
    let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
    parse_type_file(&String::from_utf8_lossy(&bytes)).map_err(|e| Error::from(e).in_file(file))
}

fn line(line: &Line) -> Value {
    let mut value = json!({
        "name": line.choice.name,
        "shape": line.shape.to_vec(),
        "from": line.choice.from.name(),
        "to": line.choice.to.name(),
        "why": line.choice.why,
        "nbytes_before": line.bytes_before,
        "nbytes_after": line.bytes_after,
    });
    if let Some(error) = line.error() {
        value["rmse"] = error.rmse().into();
        value["max_abs"] = error.max.into();
    }
    value
}

fn document(request: &QuantizeRequest, file: &QuantizedFile) -> Value {
    json!({
        "type": file.file_type.name(),
        "output": request.output.to_string_lossy(),
        "files": file.files.iter()
            .map(|(path, len)| json!({ "path": path.to_string_lossy(), "nbytes": len }))
            .collect::<Vec<_>>(),
        "tensors": file.lines.iter().map(line).collect::<Vec<_>>(),
        "report": file.report.records.iter().map(record).collect::<Vec<_>>(),
    })
}

fn tell(args: &QuantizeArgs, file: &QuantizedFile, common: &Common) {
    let paint = Paint::new(common, false);
    if args.dry_run || args.stats || common.verbose {
        for line in &file.lines {
            let error = line.error().map_or(String::new(), |error| {
                format!("  rmse {:.3e}, max {:.3e}", error.rmse(), error.max)
            });
            let text = format!(
                "  {:7} {:7} {:>9} to {:>9}  {:24} {}{error}",
                line.choice.from.name(),
                line.choice.to.name(),
                show::bytes(line.bytes_before),
                show::bytes(line.bytes_after),
                line.shape.to_string(),
                line.choice.name,
            );
            let why = paint.text(Tone::Dim, &line.choice.why);
            note!("{}  {why}", show::printable(&text));
        }
    }
    tell_records(&file.report.records, common, paint);
    let sum = |of: fn(&Line) -> u64| file.lines.iter().map(of).fold(0u64, u64::saturating_add);
    let (before, after) = (sum(|l| l.bytes_before), sum(|l| l.bytes_after));
    let elements = file.lines.iter().fold(0u64, |n, l| {
        n.saturating_add(l.shape.elements().unwrap_or(0))
    });
    let bits = after as f64 * 8.0 / elements.max(1) as f64;
    let word = if args.dry_run { "would be" } else { "is" };
    for (path, len) in &file.files {
        let path = paint.text(Tone::Strong, &show::printable(&path.to_string_lossy()));
        note!("wrote {path}, {}", show::bytes(*len));
    }
    note!(
        "{}: {} {word} {}, {bits:.2} bits a weight",
        file.file_type.name(),
        show::bytes(before),
        show::bytes(after)
    );
}
