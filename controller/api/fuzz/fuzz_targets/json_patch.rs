//! See `warren_api::judge::json_patch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warren_api::judge::json_patch(input));
