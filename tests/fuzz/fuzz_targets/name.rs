#![no_main]
use haul::internals::{Classified, InputEnd, classify, parse_name};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Classified::Name { len, consumed } = classify(input, InputEnd::HalfClose) {
        assert!(len <= consumed && consumed <= input.len());
        let _ = parse_name(&input[..len]);
    }
});
