#![no_main]
use haul::{exchange::Method, protocol::http1::target::{Form, parse}};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(Form::Origin { target, .. }) = parse(input, Method::Get) else { return };
    let Ok(Form::Origin { target: again, .. }) = parse(target.url_path().as_bytes(), Method::Get)
        else { panic!("{target:?}") };
    assert_eq!(again, target);
});
