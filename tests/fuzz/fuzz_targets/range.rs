#![no_main]
use haul::internals::{Selection, parse_range, resolve_range};

libfuzzer_sys::fuzz_target!(|input: (&[u8], u64)| {
    let Some(specs) = parse_range(input.0, 64) else { return };
    if let Selection::Several(parts) = resolve_range(&specs, input.1) {
        assert!(parts.iter().map(|part| part.len).sum::<u64>() <= input.1);
    }
});
