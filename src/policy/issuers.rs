//! The issuers of a policy, found by the exact text of `iss`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::identity::family::Family;
use crate::identity::issuer::Issuer;
use crate::identity::provider::Provider;

/// One entry of the policy's issuers.
#[derive(Debug)]
pub(super) enum Entry {
    /// An issuer.
    One(Issuer),
    /// A family, of which those members exist that rules pin.
    Family(Family),
}

impl Entry {
    /// Its name in the policy.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::One(issuer) => &issuer.id,
            Self::Family(family) => family.id(),
        }
    }

    /// The issuer, or what those of the family have in common.
    pub(super) const fn common(&self) -> &Issuer {
        match self {
            Self::One(issuer) => issuer,
            Self::Family(family) => family.prototype(),
        }
    }

    /// The claim that tells its members apart, if it is a family.
    pub(super) fn segment(&self) -> Option<&str> {
        match self {
            Self::One(_) => None,
            Self::Family(family) => Some(family.claim()),
        }
    }

    /// Whether it is a family, and this URL is one that a member may have.
    pub(super) fn covers(&self, url: &str) -> bool {
        match self {
            Self::One(_) => false,
            Self::Family(family) => family.covers(url),
        }
    }

    /// What is known about its kind.
    pub(super) fn provider(&self) -> &'static Provider {
        match self {
            Self::One(issuer) => issuer.provider(),
            Self::Family(family) => family.provider(),
        }
    }
}

/// Every issuer of a policy.
#[derive(Debug, Default)]
pub struct Issuers {
    /// The names of the entries, in the order of the policy.
    ids: Vec<String>,
    /// The issuers, those of an entry together.
    all: Vec<Arc<Issuer>>,
    /// The first issuer of each entry that has one.
    first: Vec<u32>,
    /// By URL: the issuer's position and its entry's.
    by_url: HashMap<String, (u32, u32)>,
}

impl Issuers {
    /// Files entries with distinct URLs; `pinned` has the segments that rules pin, each with its entry. A family has the members whose segment a rule pins, and no others: nothing is
    /// fetched or believed for a tenant that no rule is about.
    pub(super) fn new(entries: &[Entry], pinned: &[(u32, &str)]) -> Self {
        let mut issuers = Self::default();
        for (entry, number) in entries.iter().zip(0..) {
            issuers.ids.push(entry.id().to_owned());
            let members = match entry {
                Entry::One(issuer) => vec![issuer.clone()],
                Entry::Family(family) => members(family, pinned.iter().filter(|(issuer, _)| *issuer == number)),
            };
            issuers.first.extend(members.first().map(|_| count(&issuers.all)));
            for issuer in members {
                issuers.by_url.insert(issuer.url().as_str().to_owned(), (count(&issuers.all), number));
                issuers.all.push(Arc::new(issuer));
            }
        }
        issuers
    }

    /// The issuer whose URL is this text, byte for byte.
    pub fn by_url(&self, iss: &str) -> Option<&Arc<Issuer>> {
        let (position, _) = self.by_url.get(iss)?;
        self.nth(*position)
    }

    /// The issuer of that name; of a family its first member.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Issuer>> {
        self.heads().find(|issuer| issuer.id == id)
    }

    /// The issuer of an entry, by the entry's number; of a family the member with this segment.
    pub(super) fn of_entry(&self, entry: u32, segment: Option<&str>) -> Option<&Arc<Issuer>> {
        let id = self.ids.get(usize::try_from(entry).ok()?)?;
        self.all
            .iter()
            .find(|issuer| issuer.id == *id && segment.is_none_or(|segment| issuer.segment() == Some(segment)))
    }

    /// The configured issuer that an unknown `iss` comes closest to: the same but for case and final slashes, else one
    /// on the same host. For operators: an anonymous caller is not told who is configured.
    pub fn nearest(&self, iss: &str) -> Option<&Arc<Issuer>> {
        let fold = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
        let host = |text: &str| text.split('/').nth(2).map(str::to_ascii_lowercase);
        let same = self.heads().find(|issuer| fold(issuer.url().as_str()) == fold(iss));
        same.or_else(|| self.heads().find(|issuer| host(iss).is_some_and(|have| have == issuer.url().host())))
    }

    /// All of them, in the order of the policy, the members of a family one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.all.iter()
    }

    /// The names of the policy's entries, in its order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The number of the entry whose issuer has this URL: what rules refer to.
    pub(super) fn position(&self, iss: &str) -> Option<u32> {
        self.by_url.get(iss).map(|(_, entry)| *entry)
    }

    fn nth(&self, position: u32) -> Option<&Arc<Issuer>> {
        self.all.get(usize::try_from(position).ok()?)
    }

    /// One issuer of each entry.
    fn heads(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.first.iter().filter_map(|position| self.nth(*position))
    }
}

fn members<'r>(family: &Family, pinned: impl Iterator<Item = &'r (u32, &'r str)>) -> Vec<Issuer> {
    let mut segments: Vec<&str> = pinned.map(|(_, segment)| *segment).collect();
    segments.sort_unstable();
    segments.dedup();
    segments.into_iter().filter_map(|segment| family.member(segment)).collect()
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
