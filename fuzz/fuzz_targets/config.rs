//! The configuration of a repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weightbridge_tests::targets::config(bytes));
