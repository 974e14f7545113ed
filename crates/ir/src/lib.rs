//! The model in memory: what every format reads into and every format writes from.
//!
//! ```text
//! bytes ─► probe ─► Reader ─► Model ─► passes ─► plan ─► Writer ─► bytes
//! ```
//!
//! A [`Model`] is a list of named [`Tensor`]s whose shapes and types are known and whose bytes are
//! not read yet, and beside them what else a file can hold: a graph, a tree of Python objects,
//! metadata, files that travel along. Opening a model reads headers. A pass rewrites specs and
//! stacks [`Compute`]s. Nothing is computed until a writer, having laid out every offset, hands
//! its pieces to the [`Pump`], which pulls each tensor chunk by chunk.
//!
//! # Invariants
//!
//! [`Model::validate`] checks these once; after that a writer may trust them.
//!
//! 1. **A spec is exact before any byte is read.** [`TensorSpec::byte_len`] is checked arithmetic
//!    and is `Some`. A computed tensor that yields another length is a bug, not an error path.
//! 2. **Shapes are row-major, outermost dimension first**, in every format. GGUF's reversed order
//!    exists in that crate's `wire.rs` and nowhere else.
//! 3. **Strides count elements**, and only types whose elements are whole bytes have them. Blocks
//!    run along the last dimension and a row holds whole blocks. [`DType::block`] is the one
//!    source of sizes.
//! 4. **Names are unique and order is the source's order.** Nothing that reaches a writer lives in
//!    a hash map.
//! 5. **Every id resolves**: each [`TensorId`] in a graph or an object tree names a tensor, each
//!    [`ObjectId`] a node, each [`ValueId`] a value; every stored view lies inside its region.
//! 6. **Same input and options, same bytes**, whatever the number of threads.
//!
//! # Where things live
//!
//! | source gives | lives in the IR as | who can use it |
//! |---|---|---|
//! | GGUF key-values | [`Metadata`], namespace `gguf`, exact types | gguf as is; others as text |
//! | safetensors `__metadata__` | [`Metadata`], namespace `safetensors`, strings | all |
//! | Python object tree | [`Objects`], tensors by id | checkpoints whole; others the scalars |
//! | ONNX operators, opsets | [`Graph`], initializers by id | onnx whole; others the initializers |
//! | repository files | [`Asset`]s, unparsed | copied along, or read for keys and vocabulary |
//!
//! What a conversion carried, changed and dropped is a [`Report`]: nothing is lost silently.

#![forbid(unsafe_code)]

mod build;
mod context;
mod dtype;
mod error;
mod few;
mod format;
mod gather;
mod graph;
mod input;
mod limits;
mod metadata;
mod model;
mod object;
mod output;
mod patch;
mod places;
mod pump;
mod region;
mod report;
mod shape;
pub mod shard;
mod sniff;
mod spared;
mod stream;
mod survey;
mod table;
mod tensor;
pub mod typed_text;
mod validate;

pub use build::{ModelBuilder, PatternCompute};
pub use context::{Cancel, Context, Open, Progress, ReadOptions, Silent, WriteOptions};
pub use dtype::{BlockFormat, DType, UnknownDType};
pub use error::{Class, Diagnose, Error, Fault, Result};
pub use few::Few;
pub use format::{
    Aliasing, Capabilities, Format, MetadataKinds, Packing, Peek, Reader, Score, Writer,
};
pub use graph::{
    About, Annotation, Attribute, AttributeKind, AttributeValue, Dim, DimSize, Function, Graph,
    GraphBody, Initializer, Node, Remark, SparseTensor, Training, Value, ValueId, ValueType,
};
pub use input::Input;
pub use limits::Limits;
pub use metadata::{Array, Entry, MetaValue, Metadata, ns};
pub use model::{Asset, Checksum, Digest, Model, Provenance};
pub use object::{
    Blob, Call, CallKind, Changes, Global, Ids, Object, ObjectId, ObjectNode, Objects, Pairs,
    Patch, PatchKind,
};
pub use output::{OutFile, Output, Published};
pub use patch::{finish_interrupted, replace_beginning};
pub use places::{
    Kind, Listing, Places, Remote, Stat, Tap, Upload, Walked, is_missing, is_url, missing,
};
pub use pump::{Body, Piece, Pump, SerialPump};
pub use region::{ByteSource, FileSource, Region};
pub use report::{Outcome, Record, Report};
pub use shape::{Shape, Strides, TensorSpec};
pub use sniff::{Lookalike, sniff};
pub use spared::{Identity, is_inside, same_file, unfollowed};
pub use stream::Stream;
pub use survey::{Anomaly, AnomalyKind, Survey, SurveyedObjects, Text};
pub use table::{TensorId, TensorTable};
pub use tensor::{ByteOrder, Compute, Form, Payload, Tensor, View};
