#![no_main]
use haul::internals::{BodyLength, Discard, Discarded};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut discard = Discard::new(BodyLength::Chunked, 1 << 20);
    if let Ok(Discarded::Done(len) | Discarded::More(len)) = discard.take(input) {
        assert!(len <= input.len());
    }
});
