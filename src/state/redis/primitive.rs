//! What is asked of Redis, and what each call came to, in words for a metric.

use std::time::Duration;

/// A primitive of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    SetOnce,
    Reserve,
    Put,
    Get,
    Add,
    Append,
    Since,
    Epoch,
}

impl Primitive {
    /// The value of a metric's label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::SetOnce => "set-once",
            Self::Reserve => "reserve",
            Self::Put => "put",
            Self::Get => "get",
            Self::Add => "add",
            Self::Append => "append",
            Self::Since => "since",
            Self::Epoch => "epoch",
        }
    }
}

/// A call that has ended. Its words are this module's own, so that they may be labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisCall {
    /// What was asked.
    pub primitive: &'static str,
    /// What went wrong, if anything did.
    pub fault: Option<&'static str>,
    /// How long it took, waiting for a connection included.
    pub took: Duration,
}
