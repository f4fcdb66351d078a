#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trustmint_fuzz::audit(data));
