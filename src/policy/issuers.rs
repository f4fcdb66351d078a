//! The issuers of a policy, found by the exact text of `iss`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::identity::issuer::Issuer;

/// Every issuer of a policy.
#[derive(Debug, Default)]
pub struct Issuers {
    all: Vec<Arc<Issuer>>,
    by_url: HashMap<String, u32>,
}

impl Issuers {
    /// Files issuers with distinct URLs.
    pub(super) fn new(all: Vec<Issuer>) -> Self {
        let mut issuers = Self::default();
        for (issuer, number) in all.into_iter().zip(0..) {
            issuers.by_url.insert(issuer.url().as_str().to_owned(), number);
            issuers.all.push(Arc::new(issuer));
        }
        issuers
    }

    /// The issuer whose URL is this text, byte for byte.
    pub fn by_url(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.nth(self.position(iss)?)
    }

    /// The issuer of that name.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Issuer>> {
        self.all.iter().find(|issuer| issuer.id == id)
    }

    /// The configured issuer that an unknown `iss` comes closest to: the same but for case and final slashes, else one
    /// on the same host. For operators: an anonymous caller is not told who is configured.
    pub fn nearest(&self, iss: &str) -> Option<&Arc<Issuer>> {
        let fold = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
        let host = |text: &str| text.split('/').nth(2).map(str::to_ascii_lowercase);
        let same = self.all.iter().find(|issuer| fold(issuer.url().as_str()) == fold(iss));
        same.or_else(|| self.all.iter().find(|issuer| host(iss).is_some_and(|have| have == issuer.url().host())))
    }

    /// All of them, in the order of the policy.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn position(&self, iss: &str) -> Option<u32> {
        self.by_url.get(iss).copied()
    }

    pub(super) fn nth(&self, number: u32) -> Option<&Arc<Issuer>> {
        self.all.get(usize::try_from(number).ok()?)
    }
}
