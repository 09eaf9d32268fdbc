#![no_main]
use haul::internals::chunked_len;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((taken, content)) = chunked_len(input) {
        assert!(content <= taken && taken <= input.len());
    }
});
