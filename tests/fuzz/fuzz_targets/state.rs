#![no_main]
use haul::internals::state_claims;

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| {
    // What a state claims lies within the part file, whatever it says.
    let length = input.0 >> 8;
    assert!(state_claims(input.1, length) <= length);
});
