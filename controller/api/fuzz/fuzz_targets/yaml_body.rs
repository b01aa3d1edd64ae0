//! See `warren_api::judge::yaml_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warren_api::judge::yaml_body(input));
