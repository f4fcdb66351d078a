//! `trustmint issuer probe`: what an identity provider publishes, before it is configured.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use actix_web::rt::System;
use clap::Args;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use ipnet::IpNet;
use serde_json::Value;
use serde_json::json;
use url::Url;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::escape::escape;
use crate::identity::discovery;
use crate::identity::fetch::Answer;
use crate::identity::fetch::Fetch as _;
use crate::identity::fetch::FetchError;
use crate::identity::fetch::HttpsFetch;
use crate::identity::fetch::Limits;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::Reach;
use crate::identity::probe;
use crate::identity::probe::Answered;
use crate::identity::probe::Finding;
use crate::identity::probe::Findings;
use crate::identity::probe::Reached;
use crate::identity::provider;
use crate::identity::provider::Provider;
use crate::telemetry::Stopwatch;

#[derive(Debug, Subcommand)]
pub(crate) enum Issuer {
    /// Fetch a provider's discovery document and keys as the service would, and say what is odd about them
    Probe(Probe),
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The issuer's URL, exactly as its tokens carry it in `iss`
    url: String,
    /// The preset to judge it by [default: the one that owns the host, else generic]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(names()).try_map(named))]
    provider: Option<&'static Provider>,
    /// The certificate authorities to trust for it instead of the system's, in PEM
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A network beyond the public Internet in which its addresses may be; may be given several times
    #[arg(long = "allow-network", value_name = "CIDR", value_parser = network)]
    allow_networks: Vec<IpNet>,
    /// The HTTP proxy to go through, as `http://proxy.acme.example:3128`
    #[arg(long, value_name = "URL", value_parser = proxy)]
    proxy: Option<Url>,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

/// One document: where it was asked for, and what came.
struct Fetched {
    url: Url,
    answer: Result<Answered, FetchError>,
}

impl Fetched {
    fn answered(&self) -> Result<&Answered, &FetchError> {
        self.answer.as_ref()
    }

    /// Where it is, and what may be said in a line of how it came.
    fn line(&self) -> String {
        let Ok(answered) = &self.answer else { return format!("{}: not to be had", self.url) };
        let (bytes, millis) = (answered.bytes.len(), answered.took.as_millis());
        format!("{}: {bytes} bytes in {millis} ms", self.url)
    }

    fn facts(&self) -> Value {
        let answered = self.answer.as_ref().ok();
        json!({
            "url": self.url.as_str(),
            "bytes": answered.map(|answered| answered.bytes.len()),
            "milliseconds": answered.map(|answered| answered.took.as_millis()),
            "max_age": answered.and_then(|answered| Some(answered.max_age?.as_secs())),
            "etag": answered.and_then(|answered| answered.etag.as_deref()),
        })
    }
}

impl Issuer {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Probe(probe) => probe.run(),
        }
    }
}

impl Probe {
    fn run(self) -> Ended {
        let issuer = match IssuerUrl::parse(&self.url) {
            Ok(issuer) => issuer,
            Err(error) => {
                let list = vec![Finding::not_an_issuer(&self.url, error)];
                let findings = Findings { list, keys: Vec::new() };
                return self.report(&findings, &json!({"issuer": self.url}), std::slice::from_ref(&self.url), None);
            }
        };
        let owner = provider::owner(issuer.host());
        let provider = self.provider.or(owner).unwrap_or(&provider::generic::PROVIDER);
        let document =
            discovery::document_url(&issuer).ok_or_else(|| Failed::new("the URL has no discovery document"))?;
        let ca_pem = self.ca_file.as_ref().map(|path| fs::read(path).map_err(|error| Failed::file(path, &error)));
        let reach = Reach {
            ca_pem: ca_pem.transpose()?,
            allow_networks: self.allow_networks.clone(),
            proxy: self.proxy.clone(),
        };
        let (document, key_set) = System::new().block_on(fetch(document, &issuer, provider, &reach));

        let findings = probe::examine(&issuer, provider, document.answered(), key_set.as_ref().map(Fetched::answered));
        let from = match (self.provider, owner) {
            (Some(_), _) => "as asked for",
            (None, Some(_)) => "which owns the host",
            (None, None) => "since no preset owns the host",
        };
        let keys_line = key_set.as_ref().map_or_else(|| "not asked for".to_owned(), Fetched::line);
        let heading = [
            issuer.to_string(),
            format!("  preset     {}, {from}", provider.name),
            format!("  discovery  {}", document.line()),
            format!("  key set    {keys_line}"),
        ];
        let facts = json!({
            "issuer": issuer.as_str(),
            "provider": provider.name,
            "discovery": document.facts(),
            "key_set": key_set.as_ref().map(Fetched::facts),
        });
        let reached = Reached {
            ca_file: self.ca_file.as_deref(),
            allow_networks: &self.allow_networks,
            proxy: self.proxy.as_ref(),
        };
        let entry = probe::entry(&issuer, provider, reached);
        self.report(&findings, &facts, &heading, Some(&entry))
    }

