//! One conversion, and comparing two models.

use crate::keep_graph::Kept;
use crate::open::open_with;
use crate::quantize::read_imatrix;
use crate::stale::stale;
use crate::target::{self, Target};
use crate::{ConvertRequest, FacadeError, Intent, Names, Session};
use crate::{attest, carry, edit, keep_graph, llm, open_input, policy};
use convert::recipe::QuantizeOptions;
use convert::{CastCounts, DTypeChoice, DiffOptions, DiffReport, NameFilter, PlanOptions, Rename};
use ir::{
    Context, DType, Error, Fault, Format, MetaValue, Model, Output, ReadOptions, Record, Region,
    Report, Result, Tensor, WriteOptions, Writer, ns,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a conversion did, or would do.
#[derive(Debug)]
pub struct Converted {
    /// The input's format.
    pub from: &'static Format,
    /// The output's format.
    pub to: &'static Format,
    /// The account.
    pub report: Report,
    /// The files written, with their sizes; empty for a dry run.
    pub files: Vec<(PathBuf, u64)>,
    /// The model as it was planned.
    pub planned: Model,
    /// Whether there was anything to do: a change in place may find everything as it should be.
    pub changed: bool,
}

/// Converts one input to one output, or to a file for each type it is quantized to.
pub fn convert(request: &ConvertRequest, session: &Session) -> Result<Converted> {
    let mut target = Target::of(request)?;
    let writer = target.format.writer.ok_or_else(|| {
        Error::from(FacadeError::OneWay {
            format: target.format.id,
            verb: "written",
        })
    })?;
    let outside = [
        (request.external_data, "--external-data"),
        (request.external_into, "--external-into"),
    ];
    if let Some((_, flag)) = outside.iter().find(|(asked, _)| *asked)
        && target.format.id != onnx::FORMAT.id
    {
        let title = target.format.title;
        let what = format!("{flag} is for ONNX, the output is {title}");
        return Err(Fault::Usage { what }.into());
    }
    // What the weights of a repository are called depends on what they are.
    let new = !request.dry_run && !request.overwrite;
    if let Some(attest) = &request.attest {
        attest.refuse(&target.files, request.overwrite, &session.places)?;
    }
    if new && !target.repository {
        target.refuse_existing(&session.places)?;
    }
    let mut read = request.read.clone();
    // A checkpoint is written with its tree: nothing needs to be chosen from it. Only a flat
    // mapping can be spread over shards.
    let with_tree = writer.capabilities().objects && request.shard_size.is_none();
    read.all |= with_tree && read.key.is_none();
    let write = WriteOptions {
        shard_size: request.shard_size.or(target.shard_size()),
        shard_tensors: request.shard_tensors,
        external_data: request.external_data,
        external_into: request.external_into,
        repository: target.repository,
        ..WriteOptions::default()
    };
    let pump = session.pump()?;
    let mut cx = session.converting(read, write, &pump, target.first());
    let input = open_input(&request.input, &session.places)?;
    let named = |error: Error| error.in_file(&request.input);
    let mut opened = open_with(&input, request.from.as_deref(), &cx)?;
    policy::check(
        &mut opened.model,
        &input,
        opened.format,
        request.policy,
        &request.allow_globals,
        &cx,
    )
    .map_err(named)?;
    if !with_tree {
        opened.model.objects = None;
    } else if opened.model.objects.is_some() {
        // The reader tells what lies beside the tensors; the tree has it, and its writer tells what
        // it cannot hold.
        let beside = |record: &Record| matches!(record.kind, "left-out" | "scalar");
        let records = &mut opened.model.provenance.records;
        records.retain(|record| !beside(record));
    }
    let graph =
        carry::has_graph(&opened.model) && (writer.capabilities().graph || request.carry.graph);
    let empty = opened.model.tensors.is_empty() && !graph;
    // A vocabulary alone is a sound GGUF file, and nothing at all a sound safetensors file.
    let may_be_empty = [st::FORMAT.id, gguf::FORMAT.id];
    if empty && !may_be_empty.contains(&opened.model.provenance.format) {
        return Err(named(FacadeError::NoTensors.into()));
    }
    let bare = opened.model.assets.is_empty() && opened.format.id == onnx::FORMAT.id;
    if bare && (target.repository || target.format.id == gguf::FORMAT.id) {
        side_files(&mut opened.model, request, &cx)?;
    }
    target::spare(&mut cx.places, &request.input, &opened.model);
    llm::check(request, &opened.model)?;
    if llm::is_peft(&opened.model) {
        target.for_adapter();
    }
    if new && target.repository {
        target.refuse_existing(&session.places)?;
    }
    if request.keep_graph {
        keep_graph::check(request, &target, &opened.model)?;
        cx.places.refuse_spared(&keep_graph::path(&target))?;
    }
    if !request.dry_run {
        target.refuse_spared(&cx.places)?;
    }
    if let Some(attest) = &request.attest {
        attest.refuse(&target.files, request.overwrite, &cx.places)?;
    }
    if request.verify {
        convert::verify(&opened.model, &pump, &cx).map_err(named)?;
    }
    let sources = sources(&opened.model);
    let attest = request.attest.as_ref().filter(|_| !request.dry_run);
    let read = attest.map(|_| attest::inputs(request, &input, &opened.model));
    let made = make(request, &target, opened.model, writer, &cx).map_err(named)?;
    let mut done = Converted {
        from: opened.format,
        to: target.format,
        report: Report {
            records: made.records.clone(),
            ..Report::default()
        },
        files: Vec::new(),
        planned: Model::default(),
        changed: true,
    };
    let job = Job {
        request,
        target: &target,
        writer,
        casts: &made.casts,
        kept: made.kept.as_ref(),
    };
    let mut outs = Vec::new();
    for (file, model) in variants(request, &target, &made, &mut done.report, &cx).map_err(named)? {
        outs.extend(job.write(&file, &model, &cx, &mut done)?);
        done.planned = model;
    }
    if let (Some(attest), Some(read)) = (attest, read) {
        attest::add(attest, request, read, &mut outs, session, &cx)?;
    }
    cx.cancel.check()?;
    for source in sources {
        source.unchanged()?;
    }
    for out in outs {
        let files = out.commit()?;
        done.report.file_bytes += files.iter().map(|(_, len)| len).sum::<u64>();
        done.files.extend(files);
    }
    let records = &mut done.report.records;
    records.extend(made.casts.iter().flat_map(CastCounts::records));
    if request.overwrite {
        let read = made.model.provenance.files.iter();
        let read = read.map(|(path, _)| path.clone());
        records.extend(stale(&done.files, read, &session.places));
    }
    Ok(done)
}

/// A region of each file that tensors lie in.
fn sources(model: &Model) -> Vec<Region> {
    let mut found: BTreeMap<PathBuf, Region> = BTreeMap::new();
    for view in model.tensors.iter().filter_map(Tensor::view) {
        if let Some(path) = view.region.path()
            && !found.contains_key(path)
        {
            found.insert(path.to_owned(), view.region.clone());
        }
    }
    found.into_values().collect()
}

/// The side files of an ONNX model's repository, which lie beside it or one folder up.
fn side_files(model: &mut Model, request: &ConvertRequest, cx: &Context) -> Result<()> {
    if request.intent != Some(Intent::Container)
        && let Some(home) = repo::home_of(&request.input)
    {
        model.assets = repo::side_files(&home, cx)?;
    }
    Ok(())
}

/// A model ready for its writer.
struct Made {
    model: Model,
    records: Vec<Record>,
    /// Of the casts, filled while the data is pulled.
    casts: Vec<CastCounts>,
    /// The graph to be written beside.
    kept: Option<Kept>,
}

/// Makes of the input's model what is asked for: tensors, carried; or what a runtime loads.
fn make(
    request: &ConvertRequest,
    target: &Target,
    mut model: Model,
    writer: &dyn Writer,
    cx: &Context,
) -> Result<Made> {
    let mut options = PlanOptions {
        names: NameFilter::new(&request.include, &request.drop)?,
        rename: (request.rename.iter().map(|text| Rename::parse(text))).collect::<Result<_>>()?,
        dtype: request.dtype,
        shared: request.shared,
        keep_blocks: request.keep_blocks,
        keep_order: request.intent == Some(Intent::Container),
        keep_metadata: request.carry.metadata,
    };
    let mut casts = Vec::new();
    let id = target.format.id;
    let was_graph = model.provenance.format == onnx::FORMAT.id && id != onnx::FORMAT.id;
    // A graph that is carried finds its tensors under its own names, and in its own parts.
    if was_graph && !request.raw_names && !request.carry.graph {
        if request.intent == Some(Intent::Container) {
            unpack::rejoin_blocks(&mut model)?;
        } else {
            // A graph that is kept computes with the parts it has.
            if !request.keep_graph {
                unpack::unpack_graph(&mut model)?;
            }
            convert::recover_names(&mut model, request.keep_graph)?;
        }
    }
    let kept = request.keep_graph.then(|| keep_graph::keep(&model));
    if writer.capabilities().graph {
        carry::restore_graph(&mut model, request, &cx.limits)?;
    } else if request.carry.graph {
        carry::note_graph(&mut model)?;
    } else if kept.is_some() {
        model.graph = None;
    }
    // A runtime's file is more than its tensors: which of the two is wanted is said, never guessed.
    let turn = llm::Turn::of(request, target, &model)?;
    if turn.is_some() && was_graph && request.carry.graph {
        let what = "--carry graph goes with --as container: a runtime's model has no place for it";
        let what = what.to_owned();
        return Err(Error::from(Fault::Usage { what }));
    }
    if let Some(turn) = turn {
        let records = convert::select(&mut model, &options.names, &options.rename)?;
        model.provenance.records.extend(records);
        (model, casts) = turn.take(model, request, target.repository, cx)?;
        options.names = NameFilter::default();
        options.rename = Vec::new();
        options.dtype = DTypeChoice::Keep;
        // What no file of a repository tells is small, and must have its types on the way back.
        options.keep_metadata |= turn == llm::Turn::Raise;
        if id == gguf::FORMAT.id {
            // Runtimes ask for every name, and know no note that one stands for another.
            options.shared = convert::Shared::Copy;
        }
    } else if matches!(options.dtype, DTypeChoice::To(DType::Block(_))) {
        let what = "blocks are made with --quantize TYPE".to_owned();
        return Err(Error::from(Fault::Usage { what }));
    }
    if id == gguf::FORMAT.id {
        name_the_family(&mut model);
    }
    edit::apply(&mut model, target.format.id, &request.edits);
    let planned = convert::plan(model, id, writer.capabilities(), &options, &cx.limits)?;
    refuse_losses(request, &planned.records)?;
    casts.push(planned.casts);
    Ok(Made {
        model: planned.model,
        records: planned.records,
        casts,
        kept,
    })
}

/// Tells loaders of diffusion models which one a container holds: they ask for nothing more.
fn name_the_family(model: &mut Model) {
    const KEY: &str = "general.architecture";
    if model.metadata.get(ns::GGUF, KEY).is_some() {
        return;
    }
    if let Some(family) = arch::diffusion_family(|name| model.tensors.by_name(name).is_some()) {
        model.metadata.set(ns::GGUF, KEY, MetaValue::text(family));
        let why = "told by the names of its tensors";
        let record = Record::carried("architecture", format!("{KEY}: {family}"), why);
        model.provenance.records.push(record.flag("--set"));
    }
}

/// What is written under which name: the model itself, or one for each type it is quantized to.
fn variants(
    request: &ConvertRequest,
    target: &Target,
    made: &Made,
    report: &mut Report,
    cx: &Context,
) -> Result<Vec<(PathBuf, Model)>> {
    if request.quantize.is_empty() {
        return Ok(vec![(target.first().to_owned(), made.model.clone())]);
    }
    let imatrix = request.imatrix.as_deref();
    let imatrix = imatrix.map(|file| read_imatrix(file, cx)).transpose()?;
    let options = QuantizeOptions {
        dry_run: request.dry_run,
        ..QuantizeOptions::default()
    };
    let mut all = Vec::new();
    for (file, &file_type) in target.files.iter().zip(&request.quantize) {
        let model = made.model.clone();
        let quantized = convert::quantize(model, file_type, &options, imatrix.as_ref())?;
        quantized.model.validate(&cx.limits)?;
        report.records.extend(quantized.records);
        all.push((file.clone(), quantized.model));
    }
    Ok(all)
}

/// What all outputs of a conversion share.
struct Job<'a> {
    request: &'a ConvertRequest,
    target: &'a Target,
    writer: &'a dyn Writer,
    casts: &'a [CastCounts],
    kept: Option<&'a Kept>,
}

