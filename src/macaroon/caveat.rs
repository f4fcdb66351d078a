//! Caveats, and the text codec: `name arg,arg`, one spelling for each meaning, and nothing unknown. `pypi` is the other.
//!
//! A caveat restricts; all of a token must hold, and alternatives stand inside one caveat. Whoever holds a token can
//! append any bytes as a caveat, so a caveat that cannot be read in full makes the token useless, never wider.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;
use percent_encoding::percent_decode_str;
use percent_encoding::utf8_percent_encode;

use crate::codec::Codec;
use crate::package::Ecosystem;
use crate::package::Permission;
use crate::package::Permissions;
use crate::secret::sha256_of_hex;
use crate::spelling::is_spelled;
use crate::spelling::spelled;
use crate::time::Timestamp;

mod pypi;

/// Most arguments of one caveat.
pub const MAX_ARGUMENTS: usize = 64;

/// How long a caveat's text usually is at most, in bytes.
const USUAL: usize = 64;

/// What is percent-encoded inside an argument, besides everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// One restriction. A list is never empty: an empty one is met by nothing and cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caveat {
    /// `registry`: the verifier is one of these registries.
    Registry(BTreeSet<String>),
    /// `time-before`: it is earlier than this; whole seconds.
    TimeBefore(Timestamp),
    /// It is one moment or later, and earlier than the other; whole seconds. Only the codec `pypi` says this.
    TimeBetween {
        /// The first moment at which it holds.
        from: Timestamp,
        /// The first at which it does not any more.
        before: Timestamp,
    },
    /// `allow`: some pair allows the action on the package. In the order of [`Permissions`]: by action, then names
    /// before prefixes.
    Allow(Permissions),
    /// `version`: the version is one of these, in the spelling that the registry asks with.
    Version(BTreeSet<String>),
    /// `sha256`: the whole file has one of these digests.
    Sha256(BTreeSet<[u8; 32]>),
    /// `max-size`: the whole file is at most this many bytes long.
    MaxSize(u64),
    /// `uses`: the token works this many times, at least 1; counting is state's.
    Uses(u32),
    /// `ip`: the client's address is in one of these networks.
    Ip(BTreeSet<IpNet>),
}

