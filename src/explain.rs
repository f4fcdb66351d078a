//! Explanation: what an exchange would decide, and why, with nothing minted, claimed or recorded.
//!
//! The same verification and the same evaluation as an exchange's. The rules are asked whatever is wrong with the
//! token, since people debug with tokens that have expired; what would be said of the token stands beside. The answer is
//! whole: it is for the registry's side, never for a job.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::code::Code;
use crate::escape::escape;
use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::identity::keys::Keys;
use crate::identity::token::TokenError;
use crate::identity::token::UnverifiedToken;
use crate::identity::token::spiffe;
use crate::identity::verify;
use crate::json::Json;
use crate::json::Object;
use crate::policy::Policy;
use crate::policy::bundle::Lapse;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Grant;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate_at;
use crate::policy::explain::Explanation;
use crate::policy::explain::RuleReport;
use crate::policy::explain::reports;
use crate::policy::explain::to_table;
use crate::policy::registry::Registry;
use crate::time::Timestamp;
use crate::yielding::Yielding;

/// Longest wait for an identity provider's key. A job waits as long.
const KEY_WAIT: Duration = Duration::from_millis(2500);
/// Longest echo of an `iss`.
const MAX_ECHO: usize = 200;

/// What would be asked, and where.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The rules, in one revision throughout.
    pub policy: &'a Policy,
    /// The registry that the job would publish to.
    pub registry: &'a Registry,
    /// What it would ask for.
    pub requested: &'a Requested,
}

/// What would be decided, and why.
#[derive(Debug, Serialize)]
pub struct Answer {
    decision: &'static str,
    #[serde(flatten)]
    reason: Reason,
    /// Rules in shadow mode that would grant what the decision does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<RuleReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenVerdict>,
    policy_revision: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reason {
    /// The rules say yes: those that grant, condition by condition.
    Granted { code: &'static str, sentence: String, grant: GrantShown, rules: Vec<RuleReport> },
    /// The rules say no.
    Refused(Box<Explanation>),
    /// The rules could not be asked.
    Unasked { code: Code, sentence: String },
}

/// What a job would get.
#[derive(Debug, Serialize)]
struct GrantShown {
    permissions: Vec<String>,
    /// In seconds.
    ttl: u64,
    uses: Option<u32>,
    /// In bytes.
    max_size: Option<u64>,
    /// The only ones; `null` for all.
    versions: Option<Vec<String>>,
    rules: Vec<String>,
}

/// What verification says of the token that the rules were asked about.
#[derive(Debug, Clone, Serialize)]
pub struct TokenVerdict {
    /// Whether it would be accepted; `null` when that cannot be told, as its issuer's keys are not there.
    valid: Option<bool>,
    code: Option<Code>,
    detail: String,
}

/// Why the issuer of bare claims is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIssuer {
    /// Neither the claims nor the question name one.
    #[error("the claims have no `iss`, so `issuer` must name one of the policy's issuers")]
    Unnamed,
    /// The question names one that the policy does not have.
    #[error("the policy has no issuer `{0}`")]
    NoSuchId(String),
    /// The question and the claims name different ones.
    #[error("`issuer` is `{id}` and the claims' `iss` is not its URL: leave one of them out")]
    Different {
        /// The named one.
        id: String,
    },
    /// The question names a family, which has many.
    #[error("`{0}` is a family of issuers: put `iss` into the claims")]
    Family(String),
    /// The claims name one that the policy does not have.
    #[error("{0}")]
    Unknown(UnknownIssuer),
}

/// An `iss` that is nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIssuer {
    iss: String,
    nearest: Option<String>,
}

/// What an exchange of this token would come to. A key that is not held is fetched as for an exchange, from the same
/// allowance.
pub async fn token(question: Question<'_>, keys: &Keys, yielding: Yielding<'_>, text: &str, now: Timestamp) -> Answer {
    let (token, issuer) = match opened(question, text, now) {
        Ok(opened) => opened,
        Err(answer) => return *answer,
    };
    let claims = token.unproven_claims().clone();
    let verdict = match keys.key(&issuer, token.kid(), now, KEY_WAIT, yielding).await {
        Ok(key) => match verify::verify(token, &key, &issuer, &question.registry.audiences, now) {
            Ok(verified) => TokenVerdict {
                valid: Some(true),
                code: None,
                detail: format!("the token is its issuer's and valid until {}", verified.expires_at()),
            },
            Err(error) => TokenVerdict::refused(&error),
        },
        Err(error) => {
            let code = error.code();
            TokenVerdict {
                valid: (code != Code::IssuerUnavailable).then_some(false),
                code: Some(code),
                detail: error.to_string(),
            }
        }
    };
    asked(question, &issuer, claims, Some(verdict), now)
}

