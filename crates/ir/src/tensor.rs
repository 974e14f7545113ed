//! Tensors: a name, a spec, and bytes that are not read yet.

use crate::{DType, Error, Fault, Region, Result, Strides, TensorSpec, gather};
use bytes::Bytes;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant first: what everything here writes.
    #[default]
    Little,
    /// Most significant first: old files and other machines.
    Big,
}

/// Bytes as they are stored somewhere.
#[derive(Clone, Debug)]
pub struct View {
    /// Where the bytes live.
    pub region: Region,
    /// Where in the region the first element begins, in bytes.
    pub offset: u64,
    /// Steps between elements; `None` for elements one after the other in row-major order.
    pub strides: Option<Strides>,
    /// The byte order of the stored numbers.
    pub byte_order: ByteOrder,
}

impl View {
    /// A contiguous little-endian view of all of `region`.
    pub fn contiguous(region: Region) -> Self {
        Self {
            region,
            offset: 0,
            strides: None,
            byte_order: ByteOrder::Little,
        }
    }

    /// The exact bytes of the tensor as one region, when they lie in the file as a writer wants
    /// them: row-major and little-endian (or of a type without byte order).
    pub fn as_plain(&self, spec: &TensorSpec) -> Option<Region> {
        let swapped = self.byte_order == ByteOrder::Big && spec.dtype.swap_width() > 1;
        let row_major = self
            .strides
            .as_ref()
            .is_none_or(|s| s.is_row_major(&spec.shape));
        if swapped || !row_major {
            return None;
        }
        self.region.slice(self.offset, spec.byte_len()?).ok()
    }

    /// Bytes from the first to one past the last that the view touches, or `None` on overflow.
    pub fn extent_bytes(&self, spec: &TensorSpec) -> Option<u64> {
        match &self.strides {
            None => spec.byte_len(),
            Some(strides) => strides
                .extent(&spec.shape)?
                .checked_mul(u64::from(spec.dtype.element_bytes()?)),
        }
    }
}

/// A computation that yields a tensor's elements on demand.
///
/// It is pulled by element range, from several threads at once over disjoint ranges, and must give
/// the same bytes whatever the ranges are.
pub trait Compute: Send + Sync {
    /// What it yields.
    fn spec(&self) -> &TensorSpec;

    /// What it is made from.
    fn inputs(&self) -> &[Tensor];

    /// One word for people, e.g. `cast f16`.
    fn label(&self) -> &str;

    /// What it is another form of, where nothing is lost by that: who needs the other form takes it.
    fn form(&self) -> Option<Form<'_>> {
        None
    }

    /// Writes the little-endian bytes of `elements` (counted in row-major order, whole blocks) to
    /// `out`, which has exactly their length.
    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()>;
}

/// The same tensor in another form.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// The numbers of these blocks, in F32.
    Numbers(&'a Tensor),
    /// The transpose of this matrix.
    Transpose(&'a Tensor),
}

/// Where a tensor's bytes come from.
#[derive(Clone)]
pub enum Payload {
    /// They are stored.
    Stored(View),
    /// They are computed when pulled.
    Computed(Arc<dyn Compute>),
    /// A list of strings, one an element.
    Strings(Arc<[Bytes]>),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(view) => view.fmt(f),
            Self::Computed(compute) => write!(f, "computed by {}", compute.label()),
            Self::Strings(list) => write!(f, "{} strings", list.len()),
        }
    }
}

/// A named tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name, unique in its model.
    pub name: String,
    /// Type and shape.
    pub spec: TensorSpec,
    /// Its bytes.
    pub payload: Payload,
}

impl Tensor {
    /// A tensor of stored bytes.
    pub fn stored(name: impl Into<String>, spec: TensorSpec, view: View) -> Self {
        Self {
            name: name.into(),
            spec,
            payload: Payload::Stored(view),
        }
    }

