//! From a checkpoint to the model: which tensors, under which names, and what is left out.

mod beside;
mod build;
mod bytes;
mod children;
mod flip;
mod forest;
mod lower;
mod notes;
mod numpy;
mod parts;
mod probe;
mod pt2;
mod select;
mod structure;
mod survey;
mod walk;

pub use probe::probe;
pub use survey::{Beside, Unpacked, active, disguised, start, stream};

use crate::container::{Form, Storages};
use crate::pickle::Budget;
use forest::{Forest, Node};
use ir::{
    Context, Input, MetaValue, Model, Object, ObjectId, Provenance, Reader, Record, Result, Survey,
    Tensor, TensorId, ns,
};
use select::Choice;
use std::collections::{HashMap, HashSet};
use structure::Counts;
use walk::{Found, Harvest};

/// Reads PyTorch checkpoints of every container.
#[derive(Debug, Clone, Copy)]
pub struct CkptReader;

impl Reader for CkptReader {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        open(input, cx).map_err(|error| error.in_file(input.path()))
    }

    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        survey::survey(input, cx, &mut survey::Nobody)
    }
}

impl CkptReader {
    /// A survey that hands what is no pickle to another: for archives of files of any kind.
    pub fn survey_with(&self, input: &Input, cx: &Context, beside: &mut dyn Beside) -> Survey {
        survey::survey(input, cx, beside)
    }

    /// The same of a file of another format, for the zip archive it ends as; none if it does not.
    pub fn survey_end(
        &self,
        input: &Input,
        cx: &Context,
        beside: &mut dyn Beside,
    ) -> Option<Survey> {
        survey::survey_end(input, cx, beside)
    }
}

fn open(input: &Input, cx: &Context) -> Result<Model> {
    let region = input.file()?;
    let cx = &Context {
        limits: cx.limits.for_file(region.len()),
        ..cx.clone()
    };
    let mut budget = Budget::new(&cx.limits);
    let forest = match Forest::open(region, &mut budget, &cx.scratch) {
        Ok(forest) => forest,
        Err(error) => {
            let other = matches!(
                error.downcast_ref(),
                Some(crate::CkptError::NotACheckpoint { .. })
            );
            return match pt2::recognise(region, &cx.limits).filter(|_| other) {
                Some((archive, top)) => pt2::open(&archive, &top, input, cx),
                None => Err(error),
            };
        }
    };
    let mut assembly = Assembly {
        forest,
        model: Model::default(),
        names: HashSet::new(),
        placed: HashMap::new(),
        looks: beside::LOOKS,
    };
    assembly.run(&mut budget, cx)?;
    let mut model = assembly.model;
    for doc in &mut assembly.forest.docs {
        if let Storages::Entries { pool, .. } = &mut doc.storages {
            model.provenance.checksums.append(&mut pool.sums);
        }
    }
    model.provenance.files = vec![(input.path().to_owned(), region.len())];
    model.validate(&cx.limits)?;
    Ok(model)
}

/// So many tensors, in words.
fn many(n: u64) -> String {
    match n {
        1 => "1 tensor".to_owned(),
        n => format!("{n} tensors"),
    }
}

/// A model being put together.
struct Assembly {
    forest: Forest,
    model: Model,
    names: HashSet<String>,
    /// Objects of the checkpoint's own tree that are tensors of the model.
    placed: HashMap<ObjectId, TensorId>,
    /// Objects that may still be looked at to describe what is left out.
    looks: usize,
}

impl Assembly {
    fn run(&mut self, budget: &mut Budget, cx: &Context) -> Result<()> {
        let Some(first) = self.forest.docs.first() else {
            return Ok(());
        };
        let form = first.form;
        self.model.provenance = Provenance {
            format: "ckpt",
            version: first.version.clone(),
            notes: first.notes.clone(),
            ..Provenance::default()
        };
        let Some(root) = first.objects.root() else {
            return Ok(());
        };
        let root = Node { doc: 0, id: root };
        self.refuse_what_no_file_holds()?;
        let counts = Counts::below(&self.forest, root, &cx.limits)?;
        let choice = select::choose(&self.forest, &counts, root, &cx.read)?;
        let harvest = walk::walk(&self.forest, &counts, choice.node, budget)?;
        // What a frozen module keeps instead is told by `constants`.
        if form != Form::TorchScript || !harvest.tensors.is_empty() {
            self.record_choice(&choice, &harvest, form);
        }
        self.passed_by(&choice, &counts);
        self.beside(&choice, &harvest);
        self.tensors(&harvest.tensors, &choice, cx)?;
        if form == Form::TorchScript && self.model.tensors.is_empty() {
            self.constants(budget, cx)?;
        }
        if choice.node.doc == 0
            && let Some(first) = self.forest.docs.first()
        {
            notes::read(
                &first.objects,
                choice.node.id,
                cx.limits.depth,
                &mut self.model.metadata,
            );
        }
        self.place(&choice);
        Ok(())
    }

    /// An object named by an extension code, or an out-of-band buffer: whoever loads the file
    /// without the program that wrote it fails too.
    fn refuse_what_no_file_holds(&self) -> Result<()> {
        for doc in &self.forest.docs {
            for (_, node) in doc.objects.iter() {
                let what = match node.object {
                    Object::Extension(code) => format!(
                        "extension code {code}, which only the program that wrote the file knows"
                    ),
                    Object::OutOfBand => "a buffer that is not in the file".to_owned(),
                    _ => continue,
                };
                return Err(crate::CkptError::Pickle {
                    slot: doc.slot.clone(),
                    offset: node.at,
                    opcode: "EXT or NEXT_BUFFER",
                    what: format!("the pickle needs {what}"),
                }
                .into());
            }
        }
        Ok(())
    }

