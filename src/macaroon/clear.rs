//! Clearing: whether the facts of one request meet a caveat, and if not, in which words.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::code::Code;
use crate::macaroon::caveat::Caveat;
use crate::macaroon::caveat::CaveatError;
use crate::macaroon::caveat::Hex;
use crate::macaroon::caveat::encoded;
use crate::package::Action;
use crate::package::PackageName;
use crate::package::Permissions;
use crate::time::Timestamp;

/// What a registry states about the request that it asks for. What is `None` is not known, and a caveat about it fails.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The registry that asks: its id in the policy.
    pub registry: &'a str,
    /// The moment.
    pub now: Timestamp,
    /// What is to be done.
    pub action: &'a Action,
    /// To which package.
    pub package: &'a PackageName,
    /// The version, in the registry's canonical spelling.
    pub version: Option<&'a str>,
    /// The SHA-256 digest of the whole file.
    pub sha256: Option<[u8; 32]>,
    /// The length of the whole file in bytes.
    pub size: Option<u64>,
    /// The client's address, as the registry trusts it to be.
    pub client_ip: Option<IpAddr>,
}

/// A fact that a caveat may be about and that a registry may leave unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// [`Facts::version`].
    Version,
    /// [`Facts::sha256`].
    Sha256,
    /// [`Facts::size`].
    Size,
    /// [`Facts::client_ip`].
    ClientIp,
}

/// Why a caveat is not met: what it wants and what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "`wants` is the caveat's, the other fields are the request's")]
pub enum Failed {
    /// The token is for other registries.
    Registry { wants: BTreeSet<String>, asked: String },
    /// The token's time has not come.
    TooEarly { from: Timestamp, now: Timestamp },
    /// The token's time is over.
    Expired { expired_at: Timestamp, now: Timestamp },
    /// No pair of the token reaches the package.
    Package { wants: Permissions, action: Action, package: PackageName },
    /// Pairs of the token reach the package, with other actions.
    Action { wants: Permissions, action: Action, package: PackageName },
    /// The token is for other versions.
    Version { wants: BTreeSet<String>, asked: String },
    /// The token is for other files.
    Sha256 { wants: BTreeSet<[u8; 32]>, asked: [u8; 32] },
    /// The file is larger than the token allows.
    Size { limit: u64, asked: u64 },
    /// The token is for other addresses.
    ClientIp { wants: BTreeSet<IpNet>, asked: IpAddr },
    /// The token has a caveat about something that the registry did not state.
    NotStated(Fact),
    /// The token has a caveat that cannot be read.
    Unreadable(CaveatError),
    /// The token lacks a caveat that every token of this service has.
    Missing(&'static str),
}

impl Caveat {
    /// Whether the facts meet the caveat. [`Caveat::Uses`] is met here whatever they are: counting is state's.
    pub fn check(&self, facts: &Facts<'_>) -> Result<(), Failed> {
        match self {
            Self::Registry(wants) => require(wants.contains(facts.registry), || Failed::Registry {
                wants: wants.clone(),
                asked: facts.registry.to_owned(),
            }),
            Self::TimeBefore(moment) => before(*moment, facts.now),
            Self::TimeBetween { from, before: end } => {
                require(*from <= facts.now, || Failed::TooEarly { from: *from, now: facts.now })?;
                before(*end, facts.now)
            }
            Self::Allow(wants) => require(wants.allow(facts.action, facts.package), || not_allowed(wants, facts)),
            Self::Version(wants) => {
                let asked = facts.version.ok_or(Failed::NotStated(Fact::Version))?;
                require(wants.contains(asked), || Failed::Version { wants: wants.clone(), asked: asked.to_owned() })
            }
            Self::Sha256(wants) => {
                let asked = facts.sha256.ok_or(Failed::NotStated(Fact::Sha256))?;
                require(wants.contains(&asked), || Failed::Sha256 { wants: wants.clone(), asked })
            }
            Self::MaxSize(limit) => {
                let asked = facts.size.ok_or(Failed::NotStated(Fact::Size))?;
                require(asked <= *limit, || Failed::Size { limit: *limit, asked })
            }
            Self::Uses(_) => Ok(()),
            Self::Ip(wants) => {
                // `::ffff:192.0.2.1` is how a dual-stack listener spells 192.0.2.1.
                let asked = facts.client_ip.ok_or(Failed::NotStated(Fact::ClientIp))?.to_canonical();
                let inside = wants.iter().any(|network| network.contains(&asked));
                require(inside, || Failed::ClientIp { wants: wants.clone(), asked })
            }
        }
    }
}

/// SECURITY: no leeway at the end of a token's life; the service that reads the clock is the one that set it.
fn before(end: Timestamp, now: Timestamp) -> Result<(), Failed> {
    require(now < end, || Failed::Expired { expired_at: end, now })
}

fn not_allowed(wants: &Permissions, facts: &Facts<'_>) -> Failed {
    let (wants, action, package) = (wants.clone(), facts.action.clone(), facts.package.clone());
    if wants.iter().any(|pair| pair.pattern.matches(&package)) {
        Failed::Action { wants, action, package }
    } else {
        Failed::Package { wants, action, package }
    }
}

fn require(holds: bool, failed: impl FnOnce() -> Failed) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(failed()) }
}

