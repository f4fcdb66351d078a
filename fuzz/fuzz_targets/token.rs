#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzzer_mutate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trustmint_fuzz::token(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    inside(data, size, max_size, seed).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

/// Mutates what one part of a token encodes: mutations of the text seldom get past base64. `None` if the text is no
/// token, the result is too long, or this time the text's own turn has come.
fn inside(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let which = usize::try_from(seed % 8).ok().map(|turn| [0, 0, 0, 1, 1, 1, 2, 3][turn])?;
    let mut parts: Vec<Vec<u8>> = data[..size].split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect();
    let part = parts.get_mut(which)?;
    let mut bytes = URL_SAFE_NO_PAD.decode(&*part).ok()?;
    let length = bytes.len();
    bytes.resize(length + length / 2 + 64, 0);
    let room = bytes.len();
    let length = fuzzer_mutate(&mut bytes, length, room);
    *part = URL_SAFE_NO_PAD.encode(&bytes[..length]).into_bytes();
    let text = parts.join(&b'.');
    data.get_mut(..text.len().min(max_size))?.get_mut(..text.len())?.copy_from_slice(&text);
    Some(text.len())
}
