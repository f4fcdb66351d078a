//! Moduli that a flawed generator made (ROCA, CVE-2017-15361), known by their fingerprint.
//!
//! Its primes have the form `k·M + 65537^a mod M`, where `M` is the product of small primes, so the modulus is a power
//! of 65537 to each of those primes. A modulus of 2,048 bits that is can be factored for the price of a small car; an
//! honest one looks so once in about 2^27 keys.

/// The odd primes of `M`.
const PRIMES: [u16; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus, big-endian, has the fingerprint.
pub(super) fn is_factorable(modulus: &[u8]) -> bool {
    PRIMES.into_iter().map(u32::from).all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        is_power_of_65537(rest, prime)
    })
}

fn is_power_of_65537(number: u32, prime: u32) -> bool {
    let powers = std::iter::successors(Some(1), |power| Some(power * (65_537 % prime) % prime));
    powers.take(prime as usize).any(|power| power == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_65537_have_the_fingerprint_and_others_lack_it() {
        // 65537 and its square, as integers; neither is a modulus anybody uses.
        assert!(is_factorable(&[1, 0, 1]));
        assert!(is_factorable(&[1, 0, 2, 0, 1]));
        assert!(!is_factorable(&[1, 0, 3]));
        assert!(!is_factorable(&[0xff; 256]));
        assert!(!is_factorable(&[]));
    }

    #[test]
    fn powers_are_found_to_a_small_prime() {
        // To 5 it is 2, whose powers are every remainder but 0; to 11 it is -1, whose powers are 1 and -1.
        assert_eq!((0..5).filter(|n| is_power_of_65537(*n, 5)).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((0..11).filter(|n| is_power_of_65537(*n, 11)).collect::<Vec<_>>(), [1, 10]);
    }
}
