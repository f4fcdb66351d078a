//! Requests of the public side: how they ended, how long they took, and what was refused before it began.

use std::time::Duration;

use super::Metrics;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Seconds;
use super::instrument::configured;

/// Upper bounds in seconds: from half a millisecond, a tenth of what a cached exchange may take, to the four seconds
/// after which clients give up.
pub(super) const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const EXCHANGES: &str = "exchanges";
const ISSUER_EXCHANGES: &str = "issuer_exchanges";

/// How many series a counter may have if not as many as others: these two have one for each code at each registry, or of
/// each issuer, and whoever sends tokens can bring about most codes. 10,000 are all codes of 200 registries.
pub(super) fn most_series(counter: &str) -> Option<usize> {
    [EXCHANGES, ISSUER_EXCHANGES].contains(&counter).then_some(10_000)
}

#[derive(Debug)]
pub(super) struct Requests {
    exchanges: Count<2>,
    issuer_exchanges: Count<2>,
    exchange_duration: Seconds<1>,
    verifications: Count<2>,
    verification_duration: Seconds<1>,
    verifications_by_old_lists: Count<1>,
    revocations: Count<1>,
    responses: Count<2>,
    rate_limited: Count<2>,
    client_limited: Count<0>,
    overloaded: Count<1>,
}

impl Requests {
    pub(super) fn new(make: &mut Maker) -> Self {
        Self {
            exchanges: make.counter(EXCHANGES, ["code", "registry"], "Token exchanges, by outcome and registry."),
            issuer_exchanges: make.counter(
                ISSUER_EXCHANGES,
                ["code", "issuer"],
                "The same token exchanges, by outcome and issuer.",
            ),
            exchange_duration: make.seconds(
                "exchange_duration",
                ["registry"],
                &BUCKETS,
                "How long a token exchange took.",
            ),
            verifications: make.counter(
                "verifications",
                ["code", "registry"],
                "Verifications of upload tokens, by outcome.",
            ),
            verification_duration: make.seconds(
                "verification_duration",
                ["registry"],
                &BUCKETS,
                "How long a verification took.",
            ),
            verifications_by_old_lists: make.counter(
                "verifications_by_old_lists",
                ["registry"],
                "Verifications that allowed something although the lists of what is revoked and stopped were old.",
            ),
            revocations: make.counter("revocations", ["code"], "Revocations of upload tokens, by outcome."),
            responses: make.counter(
                "http_responses",
                ["endpoint", "status"],
                "Responses of the public side, by endpoint and status.",
            ),
            rate_limited: make.counter(
                "rate_limited",
                ["allowance", "registry"],
                "Requests refused because a registry had used up an allowance.",
            ),
            client_limited: make.counter(
                "client_limited",
                [],
                "Requests refused unseen because too many of their client's were refused.",
            ),
            overloaded: make.counter(
                "overloaded",
                ["limit"],
                "Requests refused because this replica had as many under way as it takes.",
            ),
        }
    }
}

impl Metrics {
    /// Counts an exchange: its code, the ids of its registry and issuer ([`super::NONE`] when unknown), how long it took.
    ///
    /// SECURITY: never in one counter by both. Strangers choose among registries and issuers, so they could use up the
    /// series of all pairs, and what is new would no longer show.
    pub fn exchange(&self, code: &'static str, registry: &str, issuer: &str, took: Duration) {
        let registry = configured(registry);
        self.requests.exchanges.one([code.into(), registry.clone()]);
        self.requests.issuer_exchanges.one([code.into(), configured(issuer)]);
        self.requests.exchange_duration.record([registry], took);
    }

    /// Counts a verification.
    pub fn verification(&self, code: &'static str, registry: &str, took: Duration) {
        let registry = configured(registry);
        self.requests.verifications.one([code.into(), registry.clone()]);
        self.requests.verification_duration.record([registry], took);
    }

    /// Counts a verification that allowed something by lists that were old, as its registry's policy has it.
    pub fn verification_by_old_lists(&self, registry: &str) {
        self.requests.verifications_by_old_lists.one([configured(registry)]);
    }

    /// Counts a revocation.
    pub fn revocation(&self, code: &'static str) {
        self.requests.revocations.one([code.into()]);
    }

    /// Counts a response: of an endpoint as the route table spells it ([`super::NONE`] for a path that is none), its
    /// status.
    pub fn response(&self, endpoint: &str, status: u16) {
        self.requests.responses.one([configured(endpoint), i64::from(status).into()]);
    }

    /// Counts a request that was refused because a registry had used up an allowance.
    pub fn rate_limited(&self, allowance: &'static str, registry: &str) {
        self.requests.rate_limited.one([allowance.into(), configured(registry)]);
    }

    /// Counts a request that was refused because too many of its client's were. Which client it is, is nobody's label.
    pub fn client_limited(&self) {
        self.requests.client_limited.one([]);
    }

    /// Counts a request that was refused because of a limit of this replica's.
    pub fn overloaded(&self, limit: &'static str) {
        self.requests.overloaded.one([limit.into()]);
    }
}
