//! What can go wrong with Redis, in words that hold nothing of what was asked.

use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;

use crate::state::StoreError;
use crate::state::redis::connect::NEEDS_TLS;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words().1)]
pub enum Fault {
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// Wrong user or password.
    Credentials,
    /// The password's file is unfit.
    PasswordFile,
    /// The file of certificate authorities is unfit.
    CaFile,
    /// A server that others named would be spoken to unencrypted over a network.
    Exposed,
    /// No Sentinel knows the master.
    NoMaster,
    /// The user may not do what is needed.
    Permission,
    /// The server would drop entries for want of room.
    Evicts,
    /// The server is too old.
    Version,
    /// The server is a replica, or busy loading.
    NotWritable,
    /// No room.
    Full,
    /// A cluster cannot serve the key.
    Cluster,
    /// Too few replicas have the write.
    Replicas,
    /// The moment to remember until is over.
    Past,
    /// The key holds another kind of value.
    Kind,
    /// A count does not fit.
    Range,
    /// The answer makes no sense.
    Answer,
    /// The server has not seen the script yet.
    UnknownScript,
    /// Anything else that the server refused.
    Refused,
}

impl Fault {
    /// What stands in a metric's label, and what operators read.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Unreachable => ("unreachable", "Redis cannot be reached"),
            Self::Timeout => ("timeout", "Redis did not answer in time"),
            Self::Credentials => ("credentials", "Redis refused the user or password"),
            Self::PasswordFile => ("password-file", "the file of Redis' password cannot be used"),
            Self::CaFile => ("ca-file", "the file of Redis' certificate authorities cannot be used"),
            Self::Exposed => {
                ("exposed", "Redis named a server that is not on this machine, for a connection without TLS")
            }
            Self::NoMaster => ("no-master", "the Sentinels know no master of that name"),
            Self::Permission => ("permission", "the Redis user lacks a permission"),
            Self::Evicts => ("evicts", "Redis would evict entries: its maxmemory-policy is not noeviction"),
            Self::Version => ("version", "Redis is older than version 7.0"),
            Self::NotWritable => ("not-writable", "Redis is not ready for writes"),
            Self::Full => ("full", "Redis is full"),
            Self::Cluster => ("cluster", "the Redis cluster has no node for the key"),
            Self::Replicas => ("replicas", "too few Redis replicas have confirmed the write"),
            Self::Past => ("past", "what must be remembered is over by Redis' clock"),
            Self::Kind => ("kind", "the key holds another kind of value"),
            Self::Range => ("range", "a count is out of range"),
            Self::Answer => ("answer", "Redis gave an answer that makes no sense"),
            Self::UnknownScript => ("unknown-script", "Redis does not know a script that it was given"),
            Self::Refused => ("refused", "Redis refused the command"),
        }
    }

    /// The value of a metric's label.
    pub(super) const fn label(self) -> &'static str {
        self.words().0
    }

    /// How to mend it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Evicts => "set `maxmemory-policy noeviction` in Redis: an evicted first use is a replay",
            Self::Version => "use Redis 7.0, Valkey 7.2 or later",
            Self::Credentials => "check `state.redis.username` and `state.redis.password_file`",
            Self::PasswordFile => "check `state.redis.password_file`: readable by the service's user alone",
            Self::CaFile => "check `state.redis.ca_file`: PEM certificates",
            Self::Exposed => {
                "write `rediss://` in `state.redis`: its password and entries would cross the network readable"
            }
            Self::NoMaster => "check `state.redis.sentinel.name`",
            Self::Permission => "give the user what docs/redis.md lists",
            Self::Unreachable | Self::Timeout => "check `state.redis`, the network and the server's certificate",
            Self::NotWritable => "name the master, or use `state.redis.sentinel`",
            Self::Cluster => "check `state.redis.cluster` and the cluster's state",
            Self::Full => "give Redis more memory",
            Self::Replicas
            | Self::Past
            | Self::Kind
            | Self::Range
            | Self::Answer
            | Self::UnknownScript
            | Self::Refused => "see docs/redis.md",
        }
    }

    /// Whether it stays so until somebody mends the settings, their files or the server's configuration: waiting does
    /// not help.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::Credentials
                | Self::PasswordFile
                | Self::CaFile
                | Self::Exposed
                | Self::Permission
                | Self::Evicts
                | Self::Version
        )
    }

    /// Whether another connection may fare better. A cluster's mends itself, but for its password.
    pub(super) const fn breaks(self, clustered: bool) -> bool {
        match self {
            Self::Credentials => true,
            Self::Unreachable | Self::Timeout | Self::Answer => !clustered,
            Self::Cluster => clustered,
            _ => false,
        }
    }

    /// Whether the server answers, and another may have taken its place: Sentinels, or its name, lead there. A cluster
    /// finds out by itself.
    pub(super) const fn may_be_elsewhere(self, clustered: bool) -> bool {
        !clustered && matches!(self, Self::NotWritable | Self::Replicas)
    }

    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Credentials,
            ErrorKind::InvalidClientConfig if error.to_string().contains(NEEDS_TLS) => Self::Exposed,
            // A name without an address: perhaps not yet.
            ErrorKind::InvalidClientConfig => Self::Unreachable,
            ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Server(
                ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::CrossSlot,
            ) => Self::Cluster,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly,
            ) => Self::NotWritable,
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::UnknownScript,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Permission,
            _ if error.is_timeout() => Self::Timeout,
            _ if error.is_io_error() || error.is_connection_dropped() => Self::Unreachable,
            _ => Self::of_code(error),
        }
    }

    /// The errors of commands inside a script, which the crate has no name for.
    fn of_code(error: &RedisError) -> Self {
        let detail = error.detail().unwrap_or_default();
        match error.code() {
            Some("OOM") => Self::Full,
            Some("WRONGTYPE") => Self::Kind,
            Some("NOAUTH" | "WRONGPASS") => Self::Credentials,
            Some("NOREPLICAS" | "MISCONF") => Self::NotWritable,
            Some("ERR") if detail.contains("overflow") => Self::Range,
            Some("ERR") if detail.contains("not an integer") => Self::Kind,
            Some("ERR") if detail.contains("ACL") || detail.contains("user executing the script") => Self::Permission,
            _ => Self::Refused,
        }
    }
}

