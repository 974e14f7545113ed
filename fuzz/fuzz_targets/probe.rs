//! The registry's probes, and every reader on what is not its format.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weightbridge_tests::targets::probe(bytes));
