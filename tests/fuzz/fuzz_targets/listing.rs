#![no_main]
use haul::internals::listing_links;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let _ = listing_links(text);
});
