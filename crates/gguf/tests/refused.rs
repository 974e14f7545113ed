//! The published advisories on GGUF readers, and the cases of llama.cpp's `tests/test-gguf.cpp` with
//! ours beside them: one test each, named for what is wrong.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod support;

use ir::Class;
use std::collections::BTreeSet;
use support::{catalogue, open, path_of, testdata};

/// The file is refused with the words that its script wrote down, within limits, and with a hint.
fn refused(name: &str) {
    let facts = catalogue("gguf/bad/");
    let fact = facts
        .iter()
        .find(|fact| path_of(fact).ends_with(&format!("/{name}")));
    let fact = fact.unwrap_or_else(|| panic!("no {name}"));
    let error = open(&testdata().join(path_of(fact))).unwrap_err();
    let class = error.class();
    assert!(
        matches!(class, Class::Malformed | Class::Unsupported | Class::Limit),
        "{error:?}"
    );
    assert!(
        error.to_string().contains(fact["why"].as_str().unwrap()),
        "{error}"
    );
    assert!(error.help().is_some() && error.path().is_some());
}

/// A test for each name, and the list of all files they try.
macro_rules! tests {
    ($list:ident: $($name:ident: $($file:literal),+;)+) => {
        const $list: &[&str] = &[$($($file),+),+];
        $(
            #[test]
            fn $name() {
                for file in [$($file),+] {
                    refused(file);
                }
            }
        )+
    };
}

tests! { ADVISORIES:
    cve_2024_21802: "dims_5.gguf", "dims_max.gguf";
    cve_2024_21825: "array_wrap.gguf";
    cve_2024_21836: "n_tensors_wrap.gguf";
    cve_2024_23496: "key_length_max.gguf", "string_length_max.gguf";
    cve_2024_23605: "n_kv_wrap.gguf";
    cve_2024_25664: "n_kv_wrap.gguf";
    cve_2024_25665: "key_length_max.gguf", "name_length_max.gguf";
    cve_2024_25666: "n_tensors_wrap.gguf";
    cve_2024_25667: "array_wrap.gguf";
    cve_2024_25668: "array_strings_wrap.gguf";
    cve_2025_53630: "bytes_sum_wrap.gguf";
    cve_2026_27940: "bytes_sum_wrap.gguf";
    cve_2026_33298: "dims_wrap_small.gguf", "bytes_overflow.gguf";
    cve_2026_7482: "data_cut_much.gguf";
}

tests! { CASES:
    alignment_0: "alignment_0.gguf";
    alignment_13: "alignment_13.gguf";
    alignment_24: "alignment_24.gguf";
    alignment_33: "alignment_33.gguf";
    alignment_array: "alignment_array.gguf";
    alignment_i32: "alignment_i32.gguf";
    alignment_inconsistent: "alignment_inconsistent.gguf";
    alignment_string: "alignment_string.gguf";
    alignment_u64: "alignment_u64.gguf";
    alone_00001_of_00002: "alone-00001-of-00002.gguf";
    array_2_40: "array_2_40.gguf";
    array_cut: "array_cut.gguf";
    array_nested_2_20: "array_nested_2_20.gguf";
    array_nested_5000: "array_nested_5000.gguf";
    array_nested_513: "array_nested_513.gguf";
    array_string_cut: "array_string_cut.gguf";
    array_type: "array_type.gguf";
    big_endian_q5_0: "big_endian_q5_0.gguf";
    blocks_cut: "blocks_cut.gguf";
    blocks_row: "blocks_row.gguf";
    bytes_1_tb: "bytes_1_tb.gguf";
    bytes_pad_wrap: "bytes_pad_wrap.gguf";
    count_00001_of_00002: "count-00001-of-00002.gguf";
    count_00002_of_00002: "count-00002-of-00002.gguf";
    data_cut: "data_cut.gguf";
    data_no_header_padding: "data_no_header_padding.gguf";
    data_none: "data_none.gguf";
    dim_2_63: "dim_2_63.gguf";
    dim_negative: "dim_negative.gguf";
    dims_overflow: "dims_overflow.gguf";
    dims_overflow_zero: "dims_overflow_zero.gguf";
    empty: "empty.gguf";
    header_cut: "header_cut.gguf";
    key_empty: "key_empty.gguf";
    key_not_utf8: "key_not_utf8.gguf";
    key_nul: "key_nul.gguf";
    key_nul_alignment: "key_nul_alignment.gguf";
    key_twice: "key_twice.gguf";
    magic: "magic.gguf";
    magic_old: "magic_old.gguf";
    magic_only: "magic_only.gguf";
    n_kv_max: "n_kv_max.gguf";
    n_kv_more: "n_kv_more.gguf";
    n_tensors_max: "n_tensors_max.gguf";
    n_tensors_more: "n_tensors_more.gguf";
    name_64: "name_64.gguf";
    name_not_utf8: "name_not_utf8.gguf";
    name_nul: "name_nul.gguf";
    name_nul_only: "name_nul_only.gguf";
    name_nul_twice: "name_nul_twice.gguf";
    name_twice: "name_twice.gguf";
    no_00001_of_00002: "no-00001-of-00002.gguf";
    no_00002_of_00002: "no-00002-of-00002.gguf";
    number_00002_of_00002: "number-00002-of-00002.gguf";
    offset_400_times: "offset_400_times.gguf";
    offset_beyond: "offset_beyond.gguf";
    offset_first: "offset_first.gguf";
    offset_gap: "offset_gap.gguf";
    offset_max: "offset_max.gguf";
    offset_misaligned: "offset_misaligned.gguf";
    offset_order: "offset_order.gguf";
    offset_overlap: "offset_overlap.gguf";
    offset_partly: "offset_partly.gguf";
    offset_wrap: "offset_wrap.gguf";
    padding_cut: "padding_cut.gguf";
    plain_00001_of_00002: "plain-00001-of-00002.gguf";
    plain_00002_of_00002: "plain-00002-of-00002.gguf";
    renamed: "renamed.gguf";
    string_cut: "string_cut.gguf";
    string_length_wrap: "string_length_wrap.gguf";
    total_00001_of_00002: "total-00001-of-00002.gguf";
    total_00002_of_00002: "total-00002-of-00002.gguf";
    twice_00001_of_00002: "twice-00001-of-00002.gguf";
    twice_00002_of_00002: "twice-00002-of-00002.gguf";
    type_31: "type_31.gguf";
    type_32: "type_32.gguf";
    type_33: "type_33.gguf";
    type_36: "type_36.gguf";
    type_37: "type_37.gguf";
    type_38: "type_38.gguf";
    type_4: "type_4.gguf";
    type_43: "type_43.gguf";
    type_5: "type_5.gguf";
    type_max: "type_max.gguf";
    value_type: "value_type.gguf";
    value_type_max: "value_type_max.gguf";
    version_0: "version_0.gguf";
    version_1: "version_1.gguf";
    version_4: "version_4.gguf";
    version_big: "version_big.gguf";
}

#[test]
fn every_bad_file_has_a_test() {
    let tried: BTreeSet<&str> = ADVISORIES.iter().chain(CASES).copied().collect();
    let facts = catalogue("gguf/bad/");
    let listed: BTreeSet<&str> = facts
        .iter()
        .filter_map(|fact| path_of(fact).rsplit('/').next())
        .collect();
    assert_eq!(tried, listed);
}
