//! Pages for people: what a model holds, or how a migration went, as one HTML file.
//!
//! The crate renders plain data ([`ModelPage`], [`MigrationPage`]) and knows nothing of files,
//! formats or terminals: who collects the data decides what is true, this crate how it looks.
//!
//! What holds for every page:
//!
//! * One file. Styles, the script and the charts (SVG) are in it; nothing is fetched, and a
//!   content security policy with the hashes of the one style and the one script forbids it.
//! * Every text of the data is a stranger's. The templates escape ([`maud`] does so by itself), and
//!   text that could hide or reorder what a person reads is spelled out.
//! * The size is bounded, however much there is: lists stop at a cap and say how much is left out.
//! * The same data gives the same bytes: no clock, no random numbers, no hash order.
//! * All of it can be read without the script, with a keyboard, and by a screen reader; each chart
//!   has a table.

#![forbid(unsafe_code)]

mod comparison;
mod conversion;
mod data;
mod findings;
mod frame;
mod grid;
mod histogram;
mod migration;
mod model;
mod modules;
mod palette;
mod place;
mod squarify;
mod tensors;
mod text;
mod treemap;
mod types;
mod values;

pub use data::{
    Comparison, Conversion, ErrorRow, Fact, FileRow, FindingRow, Graph, Histogram, ModelPage,
    RecordRow, RoleValues, Scan, ScannedFile, TensorRow, ValueSection, Values,
};
pub use migration::{MigrationPage, MigrationRow, Status, migration_page};
pub use model::model_page;
pub use place::{Place, place};
pub use tensors::shown as shown_tensors;
