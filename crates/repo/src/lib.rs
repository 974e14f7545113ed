//! stub
#![forbid(unsafe_code)]
/// stub
pub static FORMAT: ir::Format = ir::Format { id: "repo", names: &[], title: "set", extensions: &[], probe: |_| ir::Score::no(), reader: None, writer: None };