/// The same without a look at the token's signature, which takes its issuer's keys.
pub fn unproven_token(question: Question<'_>, text: &str, now: Timestamp) -> Answer {
    let (token, issuer) = match opened(question, text, now) {
        Ok(opened) => opened,
        Err(answer) => return *answer,
    };
    let claims = token.unproven_claims().clone();
    let verdict = match verify::check(&claims, &issuer, &question.registry.audiences, now) {
        Ok(()) => {
            let detail = "nothing is wrong with it; its signature was not checked".to_owned();
            TokenVerdict { valid: None, code: None, detail }
        }
        Err(error) => TokenVerdict::refused(&error),
    };
    asked(question, &issuer, claims, Some(verdict), now)
}

/// What the rules would say to a job of this issuer with these claims, as a token has them. Of a token only a wrong
/// audience can be told.
pub fn claims(question: Question<'_>, issuer: &Arc<Issuer>, claims: Object, now: Timestamp) -> Answer {
    let named = claims.get("aud").is_some();
    let audience = verify::check_audience(&claims, issuer, &question.registry.audiences);
    let verdict = audience.err().filter(|_| named).map(|error| TokenVerdict::refused(&error));
    asked(question, issuer, claims, verdict, now)
}

/// The answer to claims whose `iss` is nobody's, or that of a tenant whom only rules may name that are not known now.
pub fn unknown(question: Question<'_>, issuer: &UnknownIssuer, now: Timestamp) -> Answer {
    match question.policy.may_be_bundled(question.registry, &issuer.iss, now) {
        Some(lapse) => lapsed(question.policy, lapse, None),
        None => unasked(question.policy, TokenVerdict::unknown(issuer)),
    }
}

/// The issuer of bare claims: the one that their `iss` names, which must be `id` if that is given.
pub fn issuer_of<'p>(policy: &'p Policy, id: Option<&str>, claims: &Object) -> Result<&'p Arc<Issuer>, NoIssuer> {
    let issuers = policy.issuers();
    let text = |claim| claims.get(claim).and_then(Json::as_str);
    let iss = text("iss").or_else(|| text("sub").and_then(spiffe::trust_domain_of));
    let named = id.map(|id| issuers.by_id(id).ok_or_else(|| NoIssuer::NoSuchId(echo(id)))).transpose()?;
    match (named, iss) {
        (None, None) => Err(NoIssuer::Unnamed),
        (Some(issuer), None) if issuer.keys_name() != issuer.url().as_str() => Err(NoIssuer::Family(issuer.id.clone())),
        (Some(issuer), None) => Ok(issuer),
        (None, Some(iss)) => issuers.by_url(iss).ok_or_else(|| NoIssuer::Unknown(UnknownIssuer::new(policy, iss))),
        (Some(issuer), Some(iss)) => issuers
            .by_url(iss)
            .filter(|own| own.id == issuer.id)
            .ok_or_else(|| NoIssuer::Different { id: issuer.id.clone() }),
    }
}

/// The token taken apart, and its issuer; or why there is nothing to ask the rules about.
fn opened(question: Question<'_>, text: &str, now: Timestamp) -> Result<(UnverifiedToken, Arc<Issuer>), Box<Answer>> {
    let Question { policy, .. } = question;
    let token = UnverifiedToken::parse(text).map_err(|error| unasked(policy, TokenVerdict::refused(&error)))?;
    match policy.issuers().by_url(token.issuer()) {
        Some(issuer) => Ok((token, Arc::clone(issuer))),
        None => Err(Box::new(unknown(question, &UnknownIssuer::new(policy, token.issuer()), now))),
    }
}

/// The answer while the registry's own rules are not known.
fn lapsed(policy: &Policy, lapse: Lapse, token: Option<TokenVerdict>) -> Answer {
    let reason = Reason::Unasked { code: lapse.code(), sentence: lapse.to_string() };
    let policy_revision = policy.revision().to_owned();
    Answer { decision: "deny", reason, shadow: Vec::new(), token, policy_revision }
}

fn unasked(policy: &Policy, verdict: TokenVerdict) -> Answer {
    let code = verdict.code.unwrap_or(Code::TokenMalformed);
    let sentence = format!("{} — {}", verdict.detail, code.mend());
    Answer {
        decision: "deny",
        reason: Reason::Unasked { code, sentence },
        shadow: Vec::new(),
        token: Some(verdict),
        policy_revision: policy.revision().to_owned(),
    }
}