impl Failed {
    /// Its row of the failure table.
    pub const fn code(&self) -> Code {
        match self {
            Self::Registry { .. } => Code::WrongRegistry,
            Self::TooEarly { .. } => Code::UploadTokenNotYetValid,
            Self::Expired { .. } => Code::UploadTokenExpired,
            Self::Package { .. } => Code::PackageNotCovered,
            Self::Action { .. } => Code::ActionNotCovered,
            Self::Version { .. } => Code::VersionNotCovered,
            Self::Sha256 { .. } => Code::DigestNotCovered,
            Self::Size { .. } => Code::SizeNotCovered,
            Self::ClientIp { .. } => Code::AddressNotCovered,
            Self::NotStated(_) => Code::FactNotStated,
            Self::Unreadable(_) | Self::Missing(_) => Code::CaveatNotUnderstood,
        }
    }
}

/// A sentence for the person whose upload was refused: what the token says, then what was asked.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { wants, asked } => {
                let (wants, asked) = (Quoted::of(wants.iter().map(|id| encoded(id))), encoded(asked));
                write!(f, "the token is for the registry {wants}; `{asked}` asked")
            }
            Self::TooEarly { from, now } => write!(f, "the token is good from {from} on; it is {now}"),
            Self::Expired { expired_at, now } => {
                write!(f, "the token expired at {expired_at}, {} ago", Elapsed(now.since(*expired_at)))
            }
            Self::Package { wants, action, package } => {
                let patterns: BTreeSet<_> = wants.iter().map(|pair| &pair.pattern).collect();
                write!(f, "the token is for {}; `{package}` {}", Quoted::of(patterns), done(action))
            }
            Self::Action { wants, action, package } => {
                let reaching = wants.iter().filter(|pair| pair.pattern.matches(package));
                let actions: BTreeSet<_> = reaching.map(|pair| &pair.action).collect();
                write!(f, "the token allows {} on `{package}`; `{action}` was asked for", Quoted::of(actions))?;
                let missing =
                    if action.as_str() == Action::CREATE { ", since there is no such package yet" } else { "" };
                f.write_str(missing)
            }
            Self::Version { wants, asked } => {
                let (wants, asked) = (Quoted::of(wants.iter().map(|version| encoded(version))), encoded(asked));
                write!(f, "the token is for version {wants}; the upload is version `{asked}`")
            }
            Self::Sha256 { wants, asked } => {
                let (wants, asked) = (Quoted::of(wants.iter().map(Hex)), Hex(asked));
                write!(f, "the token is for the file with SHA-256 {wants}; the upload's is `{asked}`")
            }
            Self::Size { limit, asked } => {
                write!(f, "the token is for files of at most {limit} bytes; the upload has {asked}")
            }
            Self::ClientIp { wants, asked } => {
                write!(f, "the token is for clients in {}; the request came from `{asked}`", Quoted::of(wants))
            }
            Self::NotStated(fact) => {
                let (caveat, fact) = match fact {
                    Fact::Version => ("version", "the version"),
                    Fact::Sha256 => ("sha256", "the file's SHA-256"),
                    Fact::Size => ("max-size", "the file's size"),
                    Fact::ClientIp => ("ip", "the client's address"),
                };
                write!(f, "the token has a caveat `{caveat}`, and the registry did not state {fact}")
            }
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Missing(caveat) => write!(f, "the token lacks the caveat `{caveat}`, without which none is valid"),
        }
    }
}

fn done(action: &Action) -> String {
    match action.as_str() {
        Action::UPLOAD | Action::CREATE => "was uploaded".to_owned(),
        other => format!("was asked for, to `{other}`"),
    }
}

/// Items in backticks, the first few: a token may list 64.
struct Quoted<T>(Vec<T>);

impl<T> Quoted<T> {
    const SHOWN: usize = 4;

    fn of(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().take(Self::SHOWN).enumerate() {
            write!(f, "{}`{item}`", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(Self::SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// `4 min 3 s`: the two largest units.
struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests;
