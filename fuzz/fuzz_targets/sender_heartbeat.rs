//! See `isthmus_spoke::mover::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isthmus_spoke::mover::fuzzing::sender_heartbeat(data));
