//! One file a command: arguments to a request, the answer to text or JSON.

pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod extras;
pub(crate) mod inspect;
pub(crate) mod migrate;
pub(crate) mod quantize;
pub(crate) mod report;
mod sarif;
pub(crate) mod scan;
pub(crate) mod sign;
pub(crate) mod verify;
