//! Codecs: how what restricts a registry's upload tokens is spelled inside them.
//!
//! The codec is a setting of the registry and part of the key that signs its tokens. SECURITY: it is never guessed from
//! bytes, which a token's holder chooses.

/// How caveats are spelled inside a registry's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `name arg,arg`: whatever this service can say.
    Text,
    /// `PyPI`'s JSON arrays, for registries that verify `PyPI`'s macaroons already: from when to when, and which projects
    /// may be uploaded. There is no word for anything else.
    Pypi,
}

impl Codec {
    /// Both, the usual one first.
    pub const ALL: [Self; 2] = [Self::Text, Self::Pypi];

    /// The name, as in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Pypi => "pypi",
        }
    }
}
