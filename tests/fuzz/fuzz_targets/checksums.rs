#![no_main]
use haul::get::SumFile;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = SumFile::parse(text).map(|sums| sums.find("dir/name".as_ref()));
});
