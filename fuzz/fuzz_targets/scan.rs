//! Scan.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weightbridge_tests::targets::scanned(bytes));
