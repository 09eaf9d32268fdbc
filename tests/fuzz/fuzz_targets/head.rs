#![no_main]
use haul::internals::{Parsed, parse_request};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Default::default();
    if let Parsed::Complete { request, consumed } = parse_request(input, 0, &limits) {
        let alone = parse_request(&input[..consumed], 0, &limits);
        assert_eq!(alone, Parsed::Complete { request, consumed });
    }
});
