//! The keys of one issuer, or of one family, as they are fetched: where they are, what is held, who waits.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::watch;
use url::Url;

use super::error::RefreshError;
use crate::identity::cache::KeyCache;
use crate::identity::cache::MAX_FRESH;
use crate::identity::discovery;
use crate::identity::fetch::Answer;
use crate::identity::fetch::Fetch;
use crate::identity::fetch::FetchError;
use crate::identity::fetch::Limits;
use crate::identity::issuer::Issuer;
use crate::identity::issuer::Reach;
use crate::identity::jwks::KeySet;
use crate::identity::jwks::SkippedKey;
use crate::secret::hex;
use crate::secret::sha256;
use crate::time::Timestamp;

/// Most tokens that wait for one issuer's keys at once. SECURITY: while an issuer is slow, strangers' tokens with
/// invented key ids must not hold every connection that other issuers' jobs need.
pub(super) const MAX_WAITING: usize = 128;

#[derive(Debug)]
pub(super) struct Remote {
    /// Whose keys the copies in the store are.
    owner: String,
    reach: Reach,
    /// Where the operator says that the keys are.
    jwks_uri: Option<Url>,
    cache: Mutex<KeyCache>,
    /// What is known of the set's document.
    located: Mutex<Option<Located>>,
    last_error: Mutex<Option<LastError>>,
    /// Changes whenever a refresh has ended, well or badly, or other keys are held.
    pub(super) ended: watch::Sender<()>,
    /// Places for tokens that wait for that.
    pub(super) waiting: Semaphore,
    /// Counts scheduled refreshes, so that they ask the members of a family in turn.
    turn: AtomicUsize,
}

/// Where the key set is and the entity tag of the set that is held, until when that is believed: then the place is
/// looked up and the set read anew, whatever a server says has not changed.
#[derive(Debug)]
struct Located {
    url: Url,
    until: Timestamp,
    etag: Option<String>,
}

/// Why the latest attempt to refresh an issuer's keys failed. For operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When it ended.
    pub at: Timestamp,
    /// Its stable name.
    pub code: &'static str,
    /// What happened.
    pub message: String,
}

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Brought {
    /// A set.
    Set {
        /// Its usable keys.
        set: KeySet,
        /// The members that are not used.
        skipped: Vec<SkippedKey>,
        /// How long it is fresh.
        max_age: Option<Duration>,
        /// The document that it was read from.
        document: Vec<u8>,
    },
    /// The set that is held is still the present one.
    Same(Option<Duration>),
}

impl Remote {
    /// Nothing is held yet of the keys of this issuer, or of its family.
    pub(super) fn new(issuer: &Issuer, reach: &Reach, jwks_uri: Option<&Url>) -> Self {
        let (ended, _) = watch::channel(());
        Self {
            owner: owner(issuer, reach, jwks_uri),
            reach: reach.clone(),
            jwks_uri: jwks_uri.cloned(),
            cache: Mutex::default(),
            located: Mutex::default(),
            last_error: Mutex::default(),
            ended,
            waiting: Semaphore::new(MAX_WAITING),
            turn: AtomicUsize::default(),
        }
    }

    /// Whose keys the copies in the store are.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether it is reached in this way.
    pub(super) fn is_reached_by(&self, reach: &Reach, jwks_uri: Option<&Url>) -> bool {
        self.reach == *reach && self.jwks_uri.as_ref() == jwks_uri
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, KeyCache> {
        locked(&self.cache)
    }

    /// A number that is another at each call.
    pub(super) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<LastError> {
        locked(&self.last_error).clone()
    }

    /// Keeps the cause of a failure, until a success.
    pub(super) fn note(&self, error: Option<&RefreshError>, at: Timestamp) {
        let error = error.map(|error| LastError { at, code: error.code(), message: error.to_string() });
        *locked(&self.last_error) = error;
    }

    /// Fetches the set: one request while discovery's answer is believed, else two. `issuer` is the one that discovery
    /// is asked about; of a family any member will do.
    pub(super) async fn fetch(
        &self,
        fetch: &dyn Fetch,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<Brought, RefreshError> {
        // Taken out, and put back only by success: after a failure discovery is asked again, as the keys may have moved.
        let known = locked(&self.located).take();
        let known = known.filter(|known| now < known.until && known.until.since(now) <= MAX_FRESH);
        let (url, until, etag) = match known {
            Some(Located { url, until, etag }) => (url, until, etag),
            None => (self.locate(fetch, issuer).await?, now.plus(MAX_FRESH), None),
        };
        match fetch.get(&url, &self.reach, etag.as_deref(), Limits::ISSUER).await.map_err(RefreshError::KeysFetch)? {
            Answer::NotModified { max_age } => {
                *locked(&self.located) = Some(Located { url, until, etag });
                Ok(Brought::Same(max_age))
            }
            Answer::Document(document) => {
                let (set, skipped) = KeySet::parse(&document.bytes).map_err(RefreshError::Keys)?;
                if !set.is_empty() {
                    *locked(&self.located) = Some(Located { url, until, etag: document.etag });
                }
                Ok(Brought::Set { set, skipped, max_age: document.max_age, document: document.bytes })
            }
        }
    }

    async fn locate(&self, fetch: &dyn Fetch, issuer: &Issuer) -> Result<Url, RefreshError> {
        match &self.jwks_uri {
            Some(url) => Ok(url.clone()),
            None => self.discover(fetch, issuer).await,
        }
    }

    async fn discover(&self, fetch: &dyn Fetch, issuer: &Issuer) -> Result<Url, RefreshError> {
        let url = discovery::document_url(issuer.url()).ok_or(RefreshError::DiscoveryFetch(FetchError::Url))?;
        let answer = fetch.get(&url, &self.reach, None, Limits::ISSUER).await.map_err(RefreshError::DiscoveryFetch)?;
        let Answer::Document(document) = answer else {
            // Nothing was known that could be confirmed.
            return Err(RefreshError::DiscoveryFetch(FetchError::Status(304)));
        };
        discovery::jwks_uri(&document.bytes, issuer.url(), issuer.provider()).map_err(RefreshError::Discovery)
    }
}

/// The name under which replicas share the keys.
///
/// SECURITY: with the preset and the way to the issuer in it, so that keys which were fetched under other certificate
/// authorities or networks, before a change of the policy, are another owner's.
fn owner(issuer: &Issuer, reach: &Reach, jwks_uri: Option<&Url>) -> String {
    let networks = reach.allow_networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let parts = [
        issuer.keys_name().as_bytes(),
        issuer.provider().name.as_bytes(),
        jwks_uri.map_or(&[], |url| url.as_str().as_bytes()),
        reach.proxy.as_ref().map_or(&[], |url| url.as_str().as_bytes()),
        networks.as_bytes(),
        reach.ca_pem.as_deref().unwrap_or_default(),
    ];
    let mut text = Vec::new();
    for part in parts {
        // The digest of each, so that no two ways to an issuer are one text.
        text.extend_from_slice(&sha256(part));
    }
    hex(&sha256(&text))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
