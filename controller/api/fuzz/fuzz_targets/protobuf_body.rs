//! See `warren_api::judge::protobuf_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warren_api::judge::protobuf_body(input));
