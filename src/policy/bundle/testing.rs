//! Values for the tests of bundles.

use url::Url;

use super::Source;
use super::USUAL_BYTES;
use super::USUAL_POLL;
use crate::identity::issuer::Reach;

/// An unsigned bundle of `acme-npm`, about anything that GitHub's jobs publish there.
pub(in crate::policy) fn source() -> Source {
    Source {
        url: Url::parse("https://npm.acme.example/trust/bundle.yaml").unwrap(),
        reach: Reach::default(),
        issuers: vec!["github".to_owned()],
        packages: None,
        poll: USUAL_POLL,
        max_bytes: USUAL_BYTES,
        public_key: None,
    }
}
