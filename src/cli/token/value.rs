//! The values of options about upload tokens, each read into the one spelling that caveats and questions have.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::escape::is_deceptive;
use crate::package::Ecosystem;
use crate::secret::sha256_of_hex;
use crate::time::Timestamp;

/// A version as the registry spells it. What nobody can see is a mistake, and would be refused without a visible reason.
pub(super) fn version(text: &str) -> Result<String, String> {
    let spaced = text.contains(|c: char| c.is_whitespace() || is_deceptive(c));
    if text.is_empty() || spaced {
        return Err("a version is not empty and has no white space or control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// The SHA-256 of a file: 64 hexadecimal digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], String> {
    sha256_of_hex(&text.to_ascii_lowercase()).ok_or_else(|| "a SHA-256 is 64 hexadecimal digits".to_owned())
}

/// A network, or one address as the network that holds nothing else.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "write an address or a network, as `192.0.2.7` or `2001:db8::/32`".to_owned())?;
    if network != network.trunc() {
        return Err(format!("an address inside a network; the network is `{}`", network.trunc()));
    }
    let canonical = network.addr().to_canonical();
    if canonical == network.addr() { Ok(network) } else { Err(format!("IPv4 inside IPv6; write `{canonical}`")) }
}

/// A moment.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "write a moment in UTC, as `2026-11-23T00:15:00Z`".to_owned())
}

/// A number of seconds or minutes.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (count, unit) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((count, "s")) => (count, 1),
        Some((count, "m")) => (count, 60),
        _ => ("", 0),
    };
    let plain = count.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = count.parse::<u32>().ok().filter(|count| plain && *count > 0);
    let seconds = seconds.map(|count| u64::from(count).saturating_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| "write seconds or minutes, as `90s` or `5m`".to_owned())
}

/// An ecosystem by its name in the policy.
pub(super) fn ecosystem(text: &str) -> Result<Ecosystem, String> {
    let known = Ecosystem::ALL.map(Ecosystem::name).join(", ");
    Ecosystem::ALL.into_iter().find(|known| known.name() == text).ok_or_else(|| format!("it is one of {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_spelling_or_is_refused() {
        assert_eq!(version("1.0+é"), Ok("1.0+é".to_owned()));
        for text in ["", " 1", "1\n", "1\u{202e}", "1\u{0}", "1\u{a0}0"] {
            assert!(version(text).is_err(), "{text:?}");
        }
        assert_eq!(sha256(&"aB".repeat(32)), Ok([0xab; 32]));
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"é".repeat(32)] {
            assert!(sha256(text).is_err(), "{text:?}");
        }
        let net = |text: &str| network(text).map(|network| network.to_string());
        assert_eq!(net("192.0.2.7"), Ok("192.0.2.7/32".to_owned()));
        assert_eq!(net("2001:DB8:0::/32"), Ok("2001:db8::/32".to_owned()));
        assert_eq!(net("192.0.2.7/24"), Err("an address inside a network; the network is `192.0.2.0/24`".to_owned()));
        assert_eq!(net("::ffff:192.0.2.7"), Err("IPv4 inside IPv6; write `192.0.2.7`".to_owned()));
        for text in ["", "192.0.2", "192.0.2.0/33", "fe80::1%eth0", "example.org"] {
            assert!(network(text).is_err(), "{text:?}");
        }
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for text in ["", "s", "0s", "5", "+5s", "-5s", "1.5m", "5h", "5é", "99999999999s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(ecosystem("open-vsx"), Ok(Ecosystem::OpenVsx));
        assert!(ecosystem("Pypi").is_err() && moment("2026-11-23").is_err() && moment("2026-11-23T00:15:00Z").is_ok());
    }
}
