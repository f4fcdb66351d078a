//! The last step, which cannot fail, and what it takes: a prepared token, leave as to the job's token, and a place for the
//! record.

use crate::audit::AuditEvent;
use crate::audit::Place;
use crate::identity::replay::NotDemanded;
use crate::identity::replay::Replay;
use crate::macaroon::Minted;
use crate::macaroon::Prepared;
use crate::spelling::spelled;
use crate::state::FirstUse;
use crate::state::Repetition;
use crate::state::rates::Standing;

/// How long `action:pattern` usually is at most, in bytes.
const USUAL_PAIR: usize = 64;

/// An upload token on its way to the client. Obtainable only from a grant, with leave as to the subject token's use, and by
/// handing its record to the audit log.
#[derive(Debug)]
pub struct IssuedToken {
    minted: Minted,
    leave: Leave,
    counted: Standing,
}

/// An upload token whose record was not handed to the audit log yet. It has a place there, and [`Unrecorded::recorded`] is the only way to
/// have it.
#[derive(Debug)]
pub struct Unrecorded {
    token: IssuedToken,
    place: Place,
}

/// Why a subject token may be answered with an upload token. Each is a proof that can be had in one way only.
#[derive(Debug)]
pub(super) enum Leave {
    First(#[expect(dead_code, reason = "a proof is held, not read")] FirstUse),
    Repeated(Repetition),
    NotDemanded(NotDemanded),
}

impl IssuedToken {
    /// The token and what is said about it.
    pub const fn minted(&self) -> &Minted {
        &self.minted
    }

    /// How the registry's allowance stands after it.
    pub const fn standing(&self) -> &Standing {
        &self.counted
    }
}

impl Unrecorded {
    /// What is said about the token.
    pub(super) const fn minted(&self) -> &Minted {
        &self.token.minted
    }

    /// What was granted, as `action:pattern`.
    pub fn granted(&self) -> Vec<String> {
        self.token.minted.permissions.iter().map(|pair| spelled(pair, USUAL_PAIR)).collect()
    }

    /// For the record, what the exchange was if it was no first use.
    pub const fn replay(&self) -> Option<&'static str> {
        match self.token.leave {
            Leave::First(_) => None,
            Leave::Repeated(_) => Some("repeated"),
            Leave::NotDemanded(_) => Some(Replay::Off.name()),
        }
    }

    /// The token, once its record is handed to the log, which writes it afterwards.
    pub fn recorded(self, event: AuditEvent) -> IssuedToken {
        self.place.record(event);
        self.token
    }
}

/// Step 6 cannot fail: only a prepared token that was counted, leave as to its subject token and a place for its record
/// make an issued one.
pub(super) fn issue(prepared: Prepared, leave: Leave, counted: Standing, place: Place) -> Unrecorded {
    Unrecorded { token: IssuedToken { minted: prepared.mint(), leave, counted }, place }
}
