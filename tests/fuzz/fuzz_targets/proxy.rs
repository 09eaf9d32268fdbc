#![no_main]
use haul::internals::{ProxyHeader, parse_proxy_header};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let whole = parse_proxy_header(input);
    if let ProxyHeader::Whole { len, .. } = whole {
        assert!(len <= input.len());
        assert_eq!(parse_proxy_header(&input[..len]), whole);
    }
    // However it is cut, a decision stays.
    let half = parse_proxy_header(&input[..input.len() / 2]);
    assert!(half == ProxyHeader::Partial || half == whole);
});
