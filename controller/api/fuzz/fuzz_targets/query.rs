//! See `warren_api::judge::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warren_api::judge::query(input));
