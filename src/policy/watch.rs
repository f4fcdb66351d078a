//! The rim of the policy: its directory on disk.
//!
//! Reads exactly the files that a person sees in it: `*.yaml` and `*.yml`, in the order of their names, without those
//! that begin with `.` (Kubernetes keeps the copies of a mounted `ConfigMap` there), and follows links only inside it.
//!
//! A directory is *looked at* often and cheaply, for the digest of its bytes, and *read* when those have changed and
//! come to rest ([`Stability`]): then everything is judged that was read, as one, and what was read is named by the same
//! digest. So a directory that is exchanged while it is read is told from one that is whole.

use std::cell::RefCell;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::identity::issuer::KeySource;
use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::revision::RevisionDigest;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

mod document;
mod files;
mod stability;

use self::document::Document;
pub use self::document::MAX_DOCUMENT;
pub use self::files::Reference;
pub use self::stability::Next;
pub use self::stability::Seen;
pub use self::stability::Stability;

/// A directory of policy files.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    http: bool,
    told: fn(usize),
}

/// What a directory was found to hold.
#[derive(Debug)]
pub struct Reading {
    /// What was read, by its digest.
    pub seen: Seen,
    /// The files that the policy files refer to, in the order in which they were asked for.
    pub references: Vec<Reference>,
    /// The policy, or everything that is wrong with it.
    pub judged: Result<Loaded, Faults>,
}

/// A policy that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// The names of its files.
    pub sources: Vec<String>,
    /// Its files as one document, which [`Directory::restore`] reads; `None` if that would be over [`MAX_DOCUMENT`].
    pub document: Option<Vec<u8>>,
}

impl Directory {
    /// A directory whose issuers are reached over https only.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, http: false, told: |_| () }
    }

    /// One whose issuers may be reached over http on loopback: for demonstrations and tests.
    #[must_use]
    pub const fn with_http(mut self) -> Self {
        self.http = true;
        self
    }

    /// One of whose rules it is told, now and then while very many are read, how many have been.
    #[must_use]
    pub const fn telling(mut self, told: fn(usize)) -> Self {
        self.told = told;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at it. `references` are those of the reading before: what other files the policy files refer to is
    /// known once they have been parsed.
    pub fn look(&self, references: &[Reference]) -> Seen {
        files::look(&self.path, references)
    }

    /// Reads it, judges it and runs its tests. A directory or file that cannot be read is a fault like any other.
    pub fn read(&self) -> Reading {
        self.reading(Policy::tested)
    }

    fn reading(&self, tried: fn(Policy) -> Result<Policy, Faults>) -> Reading {
        let sources = match files::sources(&self.path) {
            Ok(sources) => sources,
            Err(error) => {
                let seen = Seen::Unreadable(error.to_string());
                return Reading { seen, references: Vec::new(), judged: Err(self.unreadable(&error.to_string())) };
            }
        };
        let mut digest = RevisionDigest::new();
        for (name, bytes) in &sources {
            digest.whole(name, bytes);
        }
        // Each file is read once, so that what is parsed is what is digested.
        let beside: RefCell<Vec<(Reference, Option<Vec<u8>>)>> = RefCell::default();
        let file = |source: &str, name: &str| {
            let reference = Reference { source: source.to_owned(), name: name.to_owned() };
            let mut read = beside.borrow_mut();
            if let Some((_, bytes)) = read.iter().find(|(known, _)| *known == reference) {
                return bytes.clone();
            }
            let bytes = files::beside(&self.path, &reference);
            read.push((reference, bytes.clone()));
            bytes
        };
        let judged = texts(sources).and_then(|sources| {
            let policy = Policy::read(&sources, &file, &self.told)?;
            Ok((self.permitted(tried(policy)?)?, sources))
        });
        let beside = beside.into_inner();
        for (reference, bytes) in &beside {
            match bytes {
                Some(bytes) => digest.whole(&reference.label(), bytes),
                None => digest.missing(&reference.label()),
            }
        }
        let judged = judged.map(|(policy, sources)| {
            let names = sources.iter().map(|source| source.name.clone()).collect();
            Loaded { policy, sources: names, document: Document::write(sources, &beside) }
        });
        let references = beside.into_iter().map(|(reference, _)| reference).collect();
        Reading { seen: Seen::Files(digest.revision()), references, judged }
    }

    /// The policy of a [`Loaded::document`], judged as if it were read from this directory now. `None` if it is no
    /// such document.
    pub fn restore(&self, document: Vec<u8>) -> Option<Result<Loaded, Faults>> {
        let files = Document::read(&document)?;
        let sources = files.names();
        let policy = files.load().and_then(|policy| self.permitted(policy));
        Some(policy.map(|policy| Loaded { policy, sources, document: Some(document) }))
    }

    fn unreadable(&self, error: &str) -> Faults {
        let mut faults = Faults::new();
        let remedy = "name a directory of YAML files that this process may read";
        faults.push(self.place(), String::new(), format!("the policy cannot be read: {error}"), remedy);
        faults
    }

    /// SECURITY: what answers over http is whoever holds the port, and whoever holds an issuer's keys may publish as
    /// anyone. So http, even on loopback, is for the demonstration and for tests.
    fn permitted(&self, policy: Policy) -> Result<Policy, Faults> {
        if self.http {
            return Ok(policy);
        }
        let mut faults = Faults::new();
        for (registry, source) in policy.registries().iter().filter_map(|it| Some((&it.id, it.bundle.as_ref()?))) {
            if source.url.scheme() != "https" {
                faults.push(
                    self.place(),
                    format!("registries.{registry}.bundle.url"),
                    format!("`{}` must start with https://", source.url),
                    "serve it with TLS; `ca_file` and `allow_networks` let a private authority and private addresses in",
                );
            }
        }
        for issuer in policy.issuers().iter() {
            let key_url = match &issuer.keys {
                KeySource::Remote { jwks_uri, .. } => jwks_uri.as_ref().map(Url::as_str),
                KeySource::Static(_) => None,
            };
            let urls = [("url", Some(issuer.url().as_str())), ("jwks_uri", key_url)];
            for (key, url) in urls.into_iter().filter_map(|(key, url)| Some((key, url?))) {
                if url.starts_with("http:") {
                    faults.push(
                        self.place(),
                        format!("issuers.{}.{key}", issuer.id),
                        format!("`{url}` must start with https://"),
                        "serve it with TLS; `ca_file` and `allow_networks` let a private authority and private addresses in",
                    );
                }
            }
        }
        faults.into_result(Some(policy))
    }

    fn place(&self) -> Place {
        Place::whole(Arc::from(self.path.display().to_string()))
    }
}

fn texts(files: Vec<(String, Vec<u8>)>) -> Result<Vec<Source>, Faults> {
    let mut faults = Faults::new();
    let mut sources = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { name, text });
        } else {
            let place = Place::whole(Arc::from(name));
            faults.push(place, String::new(), "the file is not UTF-8", "save it as UTF-8");
        }
    }
    faults.into_result(Some(sources))
}

/// Reads, checks and tests the policy of a directory, whose issuers may be reached over http on loopback.
pub fn load(directory: &Path) -> Result<Policy, Faults> {
    read(directory, |_| ())?.tested()
}

/// The same without running the policy's tests. `told` is as in [`Directory::telling`].
pub fn read(directory: &Path, told: fn(usize)) -> Result<Policy, Faults> {
    Directory::new(directory.to_owned()).with_http().telling(told).reading(Ok).judged.map(|loaded| loaded.policy)
}

#[cfg(test)]
mod tests;
