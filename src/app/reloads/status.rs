//! What operators see of the policy and its reloads.

use std::sync::Arc;

use crate::app::PolicyInForce;
use crate::policy::yaml::Faults;
use crate::time::Timestamp;

/// The policy, where it is from, and what came of the latest reading.
#[derive(Debug, Clone)]
pub struct Status {
    /// The policy in force.
    pub policy: Arc<PolicyInForce>,
    /// The names of its files.
    pub sources: Vec<String>,
    /// Where it is from.
    pub serving: Serving,
    /// What came of the latest reading.
    pub last: Last,
}

/// Where the policy in force is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It is what the directory holds.
    Directory,
    /// The directory held it before what it holds now, which is refused.
    LastGood,
    /// It is the store's copy of what was good before this process began, and what the directory holds is refused.
    Copy,
}

impl Serving {
    /// Its name for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::LastGood => "last-good",
            Self::Copy => "stored-copy",
        }
    }
}

/// What came of a reading.
#[derive(Debug, Clone)]
pub struct Last {
    /// When.
    pub at: Timestamp,
    /// What.
    pub outcome: Outcome,
    /// What is wrong with what was read; none unless it was refused.
    pub faults: Arc<Faults>,
}

/// What came of a reading, in one word: also the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was read is in force now.
    Activated,
    /// What was read was in force already.
    Unchanged,
    /// What was read is faulty, and what was in force stays so.
    Refused,
    /// The directory did not come to rest while it was read.
    Unsettled,
}

impl Outcome {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Unsettled => "unsettled",
        }
    }
}
