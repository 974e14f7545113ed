//! The committed code is what prost makes of the schema.

#![allow(clippy::unwrap_used)] // a test

use std::fs;
use std::path::Path;

#[test]
fn the_committed_code_is_what_the_schema_gives() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = here.join("../../proto").canonicalize().unwrap();
    let schema = protox::compile([proto.join("sentencepiece.proto")], [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .disable_comments(["."])
        .out_dir(out.path());
    config.compile_fds(schema).unwrap();
    let made = fs::read_to_string(out.path().join("sentencepiece.rs")).unwrap();
    let committed = here.join("src/wire/sentencepiece.rs");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&committed, &made).unwrap();
    }
    let committed = fs::read_to_string(&committed).unwrap();
    assert!(
        committed == made,
        "UPDATE=1 cargo test -p weightbridge-vocab --test generated makes it anew"
    );
}
