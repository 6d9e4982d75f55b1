//! See `isthmus_shared::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| isthmus_shared::fuzzing::pack_frame(data));
