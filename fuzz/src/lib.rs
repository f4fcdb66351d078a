//! What the fuzz targets do with an input: one function a parser of untrusted bytes, each asserting what must hold
//! whatever the bytes are. The ordinary tests include this file and replay the committed corpora through it.

use std::sync::Arc;
use std::sync::LazyLock;

use trustmint::identity::issuer::Issuer;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::identity::provider;
use trustmint::time::Timestamp;

mod audit;
mod claims;
mod discovery;
mod jwks;
mod policy;
mod raw;
mod token;

pub use audit::audit;
pub use claims::claims;
pub use discovery::discovery;
pub use jwks::jwks;
pub use policy::bundle;
pub use policy::policy;
pub use token::is_proven;
pub use token::token;

/// The present of every target, in seconds since 1970: the committed tokens are valid now.
const NOW: i64 = 1_787_000_100;

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}

fn audiences() -> Vec<String> {
    vec!["acme".to_owned(), "https://pypi.acme.example/legacy/".to_owned()]
}

/// An issuer for each preset, at its own URL or at a made-up one.
static ISSUERS: LazyLock<Vec<Arc<Issuer>>> = LazyLock::new(|| {
    let urls = provider::ALL.iter().map(|preset| (*preset, preset.site.owned_url().unwrap_or("https://ci.example")));
    let parsed = urls.filter_map(|(preset, url)| Some((preset, IssuerUrl::parse(url).ok()?)));
    let issuers: Vec<_> = parsed
        .filter_map(|(preset, url)| Issuer::new(preset.name.to_owned(), preset, url).ok().map(Arc::new))
        .collect();
    for name in ["github", "gitlab", "google", "activestate", "generic"] {
        assert!(issuers.iter().any(|issuer| issuer.id == name), "no issuer for the preset {name}");
    }
    issuers
});

/// Runs a parser on an input of `length` bytes. All that it allocates must stay below `each` bytes for each of them,
/// and 256 KiB: at most 1,024 objects are read from a document, each of which is given room for some members.
fn bounded<T>(length: usize, each: u64, run: impl FnOnce() -> T) -> T {
    let mut result = None;
    let allocated = allocation_counter::measure(|| result = Some(run())).bytes_total;
    let bound = 256 * 1024 + each * u64::try_from(length).unwrap();
    assert!(allocated <= bound, "{allocated} bytes were allocated for an input of {length}, at most {bound} may be");
    result.unwrap()
}

/// A message about a stranger's input is for one line of a log: whatever the input, it stays short.
fn short(message: &str) {
    assert!(message.len() <= 2048, "a message of {} bytes", message.len());
}
