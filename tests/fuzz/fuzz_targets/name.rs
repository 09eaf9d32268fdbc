#![no_main]
use haul::protocol::{Classified, InputEnd, classify, name};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Classified::Name { len, consumed } = classify(input, InputEnd::HalfClose) {
        assert!(len <= consumed && consumed <= input.len());
        let _ = name::parse(&input[..len]);
    }
});
