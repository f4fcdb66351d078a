//! Values that must not be seen: zeroised when dropped, redacted in `Debug`, never serialised, compared in constant
//! time. The type has no `Display`, `Serialize`, `PartialEq` or `Clone`, so leaking or comparing one takes a call that
//! a reviewer can find by name: [`Secret::expose`].

use std::cell::RefCell;
use std::fmt;

use sha2::Digest as _;
use sha2::Sha256;
use zeroize::Zeroize;
use zeroize::Zeroizing;

/// A value that is wiped when dropped and that no formatter, log or serialiser can print.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place where it could leak.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret that somebody presented, where it lies in their message: neither kept nor wiped by us, and redacted in
/// `Debug` like any other.
#[derive(Clone, Copy)]
pub struct Presented<'a>(&'a str);

impl<'a> Presented<'a> {
    /// What was presented.
    pub const fn new(secret: &'a str) -> Self {
        Self(secret)
    }

    /// The text itself. Every call is a place where it could leak.
    pub const fn expose(self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether two byte strings are equal, in time that depends only on their lengths.
///
/// SECURITY: every comparison with a secret (a signature, the digest of an API key) goes through here; an early exit
/// would let a caller find the value byte by byte.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// SHA-256: how keys, tokens and files are known without being kept.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

/// HMAC-SHA256 (RFC 2104) under a key of 32 bytes, of what it is fed, one piece after the other.
///
/// Neither by aws-lc, which takes longer for its contexts than for the hashing, nor by the crate `hmac`, which leaves the key on the
/// stack. Both hashes wipe themselves when they are dropped.
pub struct HmacSha256 {
    inner: Sha256,
    outer: Sha256,
}

impl HmacSha256 {
    /// Nothing is fed yet.
    pub fn new(key: &[u8; 32]) -> Self {
        // RFC 2104 section 2: a key is filled with zeros to the hash's block.
        const INNER: u8 = 0x36;
        const OUTER: u8 = 0x5c;
        let (mut inner, mut outer) = (Sha256::new(), Sha256::new());
        let mut block = Zeroizing::new([INNER; 64]);
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= *key);
        inner.update(block.as_slice());
        block.iter_mut().for_each(|pad| *pad ^= INNER ^ OUTER);
        outer.update(block.as_slice());
        Self { inner, outer }
    }

    /// Feeds it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The code of all that it was fed.
    pub fn finish(mut self) -> [u8; 32] {
        let mut inner = Zeroizing::new([0; 32]);
        self.inner.finalize_into((&mut *inner).into());
        self.outer.update(inner.as_slice());
        self.outer.finalize().into()
    }
}

impl fmt::Debug for HmacSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

/// The SHA-256 that 64 hexadecimal digits in lower case say, as [`hex`] writes it.
pub fn sha256_of_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

/// Fresh random bytes from the operating system's generator: the only place that draws randomness, called at the rim
/// and passed on as a value, so that the core is a function of its arguments. `None` when the system has none to give,
/// which callers report as a fault: a predictable token id or key is worse than no service.
pub fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "the one reader of the system's randomness")]
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Fresh random bytes that make a name unique (a request's, an upload token's), as those of [`random_bytes`]. Several are
/// drawn at once and each is given once: a draw reads the processor's generator, which takes longer than all else about a name.
///
/// Not for keys: what is drawn and not yet given lies in memory, and in the memory of each copy that is made of a running machine.
pub fn random_name() -> Option<[u8; NAME]> {
    thread_local! {
        static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { names: [[0; NAME]; AT_ONCE], left: 0 }) };
    }
    DRAWN.with_borrow_mut(|drawn| drawn.next(random_bytes))
}

/// Random bytes of a name.
const NAME: usize = 10;
/// How many names are drawn at once.
const AT_ONCE: usize = 32;

/// Names that were drawn, of which some are left.
struct Drawn {
    names: [[u8; NAME]; AT_ONCE],
    left: usize,
}

impl Drawn {
    fn next(&mut self, draw: impl FnOnce() -> Option<[u8; NAME * AT_ONCE]>) -> Option<[u8; NAME]> {
        if self.left == 0 {
            self.names = draw()?.as_chunks().0.try_into().ok()?;
            self.left = AT_ONCE;
        }
        self.left -= 1;
        self.names.get(self.left).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_given_once_and_none_without_randomness() {
        let mut drawn = Drawn { names: [[0; NAME]; AT_ONCE], left: 0 };
        assert_eq!(drawn.next(|| None), None);
        let mut given = std::collections::HashSet::new();
        for draw in 0..3_u8 {
            let bytes = std::array::from_fn(|at| draw * 64 + u8::try_from(at / NAME).unwrap());
            assert!(given.insert(drawn.next(|| Some(bytes)).unwrap()));
            for _ in 1..AT_ONCE {
                assert!(given.insert(drawn.next(|| unreachable!("there are some left")).unwrap()));
            }
            assert_eq!(drawn.next(|| None), None);
        }
        let names: std::collections::HashSet<_> = (0..1000).map(|_| random_name().unwrap()).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.expose(), "hunter2");
        let presented = Presented::new("hunter2");
        assert_eq!(format!("{presented:?}"), "[redacted]");
        assert_eq!(presented.expose(), "hunter2");
    }

    #[test]
    fn hmac_is_that_of_rfc_4231_in_any_pieces() {
        // Section 4.3, test case 2; a key is filled with zeros.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let (message, code) =
            (b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        for at in 0..=message.len() {
            let mut mac = HmacSha256::new(&key);
            mac.update(&message[..at]);
            mac.update(&message[at..]);
            assert_eq!(format!("{mac:?}"), "[redacted]");
            assert_eq!(hex(&mac.finish()), code);
        }
    }

    #[test]
    fn hmac_is_that_of_another_implementation_for_any_length() {
        use aws_lc_rs::hmac;
        for length in 0..300_usize {
            let (key, message) = (sha256(&length.to_be_bytes()), vec![u8::try_from(length % 251).unwrap(); length]);
            let mut mac = HmacSha256::new(&key);
            mac.update(&message);
            assert_eq!(mac.finish(), hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message).as_ref());
        }
    }

    #[test]
    fn digests_are_written_in_hexadecimal() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&sha256(b"abc")), digest);
        assert_eq!(sha256_of_hex(digest), Some(sha256(b"abc")));
        for other in [
            "",
            digest.trim_start_matches("ba"),
            digest.trim_start_matches('b'),
            &digest.to_uppercase(),
            &digest.replace('a', "g"),
            &digest.repeat(2),
        ] {
            assert_eq!(sha256_of_hex(other), None, "{other}");
        }
    }

    #[test]
    fn equality_needs_equal_lengths_and_bytes() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
        assert!(constant_time_eq(b"", b""));
    }
}
