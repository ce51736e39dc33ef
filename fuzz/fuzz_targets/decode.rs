//! Any bytes are a hit or are not, and no byte of them makes the relay panic.
#![no_main]

use dnma_relay::domain::hit::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for content_type in [None, Some("application/json"), Some("application/x-www-form-urlencoded")]
    {
        let _outcome = decode(body, content_type);
    }
});
