//! What happens between a reader and a writer: passes over specs, the plan, and the pump that
//! moves the bytes.
//!
//! Passes never touch data. They rewrite a model's table: another name, another type with a
//! [`ir::Compute`] behind it, a tensor less. [`plan`] runs them in order against what the target
//! can hold and answers the model the writer gets, with a record of everything done. The
//! [`ParallelPump`] is the one place of the house where threads are.

#![forbid(unsafe_code)]

mod diff;
mod error;
mod measure;
mod numbers;
mod passes;
mod plan;
mod pump;
pub mod recipe;
mod verify;

pub use diff::{DiffOptions, DiffReport, Difference, diff};
pub use error::ConvertError;
pub use measure::{Group, Histogram, Measured, Sampling, Values, measure};
pub use passes::{CastCounts, DTypeChoice, NameFilter, Rename, to_types};
pub use passes::{Line, Quantized, quantize, quantize_each, recover_names};
pub use passes::{blockwise, blockwise_type, order_text, reorder};
pub use plan::{PlanOptions, Planned, Shared, plan, restore, select};
pub use pump::ParallelPump;
pub use verify::verify;
