//! Why a bundle is refused. For operators, and for whoever runs the registry's server.

use crate::policy::yaml::Faults;
use crate::policy::yaml::shown;
use crate::time::Timestamp;

/// Why a bundle is refused. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleFault {
    /// The policy in force has no such registry, or lets it serve no bundle from there: it has changed meanwhile.
    #[error("the policy in force has no bundle of this registry from there")]
    NotConfigured,
    /// It has more bytes than the policy lets it have.
    #[error("the bundle has {bytes} bytes, and `max_bytes` is {most}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// The policy demands a signature, and there is none.
    #[error("the bundle has no signature: its server has nothing at the bundle's URL with `.sig` behind it")]
    Unsigned,
    /// What stands where the signature should is none.
    #[error("the signature has {bytes} bytes, and an Ed25519 signature has 64: serve it raw")]
    NoSignature {
        /// How many it has.
        bytes: usize,
    },
    /// The signature is not that of the policy's key over these bytes.
    #[error("the signature is not that of `public_key` over exactly these bytes")]
    WrongSignature,
    /// It is not a document of the bundle's form.
    #[error("the bundle cannot be read:\n{0}")]
    Unreadable(Faults),
    /// It is another registry's.
    #[error("the bundle is that of the registry `{}`", shown(.0))]
    OtherRegistry(String),
    /// A bundle with a greater serial has been in force, or another one with the same.
    #[error(
        "the bundle has the serial {serial}, and one with the serial {last} was in force: each new one has a greater"
    )]
    Serial {
        /// What it says.
        serial: i64,
        /// What the bundle said that was last in force.
        last: i64,
    },
    /// It is not good any more.
    #[error("the bundle was good until {0}")]
    Expired(Timestamp),
    /// It would be good for too long.
    #[error("the bundle says that it is good until {0}, which is more than 24 h ahead")]
    TooLong(Timestamp),
    /// Its rules are faulty, dangerous, or about more than the policy lets them be about; or one of its tests fails.
    #[error("the bundle's rules are refused:\n{0}")]
    Rules(Faults),
}

impl BundleFault {
    /// A stable name, as a metric's label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured => "not-configured",
            Self::TooLarge { .. } => "too-large",
            Self::Unsigned | Self::NoSignature { .. } => "unsigned",
            Self::WrongSignature => "wrong-signature",
            Self::Unreadable(_) => "unreadable",
            Self::OtherRegistry(_) => "other-registry",
            Self::Serial { .. } => "old-serial",
            Self::Expired(_) => "expired",
            Self::TooLong(_) => "valid-too-long",
            Self::Rules(_) => "rules-refused",
        }
    }
}
