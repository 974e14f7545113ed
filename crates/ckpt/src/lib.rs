//! Reads and writes PyTorch checkpoints; a pickle is data and is never executed.
//!
//! ```text
//! file ─► container ─► pickle machine ─► object tree ─► selection ─► tensors with names
//! ```
//!
//! - `wire` has the names and layouts PyTorch writes.
//! - `container` opens zip, TorchScript, the legacy stream, the old tar, plain pickles.
//! - `pickle` runs pickles and writes down what they would do.
//! - `writer` writes zip checkpoints as `torch.save` does.
//! - `reader` finds the tensors, names them, and accounts for the rest; its survey finds every
//!   pickle there is, for `scan`.
//!
//! # The model
//!
//! [`ir::Model::tensors`] are the chosen tensors in the order of the file. [`ir::Model::objects`]
//! is the whole tree, its root set to the chosen subtree ([`ir::Objects::root`]): a writer that
//! walks from there meets [`ir::Object::Tensor`] in the place of each call that would build a
//! chosen tensor, and nothing of what was left out. A `Parameter` stays a call around its tensor,
//! a sparse tensor a call around its parts. Of a quantized tensor kept as parts the tree has the
//! numbers only. A tensor under two names is two tensors over the same bytes, and the tree has
//! the first.
//!
//! Scalars beside the tensors are in the metadata, namespace [`ir::ns::CKPT`]. Kinds of records:
//! `chosen`, `scalar`, `left-out`, `cycle`, `renamed`, `no-data`, `subclass`, `dtype`, `packed`,
//! `quantized`, `sparse`, `nested`, `storage`.
//!
//! ```
//! use ir::{Context, Input, Reader, Region};
//! use weightbridge_ckpt::CkptReader;
//!
//! // {'epoch': 7}, protocol 2.
//! let file = Region::memory(&b"\x80\x02}X\x05\0\0\0epochK\x07s."[..]);
//! let input = Input::from_region("small.pkl", file);
//! let model = CkptReader.open(&input, &Context::default())?;
//! assert!(model.tensors.is_empty());
//! assert_eq!(model.metadata.get(ir::ns::CKPT, "epoch").unwrap().to_string(), "7");
//!
//! // Nothing runs: the call is a record, and a survey shows it.
//! let file = Region::memory(&b"cos\nsystem\n(S'echo hello'\ntR."[..]);
//! let survey = CkptReader.survey(&Input::from_region("bad.pkl", file), &Context::default());
//! let objects = &survey.objects[0].objects;
//! let (module, name, _) = objects.named_call(objects.root().unwrap()).unwrap();
//! assert_eq!((module, name), ("os", "system"));
//! # Ok::<(), ir::Error>(())
//! ```
#![forbid(unsafe_code)]

mod container;
mod error;
mod pickle;
mod reader;
mod wire;
pub mod writer;

pub use container::begins_tar;
pub use error::CkptError;
pub use pickle::COMPUTED_GLOBAL;
pub use reader::{Beside, CkptReader, Unpacked, active, disguised, probe, start, stream};

/// PyTorch checkpoints: zip, TorchScript, PT2, legacy stream, tar, plain pickles.
pub static FORMAT: ir::Format = ir::Format {
    id: "ckpt",
    names: &["pt", "pth", "bin", "torch", "pytorch", "pickle"],
    title: "PyTorch checkpoint",
    extensions: &[
        "pt", "pth", "ckpt", "bin", "pkl", "pickle", "th", "pt2", "jit",
    ],
    probe,
    reader: Some(&CkptReader),
    writer: Some(&writer::WRITER),
};
