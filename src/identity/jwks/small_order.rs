//! Points of small order on Ed25519's curve.
//!
//! SECURITY: under such a "public key" one signature fits many messages, with the identity point every one (`R` = the
//! identity, `S` = 0), so whoever reads the set could sign.

/// The `y` of every point whose order divides 8, in all encodings, without the sign's bit (Chalkias, Garillot and
/// Nikolaenko, "Taming the many `EdDSA`s", table 6).
const SMALL_ORDER: [[u8; 32]; 7] = [
    small(0),
    small(1),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    // p − 1, and p and p + 1, which are 0 and 1 again.
    large(0xec),
    large(0xed),
    large(0xee),
];

const fn small(first: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = first;
    bytes
}

const fn large(first: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (first, 0x7f);
    bytes
}

/// Whether an encoded point has small order.
pub fn has_small_order(point: &[u8]) -> bool {
    let same = |y: &[u8; 32]| point.len() == 32 && point.iter().zip(y).take(31).all(|(a, b)| a == b);
    let last = point.last().map_or(0, |byte| byte & 0x7f);
    SMALL_ORDER.iter().any(|y| same(y) && y.last() == Some(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    use aws_lc_rs::signature as aws;
    use aws_lc_rs::signature::UnparsedPublicKey;

    #[test]
    fn points_of_small_order_are_known_with_either_sign() {
        for y in SMALL_ORDER {
            assert!(has_small_order(&y));
            let mut negative = y;
            negative[31] |= 0x80;
            assert!(has_small_order(&negative));
            let mut other = y;
            other[5] ^= 1;
            assert!(!has_small_order(&other));
        }
        assert!(!has_small_order(&[]) && !has_small_order(&[0; 31]));
    }

    #[test]
    fn the_identity_would_let_anyone_sign() {
        // Why the check is there: the library accepts the key and the signature.
        let anyones = [small(1), small(0)].concat();
        assert!(UnparsedPublicKey::new(&aws::ED25519, small(1)).verify(b"any message", &anyones).is_ok());
    }
}
