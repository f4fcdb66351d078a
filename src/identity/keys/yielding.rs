//! What a token gives back before it waits for its issuer's keys.

use std::fmt;

/// What a token gives back before it waits for its issuer's keys.
///
/// SECURITY: who waits does no work, so it keeps no place among those who do. A slow provider's tokens would else keep the
/// jobs of all other providers out.
#[derive(Clone, Copy)]
pub struct Yielding<'a>(Option<&'a (dyn Fn() + Sync)>);

impl<'a> Yielding<'a> {
    /// It holds nothing that others wait for.
    pub const NOTHING: Self = Self(None);

    /// `give_back` is called as the wait begins, and not if the key is there.
    pub const fn new(give_back: &'a (dyn Fn() + Sync)) -> Self {
        Self(Some(give_back))
    }

    pub(super) fn give_back(self) {
        if let Self(Some(give_back)) = self {
            give_back();
        }
    }
}

impl fmt::Debug for Yielding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Yielding").field(&self.0.is_some()).finish()
    }
}
