//! See `warren_api::judge::selectors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warren_api::judge::selectors(input));
