#![no_main]
use haul::internals::disposition_name;

libfuzzer_sys::fuzz_target!(|value: &str| {
    let _ = disposition_name(value);
});
