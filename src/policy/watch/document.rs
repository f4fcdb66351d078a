//! The files of a policy as one document, for the store: what a replica starts with that finds a bad policy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

use super::Reference;
use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::yaml::Faults;

/// Largest document that is made. What is kept in the store takes room that first uses need, and Kubernetes mounts
/// one MiB; whoever has more rules than fit has a directory of another kind, and no copy of it.
pub const MAX_DOCUMENT: usize = 32 << 20;

/// The files, whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    sources: Vec<Text>,
    beside: Vec<Beside>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    source: String,
    name: String,
    base64: String,
}

impl Document {
    /// The document of these files, as bytes; `None` if it would be too large.
    pub(super) fn write(sources: Vec<Source>, beside: &[(Reference, Option<Vec<u8>>)]) -> Option<Vec<u8>> {
        let size = sources.iter().map(|source| source.text.len()).sum::<usize>();
        let size = size + beside.iter().flat_map(|(_, bytes)| bytes).map(Vec::len).sum::<usize>();
        if size > MAX_DOCUMENT {
            return None;
        }
        let text = |Source { name, text }| Text { name, text };
        let file = |(Reference { source, name }, bytes): &(Reference, Option<Vec<u8>>)| {
            let base64 = STANDARD.encode(bytes.as_ref()?);
            Some(Beside { source: source.clone(), name: name.clone(), base64 })
        };
        let document =
            Self { sources: sources.into_iter().map(text).collect(), beside: beside.iter().filter_map(file).collect() };
        serde_json::to_vec(&document).ok().filter(|bytes| bytes.len() <= MAX_DOCUMENT)
    }

    /// Reads what [`Document::write`] has written.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The names of the policy files.
    pub(super) fn names(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.name.clone()).collect()
    }

    /// The policy of these files.
    pub(super) fn load(self) -> Result<Policy, Faults> {
        let beside = self.beside;
        let file = |source: &str, name: &str| {
            let found = beside.iter().find(|file| file.source == source && file.name == name)?;
            STANDARD.decode(&found.base64).ok()
        };
        let sources: Vec<Source> = self.sources.into_iter().map(|Text { name, text }| Source { name, text }).collect();
        Policy::load(&sources, &file)
    }
}
