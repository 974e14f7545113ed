//! Converts ML model files between formats, judges them, compares them.
//!
//! This crate is the public face of the house: it knows which formats there are
//! ([`registry`]), tells which one a file is ([`detect`]), and has one call for each thing the
//! command line does. Everything it answers is data: printing is the caller's.
//!
//! ```no_run
//! use weightbridge::{ConvertRequest, Session};
//!
//! let session = Session::default();
//! let request = ConvertRequest::new("model.pt", "model.safetensors");
//! let done = weightbridge::convert(&request, &session)?;
//! for record in &done.report.records {
//!     println!("{record}");
//! }
//! # Ok::<(), ir::Error>(())
//! ```
//!
//! A hostile file is an error, never a panic, and leaves nothing behind:
//!
//! ```
//! use weightbridge::{ConvertRequest, Session};
//!
//! let dir = tempfile::tempdir()?;
//! let input = dir.path().join("model.pt");
//! let output = dir.path().join("model.safetensors");
//! // cos\nsystem … : a pickle that would run a command.
//! std::fs::write(&input, b"cos\nsystem\n(S'true'\ntR.")?;
//! let error = weightbridge::convert(&ConvertRequest::new(&input, &output), &Session::default())
//!     .expect_err("refused");
//! assert_eq!(error.class(), ir::Class::Refused);
//! assert!(!output.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod attest;
mod carry;
mod convert;
mod describe;
mod edit;
mod error;
mod graph_text;
mod keep_graph;
mod llm;
mod open;
mod policy;
mod quantize;
mod registry;
mod report;
mod request;
mod scan;
mod session;
mod sign;
mod stale;
mod target;

pub use ::sign::{PrivateKey, PublicKey};
pub use attest::Attest;
pub use carry::Carry;
pub use convert::{Converted, compare, convert, diff};
pub use describe::{Description, QuantizedLine, TensorLine, describe};
pub use edit::{Edit, chat_template, edit_in_place};
pub use error::FacadeError;
pub use graph_text::graph_text;
pub use llm::LlmOptions;
pub use open::{Opened, open, open_input};
pub use policy::Policy;
pub use quantize::{QuantizeRequest, QuantizedFile, quantize};
pub use registry::{Detected, by_id, by_output, detect, registry};
pub use repo::{Weights, weights_in};
pub use report::{ReadValues, ReportRequest, Reported, report};
pub use request::{ConvertRequest, Intent, Names};
pub use scan::{ScanReport, Scanned, files_to_scan, scan};
pub use session::{Session, storage};
pub use sign::{
    Coverage, SignRequest, SignedModel, Standing, Verified, VerifyRequest, sign, verify,
    verify_statement,
};
