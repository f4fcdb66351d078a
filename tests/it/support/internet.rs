//! An Internet of identity providers at their real URLs, without a network: who publishes what, and what was asked for.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;
use trustmint::identity::fetch::Answer;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::FetchError;
use trustmint::identity::fetch::Fetched;
use trustmint::identity::fetch::Limits;
use trustmint::identity::issuer::Reach;
use url::Url;

/// Documents by URL, and every request.
#[derive(Debug)]
pub struct Internet {
    documents: Mutex<BTreeMap<String, Value>>,
    requests: Mutex<Vec<String>>,
    gate: Semaphore,
}

impl Default for Internet {
    fn default() -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { documents: Mutex::default(), requests: Mutex::default(), gate }
    }
}

impl Internet {
    /// Puts a document at a URL.
    pub fn publish(&self, url: &str, document: Value) {
        self.documents.lock().unwrap().insert(url.to_owned(), document);
    }

    /// An issuer's discovery document and, at `jwks_uri`, these keys.
    pub fn issuer(&self, issuer: &str, jwks_uri: &str, keys: &[Value]) {
        self.publish(
            &format!("{issuer}/.well-known/openid-configuration"),
            json!({"issuer": issuer, "jwks_uri": jwks_uri}),
        );
        self.publish(jwks_uri, json!({"keys": keys}));
    }

    /// From now on answers are kept back.
    pub fn hold(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    /// They are given.
    pub fn release(&self) {
        self.gate.add_permits(1_000_000);
    }

    /// The URLs that were asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

#[async_trait]
impl Fetch for Internet {
    async fn get(&self, url: &Url, _: &Reach, _: Option<&str>, _: Limits) -> Result<Answer, FetchError> {
        self.requests.lock().unwrap().push(url.to_string());
        self.gate.acquire().await.unwrap().forget();
        let document = self.documents.lock().unwrap().get(url.as_str()).cloned();
        let bytes = document.ok_or(FetchError::Status(404))?.to_string().into_bytes();
        Ok(Answer::Document(Fetched { bytes, max_age: None, etag: None }))
    }
}
