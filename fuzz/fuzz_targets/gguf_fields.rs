//! GGUF, on fields that are mostly right.
#![no_main]

libfuzzer_sys::fuzz_target!(|plan: weightbridge_fuzz::gguf::File| {
    let bytes = plan.bytes();
    weightbridge_fuzz::dump(&bytes);
    weightbridge_tests::targets::gguf(&bytes);
});
