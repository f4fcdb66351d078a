//! How keys are spelled in Redis.
//!
//! ```text
//!   <prefix>{<bucket>}:epoch        since when this bucket forgot nothing
//!   <prefix>{<bucket>}:k:<key>      a value, a map or a counter
//!   <prefix>{<bucket>}:l:<list>     a list
//! ```
//!
//! The bucket is a hash tag: in a Cluster all keys of a bucket live in one slot, so that one script reaches a key and
//! its epoch. A single server has one bucket.

use crate::secret::sha256;

/// How many buckets a Cluster has: enough to spread over its nodes, few enough to look at each when connecting.
const CLUSTER_BUCKETS: u8 = 64;

/// The spelling of keys under one prefix.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    buckets: u8,
}

/// One of the parts that a store is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u8);

impl Keys {
    pub(super) fn new(prefix: &str, clustered: bool) -> Self {
        Self { prefix: prefix.to_owned(), buckets: if clustered { CLUSTER_BUCKETS } else { 1 } }
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        (0..self.buckets).map(Bucket)
    }

    /// The bucket of a key or list.
    pub(super) fn bucket(&self, name: &[u8]) -> Bucket {
        let [first, ..] = sha256(name);
        Bucket(first.checked_rem(self.buckets).unwrap_or(0))
    }

    /// The Cluster's slot of a bucket: CRC-16/XMODEM of its tag, as the Cluster specification has it.
    pub(super) fn slot(Bucket(bucket): Bucket) -> u16 {
        let tag = bucket.to_string();
        let crc =
            tag.bytes().fold(0_u16, |crc, byte| {
                (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                    if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
                })
            });
        crc % 16_384
    }

    pub(super) fn epoch(&self, bucket: Bucket) -> Vec<u8> {
        self.spell(bucket, "epoch", b"")
    }

    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        self.spell(self.bucket(key), "k:", key)
    }

    pub(super) fn list(&self, list: &str) -> Vec<u8> {
        self.spell(self.bucket(list.as_bytes()), "l:", list.as_bytes())
    }

    fn spell(&self, Bucket(bucket): Bucket, kind: &str, name: &[u8]) -> Vec<u8> {
        let mut spelled = format!("{}{{{bucket}}}:{kind}", self.prefix).into_bytes();
        spelled.extend_from_slice(name);
        spelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_bucket_share_its_tag() {
        let keys = Keys::new("trustmint:", true);
        for name in ["a", "first-use:x", "{other}", ""] {
            let bucket = keys.bucket(name.as_bytes());
            let tag = format!("trustmint:{{{}}}:", bucket.0);
            for key in [keys.epoch(bucket), keys.key(name.as_bytes()), keys.list(name)] {
                assert!(key.starts_with(tag.as_bytes()), "{name}");
            }
        }
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // As `CLUSTER KEYSLOT` answers.
        for (bucket, slot) in [(0, 13_907), (7, 1_716), (63, 10_499)] {
            assert_eq!(Keys::slot(Bucket(bucket)), slot, "{bucket}");
        }
    }

    #[test]
    fn a_single_server_has_one_bucket_and_a_cluster_uses_all_of_its() {
        let single = Keys::new("t:", false);
        assert_eq!(single.buckets().count(), 1);
        let cluster = Keys::new("t:", true);
        let used: std::collections::BTreeSet<_> = (0..10_000_u32).map(|n| cluster.bucket(&n.to_be_bytes())).collect();
        assert_eq!(used, cluster.buckets().collect());
    }
}