impl Job<'_> {
    /// Writes one output, which has no name yet; none for a dry run.
    fn write(
        &self,
        file: &Path,
        model: &Model,
        cx: &Context,
        done: &mut Converted,
    ) -> Result<Option<Output>> {
        let (request, target) = (self.request, self.target);
        let report = &mut done.report;
        report.tensors += model.tensors.len() as u64;
        report.tensor_bytes += model.tensors.byte_len();
        if request.dry_run {
            return Ok(None);
        }
        let mut out = Output::new(file, request.overwrite).within(&cx.places);
        if !request.sync {
            out = out.unsynced();
        }
        cx.progress.begin("writing", model.tensors.byte_len());
        let written = self.writer.write(model, &mut out, cx);
        cx.progress.end();
        let written = written.map_err(|error| error.in_file(file));
        report.records.append(&mut written?.records);
        // What casts lost is known now, and nothing has its name yet.
        let lost = self.casts.iter().flat_map(CastCounts::records);
        let records: Vec<Record> = report.records.iter().cloned().chain(lost).collect();
        refuse_losses(request, &records)?;
        if let Some(kept) = self.kept {
            kept.write(model, target, &cx.write, &mut out, cx)
                .map_err(|error| error.in_file(keep_graph::path(target)))?;
        }
        if target.repository {
            copy_assets(model, target.side_files(), &mut out)?;
        }
        if request.llm.modelfile {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let name = match target.files.len() {
                1 => "Modelfile".to_owned(),
                _ => format!("{stem}.Modelfile"),
            };
            let number = out.side_file(&name)?;
            let (text, records) = llm::modelfile(file, model, &cx.limits)?;
            report.records.extend(records);
            out.get(number)?.write_at(0, text.as_bytes())?;
        }
        Ok(Some(out))
    }
}

