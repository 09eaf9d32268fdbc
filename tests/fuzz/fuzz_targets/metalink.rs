#![no_main]
use haul::internals::metalink_files;

libfuzzer_sys::fuzz_target!(|text: &str| {
    assert_ne!(metalink_files(text), Some(0));
});
