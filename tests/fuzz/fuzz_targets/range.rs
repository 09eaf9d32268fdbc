#![no_main]
use haul::{protocol::http1::range, respond::range::{Selection, resolve}};

libfuzzer_sys::fuzz_target!(|input: (&[u8], u64)| {
    let Some(specs) = range::parse(input.0, 64) else { return };
    if let Selection::Several(parts) = resolve(&specs, input.1) {
        assert!(parts.iter().map(|part| part.len).sum::<u64>() <= input.1);
    }
});