fn refuse_losses(request: &ConvertRequest, records: &[Record]) -> Result<()> {
    // What a Modelfile tells is not lost where one is written.
    let told = |record: &Record| request.llm.modelfile && record.flag == Some("--modelfile");
    let losses = records.iter().filter(|record| record.loss && !told(record));
    let losses: Vec<_> = losses.collect();
    match losses.first() {
        Some(first) if request.strict => Err(Error::from(FacadeError::Losses {
            count: losses.len(),
            first: first.to_string(),
        })
        .in_file(&request.input)),
        _ => Ok(()),
    }
}

/// Largest piece of a side file held at once.
const ASSET_CHUNK: u64 = 1 << 20;

/// Copies the files that travel along beside the weights.
fn copy_assets(model: &Model, folder: &Path, out: &mut Output) -> Result<()> {
    for asset in &model.assets {
        let path = folder.join(&asset.name);
        // A folder converted into itself has its side files already.
        if asset
            .bytes
            .path()
            .is_some_and(|from| ir::same_file(from, &path))
        {
            continue;
        }
        let number = out.file(&path)?;
        let file = out.get(number)?;
        let mut at = 0;
        while at < asset.bytes.len() {
            let n = ASSET_CHUNK.min(asset.bytes.len() - at);
            let bytes = asset.bytes.bytes(at, usize::try_from(n).unwrap_or(0))?;
            file.write_at(at, &bytes)?;
            at += n;
        }
    }
    Ok(())
}

