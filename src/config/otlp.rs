//! The collector of OpenTelemetry's protocol, as the settings name it.
//!
//! SECURITY: what is sent along to it is a credential and so a file, and what crosses a network is encrypted: the audit log
//! goes there.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Host;
use url::Url;
use zeroize::Zeroizing;

use super::merged;
use super::schema;
use super::secret_file;
use super::secret_file::Defect;
use super::watched::authorities;
use super::watched::watched;
use crate::policy::yaml::Faults;
use crate::telemetry::otlp::Headers;
use crate::telemetry::otlp::Options;
use crate::telemetry::otlp::Service;

/// Largest file of headers.
const MAX_HEADERS_BYTES: u64 = 8192;
/// Headers that this service writes itself.
const OWN: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "user-agent",
];

const HEADERS: &str = "telemetry.otlp.headers_file";
const AUTHORITIES: &str = "telemetry.otlp.ca_file";

/// The collector, and what is sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where it is: the paths of the signals are below.
    pub endpoint: Url,
    /// The file of the headers that are sent along.
    pub headers_file: Option<PathBuf>,
    /// The file of the certificate authorities that are trusted; `None`: the machine's.
    pub ca_file: Option<PathBuf>,
    /// Whether requests are traced.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether the service's log is sent.
    pub logs: bool,
    /// Of how many requests one is traced.
    pub sample_one_in: u32,
    /// How often metrics are sent.
    pub interval: Duration,
    /// As what the service shows.
    pub service_name: String,
}

/// What the `config` crate yields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MergedOtlp {
    endpoint: Option<String>,
    headers_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    signals: Vec<String>,
    sample_one_in: u32,
    #[serde(deserialize_with = "merged::seconds")]
    interval: Duration,
    service_name: String,
}

impl MergedOtlp {
    /// The collector, if one is named; `changed` says whether a key has another value than by default, `fault` takes key,
    /// message and remedy of what does not fit.
    pub(super) fn settle(
        self,
        audited: bool,
        changed: &impl Fn(&str) -> bool,
        fault: &mut impl FnMut(&str, &str, &str),
    ) -> Option<Otlp> {
        let Self { endpoint, headers_file, ca_file, signals, sample_one_in, interval, service_name } = self;
        let Some(endpoint) = endpoint.and_then(|text| collector(&text).ok()) else {
            for path in schema::paths_in("telemetry.otlp").iter().filter(|path| changed(path)) {
                fault(path, "is not used: there is no collector", "set `telemetry.otlp.endpoint`, or remove this");
            }
            if audited {
                fault("audit.sink", "names no collector", "set `telemetry.otlp.endpoint` too");
            }
            return None;
        };
        if endpoint.scheme() == "http" && ca_file.is_some() {
            let remedy = "write `https://` in the endpoint, or remove this";
            fault(AUTHORITIES, "is not used: the connection has no TLS", remedy);
        }
        if signals.is_empty() && !audited {
            let remedy =
                "name some of `traces`, `metrics` and `logs`, or set `audit.sink: otlp`, or remove the endpoint";
            fault("telemetry.otlp.signals", "leaves nothing to be sent", remedy);
        }
        let has = |signal: &str| signals.iter().any(|named| named == signal);
        let (traces, metrics, logs) = (has("traces"), has("metrics"), has("logs"));
        if !traces && changed("telemetry.otlp.sample_one_in") {
            fault("telemetry.otlp.sample_one_in", "is not used: traces are not sent", "remove it");
        }
        Some(Otlp { endpoint, headers_file, ca_file, traces, metrics, logs, sample_one_in, interval, service_name })
    }
}

impl Otlp {
    /// What is sent where, once the files were found fit. They are read again for each request.
    pub fn options(&self) -> Result<Options, Faults> {
        let mut faults = Faults::new();
        let headers = watched(self.headers_file.as_deref(), HEADERS, headers, &mut faults);
        let authorities = watched(self.ca_file.as_deref(), AUTHORITIES, authorities, &mut faults);
        faults.into_result(Some(Options {
            endpoint: self.endpoint.clone(),
            headers,
            authorities,
            traces: self.traces,
            metrics: self.metrics,
            logs: self.logs,
            interval: self.interval,
            sample_one_in: self.sample_one_in,
            service: Service::new(self.service_name.clone()),
        }))
    }
}

/// The address of a collector, or what is wrong with it and how that is mended.
pub(super) fn collector(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let shape = "write `https://HOST:4318`, or on this machine `http://127.0.0.1:4318`";
    let url = Url::parse(text).map_err(|_| ("is no URL", shape))?;
    // SECURITY: settings are shown and logged.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("holds a user or password", "send them in a header, from `telemetry.otlp.headers_file`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("says more than host, port and path", shape));
    }
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(("names no host", shape)),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => {
            Err(("is another machine, and credentials and audit events would cross the network unencrypted", shape))
        }
        _ => Err(("has another scheme", shape)),
    }
}

/// Lines as `authorization: Bearer …`; empty ones are passed over.
fn headers(path: &Path) -> Result<Headers, Defect> {
    let (text, _) = secret_file::read(path, MAX_HEADERS_BYTES)?;
    let mut headers = Headers::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let remedy = "write a header a line, as `authorization: Bearer …`";
        // SECURITY: where, and not what: it is a secret.
        let fault = |what: &str| Defect::new(format!("line {} {what}", number.saturating_add(1)), remedy);
        let (name, value) = line.split_once(':').ok_or_else(|| fault("is no header"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(fault("has no header's name"));
        }
        if OWN.contains(&name.as_str()) {
            return Err(fault("names a header that the service writes itself"));
        }
        if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(fault("has no header's value"));
        }
        headers.push((name, Zeroizing::new(value.to_owned())));
    }
    if headers.is_empty() {
        return Err(Defect::new("holds no header", "write a header a line, as `authorization: Bearer …`"));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