    fn record(&mut self, record: Record) {
        self.model.provenance.records.push(record);
    }

    fn record_choice(&mut self, choice: &Choice, harvest: &Harvest, form: Form) {
        let what = if choice.path.is_empty() {
            "top level".to_owned()
        } else {
            choice.path.join(".")
        };
        let n = harvest.tensors.len();
        let why = format!("{}; {}", choice.why, many(n as u64));
        let mut record = Record::carried("chosen", what, why);
        if form != Form::TorchScript {
            record = record.flag("--key");
        }
        self.record(record);
        for path in &harvest.cycles {
            let why = "the object holds itself here";
            self.record(Record::dropped("cycle", path.clone(), why).wanted());
        }
    }

    fn tensors(&mut self, found: &[Found], choice: &Choice, cx: &Context) -> Result<()> {
        for Found { name, node, build } in found {
            let name = match (name.as_str(), choice.path.last()) {
                // The chosen object is itself the tensor; under an empty key it has an empty name.
                ("", Some(key)) if *node == choice.node => key.clone(),
                ("", None) if *node == choice.node => "tensor".to_owned(),
                (name, _) => name.to_owned(),
            };
            let lowered = self.forest.lower(build, &cx.limits);
            let lowered = lowered.map_err(|error| {
                error.at(format!("tensor {name:?} at {}", self.forest.at(*node)))
            })?;
            if let Some(why) = lowered.nothing {
                self.record(Record::dropped("no-data", name.clone(), why));
            }
            for part in lowered.parts {
                let wanted = format!("{name}{}", part.suffix);
                let unique = self.unique(wanted, cx)?;
                let id = self.model.tensors.push(Tensor {
                    name: unique,
                    spec: part.spec,
                    payload: part.payload,
                })?;
                if let Some(own) = part.own.filter(|own| own.doc == 0) {
                    self.placed.entry(own.id).or_insert(id);
                }
            }
            for (kind, why) in lowered.was {
                let why = why.replace("NAME", &name);
                let record = match kind {
                    "subclass" => Record::changed(kind, name.clone(), why),
                    _ => Record::carried(kind, name.clone(), why),
                };
                self.record(record);
            }
            if let Some((kind, note)) = lowered.note {
                let key = format!("{kind}.{name}");
                let value = MetaValue::text(note.to_string());
                self.model.metadata.push_new(ns::NOTE, key, value);
            }
        }
        Ok(())
    }

    /// A name nobody has yet. Two paths can give one name: a key with a dot in it, or keys `1`
    /// and `"1"`. The later one gets `#2`.
    fn unique(&mut self, wanted: String, cx: &Context) -> Result<String> {
        ir::Limits::check("bytes of a name", wanted.len() as u64, cx.limits.name_bytes)?;
        if self.names.insert(wanted.clone()) {
            return Ok(wanted);
        }
        let mut n = 2u64;
        loop {
            let name = format!("{wanted}#{n}");
            if self.names.insert(name.clone()) {
                let why = format!("another tensor has the name {wanted:?} already");
                self.record(Record::carried("renamed", name.clone(), why));
                return Ok(name);
            }
            n += 1;
        }
    }

    /// A frozen TorchScript module keeps its weights among the constants of its code.
    fn constants(&mut self, budget: &mut Budget, cx: &Context) -> Result<()> {
        let constants = self
            .forest
            .docs
            .first_mut()
            .and_then(|doc| doc.constants.take());
        let Some(constants) = constants else {
            return Ok(());
        };
        let doc = self.forest.docs.len();
        let root = constants.objects.root();
        self.forest.docs.push(*constants);
        let Some(id) = root else {
            return Ok(());
        };
        let root = Node { doc, id };
        let counts = Counts::below(&self.forest, root, &cx.limits)?;
        let mut harvest = walk::walk(&self.forest, &counts, root, budget)?;
        if harvest.tensors.is_empty() {
            return Ok(());
        }
        for found in &mut harvest.tensors {
            found.name.insert_str(0, "constants.");
        }
        let choice = Choice {
            node: root,
            path: Vec::new(),
            passed: Vec::new(),
            why: String::new(),
        };
        let why = format!(
            "a frozen module has no state dict; the {} tensors among its code's constants",
            harvest.tensors.len()
        );
        self.record(Record::carried("chosen", "constants", why));
        self.tensors(&harvest.tensors, &choice, cx)
    }

    /// Puts tensors in their places in the tree, and the chosen subtree at its root.
    fn place(&mut self, choice: &Choice) {
        let Some(first) = self.forest.docs.first_mut() else {
            return;
        };
        let mut objects = std::mem::take(&mut first.objects);
        for (&id, &tensor) in &self.placed {
            if let Some(object) = objects.get_mut(id) {
                *object = Object::Tensor(tensor);
            }
        }
        if choice.node.doc == 0 {
            objects.set_root(choice.node.id);
            self.model.objects = Some(objects);
        }
    }
}

#[cfg(test)]
mod tests;