    /// Prints everything, and the entry only if the service would accept it.
    fn report(&self, findings: &Findings, facts: &Value, heading: &[String], entry: Option<&str>) -> Ended {
        let accepted = findings.is_accepted();
        let entry = entry.filter(|_| accepted);
        if self.json {
            let mut all = facts.clone();
            if let Some(members) = all.as_object_mut() {
                members.insert("accepted".to_owned(), accepted.into());
                members.insert("keys".to_owned(), serde_json::to_value(&findings.keys)?);
                members.insert("findings".to_owned(), serde_json::to_value(&findings.list)?);
                members.insert("entry".to_owned(), entry.into());
            }
            say_json(&all)?;
            return Ok(accepted);
        }
        for line in heading.iter().cloned().chain(key_lines(findings)).chain(finding_lines(findings)) {
            // What the provider sent must not be able to rewrite the terminal.
            say(&escape(&line));
        }
        match entry {
            Some(entry) => {
                say("\nThe service accepts this provider. For a file in the policy's directory:\n");
                say(entry.trim_end());
            }
            None => say("\nThe service does not accept this provider until what is marked `refused` is mended."),
        }
        Ok(accepted)
    }
}

async fn fetch(document: Url, issuer: &IssuerUrl, provider: &Provider, reach: &Reach) -> (Fetched, Option<Fetched>) {
    let fetch = HttpsFetch::new();
    let document = get(&fetch, document, reach).await;
    let located = document.answered().ok().and_then(|it| discovery::jwks_uri(&it.bytes, issuer, provider).ok());
    let key_set = match located {
        Some(url) => Some(get(&fetch, url, reach).await),
        None => None,
    };
    (document, key_set)
}

async fn get(fetch: &HttpsFetch, url: Url, reach: &Reach) -> Fetched {
    let stopwatch = Stopwatch::start();
    let answer = match fetch.get(&url, reach, None, Limits::ISSUER).await {
        Ok(Answer::Document(document)) => Ok(Answered {
            bytes: document.bytes,
            max_age: document.max_age,
            etag: document.etag,
            took: stopwatch.elapsed(),
        }),
        Ok(Answer::NotModified { .. }) => Err(FetchError::Status(304)),
        Err(error) => Err(error),
    };
    Fetched { url, answer }
}

fn key_lines(findings: &Findings) -> Vec<String> {
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let kid = |key: &probe::KeyFacts| key.kid.clone().unwrap_or_else(|| "(no kid)".to_owned());
    let name_width = width(&mut findings.keys.iter().map(|key| kid(key).chars().count()));
    let type_width = width(&mut findings.keys.iter().map(|key| key.kind.chars().count()));
    let line = |key: &probe::KeyFacts| {
        let (alg, used) = (key.alg.as_deref().unwrap_or("-"), if key.used { "used" } else { "not used" });
        format!("  key        {:<name_width$}  {:<type_width$}  {alg:<6}  {used}", kid(key), key.kind)
    };
    findings.keys.iter().map(line).collect()
}

fn finding_lines(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in &findings.list {
        lines.push(String::new());
        lines.push(format!("{:<7}  {} ({})", finding.severity.as_str(), finding.sentence, finding.code));
        if !finding.remedy.is_empty() {
            lines.push(format!("         → {}", finding.remedy));
        }
    }
    lines
}

fn names() -> Vec<&'static str> {
    provider::ALL.iter().map(|provider| provider.name).collect()
}

fn named(name: String) -> Result<&'static Provider, String> {
    provider::by_name(&name).ok_or(name)
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "write a network such as 10.20.0.0/16 or an address such as 10.20.0.7")?;
    if network != network.trunc() {
        return Err(format!("this is an address inside a network; write {}", network.trunc()));
    }
    Ok(network)
}

fn proxy(text: &str) -> Result<Url, &'static str> {
    let plain = |url: &Url| {
        let bare = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/" && bare
    };
    let url = Url::parse(text).ok().filter(plain);
    url.ok_or("write it as http://proxy.acme.example:3128, without a user name or password")
}
