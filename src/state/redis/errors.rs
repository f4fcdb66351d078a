//! How often which primitive failed, and why.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::fault::Fault;

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
    const ALL: [Self; 8] =
        [Self::SetOnce, Self::Reserve, Self::Put, Self::Get, Self::Add, Self::Append, Self::Since, Self::Epoch];

    const fn label(self) -> &'static str {
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

/// One counter for each primitive and fault.
#[derive(Debug)]
pub(super) struct Errors {
    counters: Vec<(Primitive, Fault, AtomicU64)>,
}

impl Errors {
    pub(super) fn new() -> Self {
        let pairs = Primitive::ALL.into_iter().flat_map(|primitive| Fault::ALL.map(|fault| (primitive, fault)));
        Self { counters: pairs.map(|(primitive, fault)| (primitive, fault, AtomicU64::new(0))).collect() }
    }

    pub(super) fn count(&self, primitive: Primitive, fault: Fault) {
        if let Some((.., counter)) = self.counters.iter().find(|(p, f, _)| (*p, *f) == (primitive, fault)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that have counted anything, as (primitive, fault, how often).
    pub(super) fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let read = self.counters.iter().map(|(p, f, counter)| (p.label(), f.label(), counter.load(Ordering::Relaxed)));
        read.filter(|(.., count)| *count > 0).collect()
    }
}