    /// A computed tensor; its spec is the computation's.
    pub fn computed(name: impl Into<String>, compute: Arc<dyn Compute>) -> Self {
        let spec = compute.spec().clone();
        Self {
            name: name.into(),
            spec,
            payload: Payload::Computed(compute),
        }
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.spec.dtype
    }

    /// Exact size in bytes; 0 for strings, and for specs that `Model::validate` refuses.
    pub fn byte_len(&self) -> u64 {
        self.spec.byte_len().unwrap_or(0)
    }

    /// The stored view, if its bytes are stored.
    pub fn view(&self) -> Option<&View> {
        match &self.payload {
            Payload::Stored(view) => Some(view),
            _ => None,
        }
    }

    /// The tensor's bytes as one region of a file, if they can be copied as they are.
    pub fn as_plain(&self) -> Option<Region> {
        self.view()?.as_plain(&self.spec)
    }

    /// The blocks of a matrix that lies across them: it is the transpose of their numbers. Blocks
    /// have their numbers along rows, and weights of some models (a Conv1D) theirs along columns.
    pub fn blocks_across(&self) -> Option<&Self> {
        let Some(Form::Transpose(turned)) = self.form() else {
            return None;
        };
        match turned.form() {
            Some(Form::Numbers(blocks)) => Some(blocks),
            _ => None,
        }
    }

    fn form(&self) -> Option<Form<'_>> {
        match &self.payload {
            Payload::Computed(compute) => compute.form(),
            _ => None,
        }
    }

    /// Reads the little-endian bytes of a range of elements, in row-major order and whole blocks.
    /// `out` must have exactly their length.
    pub fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let wanted = self
            .spec
            .dtype
            .byte_len(elements.end.saturating_sub(elements.start));
        if wanted != Some(out.len() as u64) {
            return Err(Error::from(Fault::Invalid {
                what: format!(
                    "elements {}..{} of {} are {wanted:?} bytes, the buffer holds {}",
                    elements.start,
                    elements.end,
                    self.spec.dtype,
                    out.len()
                ),
            })
            .at(format!("tensor {:?}", self.name)));
        }
        match &self.payload {
            Payload::Stored(view) => gather::read(view, &self.spec, elements, out),
            Payload::Computed(compute) => compute.read(elements, out),
            Payload::Strings(_) => Err(Fault::Unsupported {
                what: "strings have no bytes to read".to_owned(),
            }
            .into()),
        }
        .map_err(|error| error.at(format!("tensor {:?}", self.name)))
    }

    /// All of the tensor's bytes. For small tensors and tests: the caller keeps the size in hand.
    pub fn read_all(&self) -> Result<Vec<u8>> {
        let len = self.spec.require_byte_len(&self.name)?;
        let len = usize::try_from(len).map_err(|_| Fault::OverLimit {
            what: "bytes of a tensor read at once",
            found: len,
            limit: usize::MAX as u64,
        })?;
        let mut out = vec![0; len];
        self.read(0..self.spec.elements().unwrap_or(0), &mut out)?;
        Ok(out)
    }

    /// Where its bytes come from, newest step first: `cast bf16 ← model.pt@4096`.
    pub fn history(&self) -> String {
        let mut steps = Vec::new();
        let mut here = self;
        // A chain longer than this helps nobody.
        while steps.len() < 16 {
            match &here.payload {
                Payload::Computed(compute) => {
                    steps.push(compute.label().to_owned());
                    match compute.inputs() {
                        [] => break,
                        [input] => here = input,
                        many => {
                            steps.push(format!("{} tensors", many.len()));
                            break;
                        }
                    }
                }
                Payload::Stored(view) => {
                    let name = view.region.path().and_then(Path::file_name);
                    let name = name.map_or("memory".into(), OsStr::to_string_lossy);
                    let offset = view.region.start().saturating_add(view.offset);
                    steps.push(format!("{name}@{offset}"));
                    break;
                }
                Payload::Strings(_) => {
                    steps.push("strings".to_owned());
                    break;
                }
            }
        }
        steps.join(" ← ")
    }
}
