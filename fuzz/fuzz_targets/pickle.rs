//! The pickle machine, on bare pickles.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weightbridge_tests::targets::ckpt(bytes));