/// Compares two models.
pub fn diff(
    a: &Path,
    b: &Path,
    names: Names,
    options: DiffOptions,
    session: &Session,
) -> Result<DiffReport> {
    let cx = session.reading(ReadOptions::default());
    let open = |path: &Path| {
        let mut opened = open_with(&open_input(path, &cx.places)?, None, &cx)?;
        unpack::rejoin_blocks(&mut opened.model)?;
        llm::named(opened.model, path, names, &cx).map_err(|error| error.in_file(path))
    };
    let (left, right) = (open(a)?, open(b)?);
    let pump = session.pump()?;
    cx.progress.begin("comparing", left.tensors.byte_len());
    let report = convert::diff(&left, &right, options, &pump, &cx);
    cx.progress.end();
    report
}

/// Reads a file or set back and holds it against the model it was written from, as
/// [`Converted::planned`] has it: names, types, shapes and every bit.
pub fn compare(planned: &Model, written: &Path, session: &Session) -> Result<DiffReport> {
    let cx = session.reading(ReadOptions::default());
    let input = open_input(written, &cx.places)?;
    // As it stands in the file: notes of carried types are not undone on either side.
    let opened = crate::open::open_as_written(&input, &cx)?;
    let pump = session.pump()?;
    cx.progress.begin("comparing", planned.tensors.byte_len());
    let report = convert::diff(planned, &opened, DiffOptions::default(), &pump, &cx);
    cx.progress.end();
    report
}

#[cfg(test)]
mod tests {
    #[test]
    fn diffusion_families_have_the_names_of_their_loaders() {
        let short = |name: &str| gguf::name_limit(Some(name)) == gguf::name_limit(None);
        let short: Vec<_> = arch::diffusion_families()
            .filter(|name| short(name))
            .collect();
        assert!(short.is_empty(), "{short:?}");
    }
}
