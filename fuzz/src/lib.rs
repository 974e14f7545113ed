//! Files built from a plan that is drawn from the fuzzer's bytes, so that most of them get past the
//! first checks: random bytes rarely do.

pub mod gguf;
pub mod pickle;

/// Keeps the bytes a plan became: with `FUZZ_DUMP=FILE`, a finding can be told from its plan and
/// kept below `regressions/` as the file it is.
pub fn dump(bytes: &[u8]) {
    if let Some(path) = std::env::var_os("FUZZ_DUMP") {
        std::fs::write(path, bytes).expect("FUZZ_DUMP");
    }
}
