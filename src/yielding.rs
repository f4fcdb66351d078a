//! What a request gives back before it waits for somebody else.

use std::fmt;

/// What a request gives back before it waits for somebody else: an issuer's keys, or the store.
///
/// SECURITY: who waits does no work, so it keeps no place among those who do. The tokens of a slow provider would else
/// keep the jobs of all other providers out, and uses on their way to a slow store the questions that need none.
#[derive(Clone, Copy)]
pub struct Yielding<'a>(Option<&'a (dyn Fn() + Sync)>);

impl<'a> Yielding<'a> {
    /// It holds nothing that others wait for.
    pub const NOTHING: Self = Self(None);

    /// `give_back` is called as the wait begins, and not if what is needed is there.
    pub const fn new(give_back: &'a (dyn Fn() + Sync)) -> Self {
        Self(Some(give_back))
    }

    /// The wait begins.
    pub fn give_back(self) {
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
