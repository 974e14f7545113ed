//! The pickle machine, on opcodes that mostly fit together.
#![no_main]

libfuzzer_sys::fuzz_target!(|plan: weightbridge_fuzz::pickle::Pickle| {
    let bytes = plan.bytes();
    weightbridge_fuzz::dump(&bytes);
    weightbridge_tests::targets::ckpt(&bytes);
});