fn asked(
    question: Question<'_>,
    issuer: &Arc<Issuer>,
    claims: Object,
    token: Option<TokenVerdict>,
    now: Timestamp,
) -> Answer {
    let Question { policy, registry, requested } = question;
    let derived = issuer.derive(&claims);
    let claims = Claims::new(claims, derived);
    let subject = Subject { issuer, claims: &claims };
    let policy_revision = policy.revision().to_owned();
    let evaluation = match evaluate_at(policy, registry, &subject, requested, now) {
        Ok(evaluation) => evaluation,
        Err(lapse) => return lapsed(policy, lapse, token),
    };
    let told = |rules: &[String]| reports(policy, registry, &subject, requested, rules);
    let shadow = told(&evaluation.shadow);
    let (decision, reason) = match evaluation.decision {
        Decision::Allow(grant) => ("allow", Reason::granted(&grant, told(grant.rules()))),
        Decision::Deny(explanation) => ("deny", Reason::Refused(explanation)),
    };
    Answer { decision, reason, shadow, token, policy_revision }
}

impl Answer {
    /// Whether a job would get an upload token, as far as can be told.
    pub fn allowed(&self) -> bool {
        self.decision == "allow" && self.token.as_ref().is_none_or(|token| token.valid != Some(false))
    }

    /// The answer for a terminal: the sentence, then each rule as a table.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        if let Some(token) = &self.token {
            let code = token.code.map_or_else(String::new, |code| format!("{code}: "));
            let _infallible = writeln!(text, "token: {code}{}\n", token.detail);
        }
        match &self.reason {
            Reason::Granted { sentence, grant, rules, .. } => {
                let _infallible = writeln!(text, "allowed: {sentence}\n{}\n{}", grant.to_line(), to_table(rules));
            }
            Reason::Refused(explanation) => text.push_str(&explanation.to_table()),
            Reason::Unasked { code, sentence } => {
                let _infallible = writeln!(text, "{code}: {sentence}");
            }
        }
        if !self.shadow.is_empty() {
            let _infallible = writeln!(text, "\nin shadow mode, not granted:\n{}", to_table(&self.shadow));
        }
        text
    }
}

impl Reason {
    fn granted(grant: &Grant, rules: Vec<RuleReport>) -> Self {
        let names = grant.rules().iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", ");
        let subject = if grant.rules().len() == 1 { "the rule" } else { "the rules" };
        let verb = if grant.rules().len() == 1 { "grants" } else { "grant" };
        let sentence = format!("{subject} {names} {verb} {}", grant.permissions());
        Self::Granted { code: "ok", sentence, grant: GrantShown::of(grant), rules }
    }
}

impl GrantShown {
    fn of(grant: &Grant) -> Self {
        Self {
            permissions: grant.permissions().iter().map(ToString::to_string).collect(),
            ttl: grant.ttl().as_secs(),
            uses: grant.uses(),
            max_size: grant.max_size(),
            versions: grant.versions().map(<[String]>::to_vec),
            rules: grant.rules().to_vec(),
        }
    }

    /// `for 900 s; uses: 1; versions: 1.4.0`.
    fn to_line(&self) -> String {
        let mut parts = vec![format!("for {} s", self.ttl)];
        parts.extend(self.uses.map(|uses| format!("uses: {uses}")));
        parts.extend(self.max_size.map(|size| format!("files of at most {size} bytes")));
        parts.extend(self.versions.as_ref().map(|versions| format!("versions: {}", versions.join(", "))));
        parts.join("; ")
    }
}

impl TokenVerdict {
    fn refused(error: &TokenError) -> Self {
        Self { valid: Some(false), code: Some(error.code()), detail: error.to_string() }
    }

    fn unknown(issuer: &UnknownIssuer) -> Self {
        Self { valid: Some(false), code: Some(Code::UnknownIssuer), detail: issuer.to_string() }
    }
}

impl UnknownIssuer {
    fn new(policy: &Policy, iss: &str) -> Self {
        let nearest = policy.issuers().nearest(iss).map(|issuer| issuer.url().to_string());
        Self { iss: echo(iss), nearest }
    }
}

impl fmt::Display for UnknownIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no identity provider is configured with the issuer `{}`", self.iss)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; the nearest one is `{nearest}`"),
            None => Ok(()),
        }
    }
}

fn echo(text: &str) -> String {
    let short: String = text.chars().take(MAX_ECHO).collect();
    escape(&short).into_owned()
}
