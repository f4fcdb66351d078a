//! How often one ID token may be exchanged: a choice of registries, which issuers may tighten.

/// How often one ID token may be exchanged. Stricter modes are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replay {
    /// As often as it is sent, until it expires.
    Off,
    /// Once for each package, for clients that publish several packages with a job's one token.
    OncePerPackage,
    /// Once.
    Once,
}

/// Proof that the policy demands no first use. Only [`Replay::off`] gives one.
#[derive(Debug)]
pub struct NotDemanded(());

impl Replay {
    /// Every mode, in the order that documentation lists them.
    pub const ALL: [Self; 3] = [Self::Once, Self::OncePerPackage, Self::Off];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::OncePerPackage => "once-per-package",
            Self::Off => "off",
        }
    }

    /// The proof that it takes to mint without a first use, in the one mode that gives it.
    pub fn off(self) -> Option<NotDemanded> {
        (self == Self::Off).then_some(NotDemanded(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_off_demands_nothing_and_once_is_the_strictest() {
        assert!(Replay::Off.off().is_some());
        assert!(Replay::OncePerPackage.off().is_none() && Replay::Once.off().is_none());
        assert!(Replay::Once > Replay::OncePerPackage && Replay::OncePerPackage > Replay::Off);
    }
}
