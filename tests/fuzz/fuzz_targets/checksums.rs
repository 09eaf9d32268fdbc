#![no_main]
use haul::get::ChecksumFile;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = ChecksumFile::parse(text).map(|checksums| checksums.find("dir/name".as_ref()));
});
