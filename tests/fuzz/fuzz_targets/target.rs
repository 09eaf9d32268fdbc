#![no_main]
use haul::internals::{Form, Method, parse_target};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(Form::Origin { target, .. }) = parse_target(input, Method::Get) else { return };
    let Ok(Form::Origin { target: again, .. }) = parse_target(target.url_path().as_bytes(), Method::Get)
        else { panic!("{target:?}") };
    assert_eq!(again, target);
});