/// Why a call failed, and whether a server may have acted on it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// There was no connection to send it on.
    Unsent(Fault),
    /// It was sent, or may have been.
    Sent(Fault),
    /// The same in a Cluster, where the library sends again what had no answer: the fault is the last one's, and an earlier
    /// one may have been acted on.
    Repeated(Fault),
}

impl Failed {
    /// Why.
    pub(super) const fn fault(self) -> Fault {
        match self {
            Self::Unsent(fault) | Self::Sent(fault) | Self::Repeated(fault) => fault,
        }
    }

    /// The same in a Cluster.
    #[must_use]
    pub(super) const fn in_cluster(self) -> Self {
        match self {
            Self::Unsent(_) | Self::Repeated(_) => self,
            Self::Sent(fault) => Self::Repeated(fault),
        }
    }
}

/// What is wrong with an answer.
impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Sent(fault)
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        let reason = failed.fault().words().1;
        match failed {
            Failed::Unsent(_) => Self::NotAsked { reason },
            Failed::Sent(Fault::Full) => Self::Full,
            Failed::Sent(_) | Failed::Repeated(_) => Self::Unavailable { reason },
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Failed::from(fault).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_sent_or_found_no_room_surely_changed_nothing_and_nothing_else_did() {
        for fault in [Fault::Unreachable, Fault::Timeout, Fault::Credentials, Fault::Full, Fault::Permission] {
            assert!(StoreError::from(Failed::Unsent(fault)).changed_nothing(), "{fault}");
            assert!(StoreError::from(Failed::Unsent(fault).in_cluster()).changed_nothing(), "{fault}");
            assert_eq!(StoreError::from(Failed::Sent(fault)).changed_nothing(), fault == Fault::Full, "{fault}");
            assert!(!StoreError::from(Failed::Sent(fault).in_cluster()).changed_nothing(), "{fault}");
        }
    }

    #[test]
    fn a_name_without_an_address_is_waited_for_and_an_address_elsewhere_is_not() {
        let of = |words: &'static str| Fault::of(&RedisError::from((ErrorKind::InvalidClientConfig, words)));
        assert_eq!((of("No address found for host"), Fault::Unreachable.is_lasting()), (Fault::Unreachable, false));
        assert_eq!((of(NEEDS_TLS), Fault::Exposed.is_lasting()), (Fault::Exposed, true));
    }
}