/// Why bytes are not a caveat of this service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaveatError {
    /// Not `name` or `name args`.
    #[error("the token has a caveat that is not in the form `name arg,arg`")]
    NotText,
    /// A name that means nothing here, perhaps something to a newer service.
    #[error("the token has a caveat `{0}`, which this service does not know")]
    Unknown(String),
    /// Arguments that this caveat does not take, or another spelling of ones that it does.
    #[error("the token's caveat `{0}` has arguments that are not spelled as this service spells them")]
    Arguments(&'static str),
    /// More than [`MAX_ARGUMENTS`].
    #[error("the token's caveat `{0}` has more than 64 arguments")]
    TooManyArguments(&'static str),
    /// In the codec `pypi`: not a JSON array that begins with a tag.
    #[error("the token has a caveat that is not a JSON array with a tag at its beginning")]
    NotTagged,
    /// In the codec `pypi`: a tag that means nothing here.
    #[error("the token has a caveat with the tag {0}, which this service does not know")]
    UnknownTag(i64),
    /// In the codec `pypi`: other elements than the tag goes with.
    #[error("the token's caveat `{0}` has elements that are not as this service reads them")]
    Elements(&'static str),
}

impl Caveat {
    /// Every name of the text codec, in the order of the enum.
    const NAMES: [&'static str; 8] =
        ["registry", "time-before", "allow", "version", "sha256", "max-size", "uses", "ip"];

    /// The caveats without which no token of a codec is valid, each by [`Caveat::name`] and as people see it: a token
    /// without any would allow everything for ever. For which registry a token is, its key says in any codec.
    pub const fn mandatory(codec: Codec) -> &'static [(&'static str, &'static str)] {
        match codec {
            Codec::Text => &[("registry", "registry"), ("time-before", "time-before"), ("allow", "allow")],
            Codec::Pypi => &[("time-between", pypi::EXPIRATION), ("allow", pypi::PROJECTS)],
        }
    }

    /// What kind it is; its name in the text, if it has one there.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registry(_) => "registry",
            Self::TimeBefore(_) => "time-before",
            Self::TimeBetween { .. } => "time-between",
            Self::Allow(_) => "allow",
            Self::Version(_) => "version",
            Self::Sha256(_) => "sha256",
            Self::MaxSize(_) => "max-size",
            Self::Uses(_) => "uses",
            Self::Ip(_) => "ip",
        }
    }

    /// Reads a caveat in the registry's codec, and names in it as the registry's ecosystem spells them.
    pub fn read(codec: Codec, ecosystem: Ecosystem, bytes: &[u8]) -> Result<Self, CaveatError> {
        match codec {
            Codec::Text => Self::parse(ecosystem, bytes),
            Codec::Pypi => pypi::read(bytes),
        }
    }

    /// Its text in a codec; `None` if that cannot say it.
    ///
    /// SECURITY: nothing is left out or rounded to something wider. What cannot be said whole makes no token.
    pub fn write(&self, codec: Codec) -> Option<String> {
        match codec {
            Codec::Text => Self::NAMES.contains(&self.name()).then(|| spelled(self, USUAL)),
            Codec::Pypi => pypi::write(self),
        }
    }

    /// The moment from which bytes that are about time refuse everything.
    pub(super) fn end(codec: Codec, bytes: &[u8]) -> Option<Timestamp> {
        let caveat = match codec {
            // `time-before` is spelled alike in every ecosystem.
            Codec::Text if bytes.starts_with(b"time-before ") => Self::parse(Ecosystem::Generic, bytes),
            Codec::Text => return None,
            Codec::Pypi => pypi::read(bytes),
        };
        let Ok(Self::TimeBefore(end) | Self::TimeBetween { before: end, .. }) = caveat else { return None };
        Some(end)
    }

    /// Reads what [`fmt::Display`] writes, and nothing else; the text codec. The ecosystem is the registry's: it says how package names
    /// in `allow` are spelled.
    pub fn parse(ecosystem: Ecosystem, bytes: &[u8]) -> Result<Self, CaveatError> {
        let text = str::from_utf8(bytes).map_err(|_| CaveatError::NotText)?;
        let (name, arguments) = text.split_once(' ').ok_or(CaveatError::NotText)?;
        let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) else {
            return Err(if is_name(name) { CaveatError::Unknown(name.to_owned()) } else { CaveatError::NotText });
        };
        let arguments: Vec<&str> = arguments.split(',').take(MAX_ARGUMENTS + 1).collect();
        if arguments.len() > MAX_ARGUMENTS {
            return Err(CaveatError::TooManyArguments(name));
        }
        let caveat = Self::of_arguments(ecosystem, name, &arguments).ok_or(CaveatError::Arguments(name))?;
        // SECURITY: one spelling for each meaning. Two verifiers cannot disagree about an order, a repetition, a
        // leading zero or a superfluous escape that neither accepts.
        if is_spelled(&caveat, text) { Ok(caveat) } else { Err(CaveatError::Arguments(name)) }
    }

    fn of_arguments(ecosystem: Ecosystem, name: &str, arguments: &[&str]) -> Option<Self> {
        match name {
            "registry" => list(arguments, decoded).map(Self::Registry),
            "time-before" => Timestamp::parse_rfc3339(only(arguments)?).map(Self::TimeBefore),
            "allow" => {
                let pair = |argument: &&str| Permission::parse(ecosystem, argument);
                arguments.iter().map(pair).collect::<Option<_>>().map(Self::Allow)
            }
            "version" => list(arguments, decoded).map(Self::Version),
            "sha256" => list(arguments, sha256_of_hex).map(Self::Sha256),
            "max-size" => only(arguments)?.parse().ok().map(Self::MaxSize),
            "uses" => only(arguments)?.parse().ok().filter(|uses| *uses > 0).map(Self::Uses),
            "ip" => list(arguments, network).map(Self::Ip),
            _ => None,
        }
    }
}

/// `name` and its arguments in canonical order, printable ASCII: the text codec, which reads back all but the times that
/// only the codec `pypi` says.
impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        f.write_str(" ")?;
        match self {
            Self::Registry(texts) | Self::Version(texts) => commas(f, texts.iter().map(|text| encoded(text))),
            Self::TimeBefore(moment) => fmt::Display::fmt(moment, f),
            Self::TimeBetween { from, before } => commas(f, [from, before]),
            // Actions and patterns have no character that needs encoding.
            Self::Allow(permissions) => fmt::Display::fmt(permissions, f),
            Self::Sha256(digests) => commas(f, digests.iter().map(Hex)),
            Self::MaxSize(bytes) => write!(f, "{bytes}"),
            Self::Uses(uses) => write!(f, "{uses}"),
            Self::Ip(networks) => commas(f, networks),
        }
    }
}

/// A text as an argument: also how a stranger's text is shown in a sentence, since nothing but printable ASCII is left.
pub(super) fn encoded(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ENCODED)
}

/// A digest in lower-case hexadecimal.
pub(super) struct Hex<'a>(pub(super) &'a [u8; 32]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn commas<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

fn only<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    if let [argument] = arguments { Some(argument) } else { None }
}

fn list<T: Ord>(arguments: &[&str], read: fn(&str) -> Option<T>) -> Option<BTreeSet<T>> {
    arguments.iter().map(|argument| read(argument)).collect()
}

fn decoded(argument: &str) -> Option<String> {
    let text = percent_decode_str(argument).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

fn network(argument: &str) -> Option<IpNet> {
    let network = argument.parse::<IpNet>().ok()?;
    // A network with host bits set reads like one address and means many. IPv4 inside IPv6 is a second spelling of an
    // IPv4 network, and one that no client's address, which is made canonical first, would be in.
    let canonical = network == network.trunc() && network.addr() == network.addr().to_canonical();
    canonical.then_some(network)
}

fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=64).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(legal)
}

#[cfg(test)]
mod tests;
