//! Many models: what a tree holds, a plan of it that people read and edit, and the run that is sure
//! of every byte.
//!
//! ```text
//! walk ─► models ─► plan ─► plan.jsonl ─► run ─► steps, one model each ─► commit ─► journal ─► status
//!  tree    sets of   a line   edited by    workers   lock · convert ·     many models: sync ·
//!          weights   a model  people       budget    compare · digest     publish · sync · remove
//! ```
//!
//! What happens to one model is `weightbridge`'s work; this crate knows which models there are, in
//! which order things become durable, and what to do after a crash. Everything it answers is data:
//! printing is the caller's.
//!
//! The order that makes a kill harmless, for each model: its outputs are written into a folder that
//! only the holder of its lock touches; they are read back, compared, digested and synced; the
//! journal says so, durably; only then do they get their names, by renames that replace nothing.
//! In object storage the folder is a prefix, and the renames are copies that replace nothing.

#![forbid(unsafe_code)]

mod advice;
mod batch;
mod beside;
mod budget;
mod commit;
mod digest;
mod disks;
mod error;
mod journal;
mod line;
mod lock;
mod models;
mod names;
mod observe;
mod page;
mod place;
mod plan;
mod publish;
mod remove;
mod run;
mod select;
mod side;
mod space;
mod stage;
mod status;
mod steps;
mod task;
mod walk;

pub use error::MigrateError;
pub use line::{Action, BadLine, FileFact, Line, Plan, Settings, read_plan};
pub use observe::{Observer, Unobserved};
pub use page::{is_plan, page, write_page};
pub use plan::{PlanRequest, Planned, plan, refuse_output};
pub use run::{Failure, RunReport, RunRequest, run};
pub use status::{Status, status};
pub use task::Task;
pub use walk::Remark;
