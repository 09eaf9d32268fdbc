#![no_main]
use haul::internals::response_head_len;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(len) = response_head_len(input) {
        assert_eq!(response_head_len(&input[..len]), Some(len));
    }
});
