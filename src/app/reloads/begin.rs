//! What a service begins with: its policy directory, or the last good policy that the store keeps.

use std::sync::Arc;
use std::time::Duration;

use crate::macaroon::Keyring;
use crate::policy::Policy;
use crate::policy::watch::Directory;
use crate::policy::watch::Loaded;
use crate::policy::watch::Reading;
use crate::policy::watch::Reference;
use crate::policy::watch::Seen;
use crate::policy::yaml::Faults;
use crate::state::CopyKind;
use crate::state::State;
use crate::state::Store;
use crate::time::Timestamp;

use super::OWNER;
use super::Serving;

/// How long the start waits for a store that does not answer.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// What a service begins to watch.
#[derive(Debug)]
pub struct Begun {
    pub(super) directory: Directory,
    pub(super) seen: Seen,
    pub(super) references: Vec<Reference>,
    pub(super) sources: Vec<String>,
    pub(super) document: Option<Vec<u8>>,
    pub(super) serving: Serving,
    /// What is wrong with what the directory holds.
    pub(super) faults: Faults,
}

/// The policy to begin with: that of the directory, as it was read; or, if that is refused, the last good one that
/// this or another replica kept in the store. The faults if there is neither.
///
/// SECURITY: the copy is sealed by a key that the store does not have, so who can write to the store cannot make one;
/// what they can do is put an older one back. So it is believed for a day only, and replicas that run on a policy renew
/// its copy every hour: older is what nobody has run on for a day. It is judged anew, by what this version knows.
pub async fn begin(
    directory: Directory,
    reading: Reading,
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<(Policy, Begun), Faults> {
    let Reading { seen, references, judged } = reading;
    let (loaded, serving, faults) = match judged {
        Ok(loaded) => (loaded, Serving::Directory, Faults::new()),
        Err(faults) => match kept(&directory, store, keyring, now).await {
            Some(loaded) => (loaded, Serving::Copy, faults),
            None => return Err(faults),
        },
    };
    let Loaded { policy, sources, document } = loaded;
    Ok((policy, Begun { directory, seen, references, sources, document, serving, faults }))
}

/// The last good policy that the store keeps, if it has one that is authentic, recent and still good.
async fn kept(directory: &Directory, store: &Arc<dyn Store>, keyring: &Keyring, now: Timestamp) -> Option<Loaded> {
    let state = State::new(Arc::clone(store), crate::app::seal_keys(keyring));
    let copy = tokio::time::timeout(STORE_PATIENCE, state.copy(CopyKind::Policy, OWNER, now)).await;
    let copy = match copy {
        Ok(Ok(copy)) => copy?,
        Ok(Err(error)) => {
            tracing::error!(%error, "the policy is refused, and the store's copy of the last good one cannot be had");
            return None;
        }
        Err(_) => {
            tracing::error!(
                "the policy is refused, and the store that may have a copy of the last good one does not answer"
            );
            return None;
        }
    };
    let restored = directory.restore(copy.body)?;
    restored
        .inspect_err(|faults| {
            tracing::error!(
                revision = copy.revision,
                faults = faults.len(),
                "the store's copy of the last good policy is refused too"
            );
        })
        .ok()
}
