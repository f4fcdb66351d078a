//! One request to the collector after another, each from a thread that may wait.
//!
//! Certificates are checked against the machine's authorities, or those of the settings alone; no proxy, no redirect, and of an
//! answer no more is read than an answer of this protocol has.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;
use reqwest::Certificate;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use url::Url;
use zeroize::Zeroizing;

use super::Headers;
use super::Options;
use super::Signal;
use super::tally::Ended;

/// Most bytes of an answer that are read: it says how much was rejected, and why.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest wait that a collector may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a connection is kept between two requests.
const IDLE: Duration = Duration::from_secs(90);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The collector has it, but for so many items that it does not want.
    Taken {
        /// How many.
        rejected: u64,
    },
    /// Not now; the collector may say after how long.
    Later {
        /// After how long it may be tried again.
        after: Option<Duration>,
        /// Why, for operators.
        why: String,
    },
    /// Not this, however often it is sent.
    Refused {
        /// Why, for operators.
        why: String,
    },
}

/// Sends; it has a runtime of its own, for the one thread that calls it.
pub(super) struct Client {
    endpoint: Url,
    options: Options,
    /// The headers that were read last.
    headers: HeaderMap,
    /// The client, and the authorities that it was built with.
    built: Option<(Option<Zeroizing<String>>, reqwest::Client)>,
    runtime: Option<Runtime>,
}

impl Client {
    /// Opens no connection yet.
    pub(super) fn new(options: Options) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut endpoint = options.endpoint.clone();
        // So that what is joined to it stands below it.
        if !endpoint.path().ends_with('/') {
            endpoint.set_path(&format!("{}/", endpoint.path()));
        }
        Ok(Self { endpoint, options, headers: HeaderMap::new(), built: None, runtime: Some(runtime) })
    }

    /// Sends a message and waits for the answer, no longer than `within`.
    pub(super) fn post(&mut self, signal: Signal, message: Vec<u8>, within: Duration) -> Answer {
        let client = match self.client() {
            Ok(client) => client,
            Err(why) => return Answer::later(why),
        };
        let Ok(url) = self.endpoint.join(signal.path()) else {
            return Answer::Refused { why: "the endpoint has no such path".to_owned() };
        };
        if let Some(read) = self.options.headers.as_ref().and_then(|read| read()) {
            self.headers = headers(&read);
        }
        let request = client.post(url).headers(self.headers.clone()).body(message);
        let Some(runtime) = &self.runtime else { return Answer::later("there is no runtime".to_owned()) };
        runtime.block_on(async {
            tokio::time::timeout(within, exchange(signal, request))
                .await
                .unwrap_or_else(|_| Answer::later("there was no answer in time".to_owned()))
        })
    }

    /// The client for the authorities that are there now.
    fn client(&mut self) -> Result<reqwest::Client, String> {
        let read = self.options.authorities.as_ref().and_then(|read| read());
        match &self.built {
            Some((known, client)) if read.is_none() || *known == read => return Ok(client.clone()),
            Some(_) | None => {}
        }
        let client = build(&self.endpoint, &self.options, read.as_ref().map(|pem| pem.as_str()))?;
        self.built = Some((read, client.clone()));
        Ok(client)
    }
}

/// A runtime may not be dropped where others run; its threads, if any, are left to end.
impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Connections belong to it.
            self.built = None;
            runtime.shutdown_background();
        }
    }
}

fn build(endpoint: &Url, options: &Options, authorities: Option<&str>) -> Result<reqwest::Client, String> {
    let unusable = |error: reqwest::Error| format!("the certificate authorities cannot be used: {}", innermost(&error));
    let encrypted = endpoint.scheme() == "https";
    let builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .https_only(encrypted)
        .user_agent(concat!("trustmint/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1);
    let builder = match authorities {
        Some(pem) if encrypted => {
            let authorities = Certificate::from_pem_bundle(pem.as_bytes()).map_err(unusable)?;
            if authorities.is_empty() {
                return Err("the file of certificate authorities holds none".to_owned());
            }
            builder.tls_certs_only(authorities)
        }
        None if encrypted && options.authorities.is_some() => {
            return Err("the file of certificate authorities cannot be read".to_owned());
        }
        None if encrypted => builder,
        // Nothing to check: the machine's authorities need not be there.
        Some(_) | None => builder.tls_certs_only([]),
    };
    builder.build().map_err(unusable)
}

/// SECURITY: marked as secrets, so that no library shows them.
fn headers(pairs: &Headers) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    headers
}

async fn exchange(signal: Signal, request: reqwest::RequestBuilder) -> Answer {
    let sent = request.header(CONTENT_TYPE, "application/x-protobuf").send().await;
    let mut response = match sent {
        Ok(response) => response,
        Err(error) => return Answer::later(format!("no connection: {}", innermost(&error))),
    };
    let status = response.status();
    if !status.is_success() {
        return Answer::of_failure(signal, status.as_u16(), response.headers());
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_ANSWER => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            // Whether it has the items, nobody knows: they are not sent twice, and not believed to be there.
            Ok(Some(_)) => return Answer::Refused { why: "the answer is too large".to_owned() },
            Err(_) => return Answer::Refused { why: "the answer broke off".to_owned() },
        }
    }
    Answer::of_success(&bytes)
}

impl Answer {
    /// How it ended, and after how long it may be tried again if the collector says so.
    pub(super) const fn outcome(&self) -> (Ended, Option<Duration>) {
        match self {
            Self::Taken { .. } => (Ended::Taken, None),
            Self::Later { after, .. } => (Ended::Later, *after),
            Self::Refused { .. } => (Ended::Refused, None),
        }
    }

    const fn later(why: String) -> Self {
        Self::Later { after: None, why }
    }

    /// By the protocol's rules: these statuses are to be tried again, no others. Who is not let in may be once its credential
    /// was exchanged, which is then another request. And for the audit log holding is the safer error: what a proxy says of a
    /// collector that is being replaced is tried again, too.
    fn of_failure(signal: Signal, status: u16, headers: &HeaderMap) -> Self {
        let why = format!("the answer's status is {status}");
        match status {
            429 | 502 | 503 | 504 => {
                let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let after = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
                Self::Later { after, why }
            }
            401 | 403 => Self::later(why),
            404 | 408 | 500..=599 if signal == Signal::Audit => Self::later(why),
            _ => Self::Refused { why },
        }
    }

    /// A collector that takes only a part says so in the body. The answers for all signals have one form.
    fn of_success(body: &[u8]) -> Self {
        match ExportLogsServiceResponse::decode(body) {
            Ok(answer) => {
                let rejected = answer.partial_success.map_or(0, |part| part.rejected_log_records);
                Self::Taken { rejected: u64::try_from(rejected).unwrap_or(0) }
            }
            Err(_) => Self::Refused { why: "the answer is none of this protocol".to_owned() },
        }
    }
}

/// The last cause's own words; those around it repeat the URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&cause| cause.source()).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
