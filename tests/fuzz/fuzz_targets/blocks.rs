#![no_main]
use haul::internals::block_list_again;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(again) = block_list_again(input) {
        // Behind that are bytes that are reserved.
        assert_eq!(again[..24], input[..24]);
        assert_eq!(block_list_again(&again), Some(again));
    }
});
