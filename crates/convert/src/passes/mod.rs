//! Rewrites of a model's tensors. Each takes the model and adds to the records; none reads data.

mod blockwise;
mod cast;
mod fit;
mod keys;
mod names;
mod order;
mod parts;
mod quantize;
mod recover;
mod same;
mod strings;
mod ties;
mod transpose;

pub use blockwise::{blockwise, blockwise_type};
pub use cast::{CastCounts, DTypeChoice, to_types};
pub use names::{NameFilter, Rename};
pub use order::{order_text, reorder};
pub use quantize::{Line, Quantized, quantize, quantize_each};
pub use recover::recover_names;

pub(crate) use cast::cast;
pub(crate) use fit::{fit, restore_types, retype};
pub(crate) use keys::{as_text, note_metadata, restore_metadata};
pub(crate) use names::{filter, rename};
pub(crate) use order::{names as order_of, note_order, restore_order};

pub(crate) use ties::{resolve_ties, restore_ties};
