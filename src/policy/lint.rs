//! Lint: what is well-formed and still dangerous. Its codes are those of the catalogue that operators look up.
//!
//! Every finding here refuses the policy. A rule that a stranger can meet is a supply-chain attack waiting for one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use url::Url;

use crate::identity::family;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::replay::Replay;
use crate::policy::condition::Condition;
use crate::policy::condition::Literal;
use crate::policy::condition::Test;
use crate::policy::issuers::Entry;
use crate::policy::parse::World;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Place;
use crate::policy::yaml::Value;
use crate::policy::yaml::shown;

/// Longest audience, in bytes.
const MAX_AUDIENCE: usize = 255;
/// Audiences that other services accept, or that providers put into tokens unasked.
const FOREIGN_AUDIENCES: &[&str] = &[
    "pypi",
    "testpypi",
    "crates.io",
    "rubygems.org",
    "sigstore",
    "sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "https://gitlab.com",
];
/// Claims whose text begins with the owner.
const OWNER_FIRST: &[&str] = &[
    "repository",
    "repository_owner",
    "workflow_repository",
    "workflow_ref",
    "job_workflow_repository",
    "job_workflow_ref",
    "project_path",
    "namespace_path",
];
/// Events whose runs have the trust of the repository while people outside it choose what happens.
const OUTSIDE_EVENTS: &[&str] = &[
    "pull_request_target",
    "workflow_run",
    "issue_comment",
    "issues",
    "discussion",
    "discussion_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "fork",
    "watch",
];
/// Claims that fix where a reusable workflow comes from.
const CALLEES: &[&str] = &["job_workflow_repository", "job_workflow_ref", "job_workflow_sha"];

/// The claims that rules must fix: the preset's, or the whole `sub` where nothing else is known.
pub(super) fn pins(provider: &Provider) -> &'static [&'static str] {
    if provider.pins.is_empty() { &["sub"] } else { provider.pins }
}

/// What an issuer demands of its rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Duties {
    /// The preset whose claims they read and whose pins they owe.
    pub(super) provider: &'static Provider,
    /// Whether the issuer is declared to have one tenant, so that they owe no pins.
    pub(super) single_tenant: bool,
    /// The claim that tells the members of a family apart, if the issuer is one.
    pub(super) segment: Option<&'static str>,
    /// Those of the preset's pins that the rule need not fix, because it says that it spans its owner's projects.
    pub(super) freed: &'static [&'static str],
}

impl Duties {
    /// The claims that rules must fix, each by literals.
    pub(super) fn pins(self) -> Vec<&'static str> {
        let owed = pins(self.provider).iter().filter(|pin| !self.freed.contains(pin));
        owed.copied().chain(self.segment).collect()
    }
}

/// Whether the conditions of one branch of a rule are safe: those of its `when`, with those of a block of its `any_of`.
/// Claims whose conditions have been `reported` as faulty are not judged.
pub(super) fn conditions(
    when: &Field<'_>,
    block: Option<&Field<'_>>,
    duties: Duties,
    conditions: &[Condition<'_>],
    reported: &[&str],
    faults: &mut Faults,
) {
    let provider = duties.provider;
    if conditions.is_empty() && reported.is_empty() {
        if matches!(when.node.value, Value::Map(_)) {
            let message = "L002: has no condition, so every job of the issuer would pass";
            when.fault(faults, message, "add conditions on claims");
        }
        return;
    }
    if !duties.single_tenant {
        all_pinned(block.unwrap_or(when), duties, conditions, reported, faults);
    }
    let entries = when.entries(faults).into_iter().flatten();
    let entries: Vec<Field<'_>> =
        entries.chain(block.and_then(|block| block.entries(faults)).into_iter().flatten()).collect();
    let place = |claim: &str| entries.iter().find(|entry| provider.resolve(entry.name()) == claim).unwrap_or(when);
    for condition in conditions {
        let entry = place(&condition.claim);
        check_pin(entry, condition, duties.segment, faults);
        check_glob(entry, condition, faults);
        check_event(entry, condition, faults);
    }
    for implied in provider.implied.iter().filter(|implied| !concerns(implied, reported)) {
        check_replaced(implied, conditions, &place, block.unwrap_or(when), faults);
    }
}

/// SECURITY: names can be freed and registered by someone else; numbers and UUIDs cannot. A rule that leaves one open
/// lets strangers in, so each is fixed by literals and nothing else counts.
fn all_pinned(when: &Field<'_>, duties: Duties, conditions: &[Condition<'_>], reported: &[&str], faults: &mut Faults) {
    let provider = duties.provider;
    for pin in duties.pins().into_iter().filter(|pin| !reported.contains(pin)) {
        let name = provider.shown(pin);
        if conditions.iter().any(|condition| &*condition.claim == pin && condition.pin) {
            continue;
        }
        let named = conditions.iter().any(|condition| &*condition.claim == pin);
        let how = if named { "is not fixed by literals" } else { "is not pinned" };
        let reason = if provider.pins.is_empty() {
            "anyone with a job on this issuer could publish"
        } else {
            "whoever takes over the name, or any other job of the provider, could publish"
        };
        let mut remedy = format!("add `{name}: \"…\"` with its literal value, or `{{in: [\"…\"]}}`");
        if provider.pins.is_empty() {
            remedy.push_str("; if everyone on the issuer is trusted alike, declare `tenancy: single` there");
        } else if !provider.hint.is_empty() {
            let _infallible = write!(remedy, "; tokens may lack it: {}", provider.hint);
        }
        when.fault_at_key(faults, format!("L001: `{name}` {how}: {reason}"), remedy);
    }
}

/// Whether one of the claims has to do with an implied condition.
fn concerns(implied: &Implied, claims: &[&str]) -> bool {
    let prefix = |claim: &&str| implied.unless_prefix.is_some_and(|prefix| claim.starts_with(prefix));
    claims.iter().any(|claim| *claim == implied.claim || prefix(claim))
}

/// Identifiers are short printable ASCII; anything else is a slip, and never matches or matches a look-alike.
fn check_pin(entry: &Field<'_>, condition: &Condition<'_>, segment: Option<&str>, faults: &mut Faults) {
    let is_segment = segment == Some(&*condition.claim);
    for literal in condition.literals().iter().filter(|_| condition.pin) {
        if let Literal::Text(text) = literal
            && (text.is_empty()
                || !text.bytes().all(|b| b.is_ascii_graphic())
                || (is_segment && !family::is_segment(text)))
        {
            let message = format!("L046: `{}` is not an identifier", shown(text));
            entry.fault(faults, message, format!("write the literal value of `{}`", shown(&condition.claim)));
        }
    }
}

fn check_glob(entry: &Field<'_>, condition: &Condition<'_>, faults: &mut Faults) {
    let Test::Glob(glob) = &condition.test else { return };
    let pattern = glob.as_str();
    if &*condition.claim == "sub" {
        // SECURITY: the shape of `sub` is chosen by the project; a pattern over it can be met by another shape.
        let remedy = "use the claims that it is made of, or compare it whole";
        entry.fault(faults, "L008: `sub` cannot be compared by pattern: projects choose its shape", remedy);
    } else if OWNER_FIRST.contains(&&*condition.claim) && pattern.split('/').next().unwrap_or(pattern).contains('*') {
        let message = format!("L005: the pattern `{pattern}` leaves the owner open: strangers can register one");
        entry.fault(faults, message, "write the owner out: only what follows the first `/` may have `*`");
    }
}

fn check_event(entry: &Field<'_>, condition: &Condition<'_>, faults: &mut Faults) {
    for literal in condition.literals().iter().filter(|_| &*condition.claim == "event_name") {
        if let Literal::Text(text) = literal
            && OUTSIDE_EVENTS.contains(&&**text)
        {
            let message = format!("L013: runs started by `{text}` can execute code from outside the repository");
            entry.fault(faults, message, "remove it, and publish from push, release or workflow_dispatch");
        }
    }
}

/// A rule that names the claim of an implied condition replaces it, and must not be laxer without saying so.
fn check_replaced<'a>(
    implied: &Implied,
    conditions: &[Condition<'_>],
    place: &impl Fn(&str) -> &'a Field<'a>,
    when: &Field<'_>,
    faults: &mut Faults,
) {
    if let Some(prefix) = implied.unless_prefix
        && conditions.iter().any(|condition| condition.claim.starts_with(prefix))
    {
        // SECURITY: without the callee's repository, any reusable workflow with a file of that name would do.
        let fixed = |c: &Condition<'_>| CALLEES.contains(&&*c.claim) && !c.literals().is_empty();
        if !conditions.iter().any(fixed) {
            let remedy = "add `job_workflow_repository: OWNER/REPOSITORY`";
            when.fault_at_key(faults, "L031: the reusable workflow's repository is not fixed by a literal", remedy);
        }
        return;
    }
    let mut named = conditions.iter().filter(|condition| &*condition.claim == implied.claim).peekable();
    if named.peek().is_none() || named.any(|condition| is_no_laxer(implied, condition)) {
        return;
    }
    let claim = implied.claim;
    let entry = place(claim);
    match implied.test {
        ImpliedTest::IsTrue => {
            entry.fault(faults, format!("L022: `{claim}` must be true"), "remove the line: the preset demands it");
        }
        ImpliedTest::IsFalse => {
            entry.fault(faults, format!("L021: `{claim}` must be false"), "remove the line: the preset demands it");
        }
        ImpliedTest::In(_)
        | ImpliedTest::NotIn(_)
        | ImpliedTest::Absent
        | ImpliedTest::AbsentOrIs(_)
        | ImpliedTest::SameAs(_)
        | ImpliedTest::AbsentOrSameAs(_) => {
            let remedy = "list the allowed values, or remove the line: the preset has safe ones";
            entry.fault(faults, format!("L013: `{claim}` replaces a condition of the preset and is open"), remedy);
        }
    }
}

/// Whether a rule's own condition is as closed as what it replaces: literals, none of them what the preset refuses by
/// name, and no other truth for a boolean.
fn is_no_laxer(implied: &Implied, condition: &Condition<'_>) -> bool {
    let literals = condition.literals();
    match implied.test {
        ImpliedTest::IsTrue => !literals.is_empty() && literals.iter().all(|literal| *literal == Literal::Bool(true)),
        ImpliedTest::IsFalse => !literals.is_empty() && literals.iter().all(|literal| *literal == Literal::Bool(false)),
        ImpliedTest::In(_) | ImpliedTest::SameAs(_) => !literals.is_empty(),
        // SECURITY: what the preset refuses by name, or by being there at all, is code from outside: a literal that says
        // so opens the rule as wide as a pattern does.
        ImpliedTest::NotIn(texts) => !literals.is_empty() && condition.texts().all(|text| !texts.contains(&text)),
        ImpliedTest::Absent => matches!(condition.test, Test::Absent),
        ImpliedTest::AbsentOrIs(only) => {
            let as_the_preset = !literals.is_empty() && condition.texts().all(|text| text == only);
            as_the_preset || matches!(condition.test, Test::Absent)
        }
        ImpliedTest::AbsentOrSameAs(_) => !literals.is_empty() || matches!(condition.test, Test::Absent),
    }
}

/// What is wrong with an audience, and the remedy.
///
/// SECURITY: a token for another service's audience can be relayed here by that service.
pub(super) fn audience(text: &str, urls: &[Url]) -> Option<(String, &'static str)> {
    let remedy = "choose one that no other service uses, such as the registry's own name";
    let foreign = FOREIGN_AUDIENCES.contains(&text) || text.starts_with("https://github.com/");
    let npm = text.strip_prefix("npm:");
    let own = |host: &str| urls.iter().any(|url| url.host_str() == Some(host.split(':').next().unwrap_or(host)));
    if text.is_empty() || text.len() > MAX_AUDIENCE || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'*') {
        Some((
            format!("L003: `{}` is not an audience: 1 to 255 printable ASCII characters without `*`", shown(text)),
            remedy,
        ))
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        Some((
            format!("`{text}` starts with a digit, and GitLab makes a variable's name of it"),
            "start it with a letter",
        ))
    } else if foreign || npm.is_some_and(|host| !own(host)) {
        Some((format!("L003: `{text}` is the audience of another service"), remedy))
    } else {
        None
    }
}

/// No URL is that of two issuers.
pub(super) fn issuers(sections: &[Field<'_>], entries: &[Entry], faults: &mut Faults) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for entry in entries {
        let url = match entry {
            Entry::One(issuer) => issuer.url().as_str(),
            Entry::Family(family) => family.template(),
        };
        let covering = entries.iter().find_map(|other| match other {
            Entry::Family(family) if family.covers(url) => Some(family.id()),
            Entry::Family(_) | Entry::One(_) => None,
        });
        if let Some(other) = seen.insert(url, entry.id()).or(covering) {
            report(
                sections,
                entry.id(),
                &format!("has the URL of the issuer `{other}`"),
                "remove one of the two",
                faults,
            );
        }
    }
}

/// SECURITY: a token whose audience every service of the provider's accepts says nothing about the registry that it is
/// for. At two registries, one of them could present it at the other. `served` has the registry of each such issuer.
pub(super) fn fixed_audience(
    entry: &Field<'_>,
    world: &World,
    rule: &Rule<'_>,
    served: &mut HashMap<u32, u32>,
    faults: &mut Faults,
) {
    let issuer = world.issuer(rule.issuer).filter(|issuer| issuer.provider().fixed_audience.is_some());
    let Some(issuer) = issuer else { return };
    if *served.entry(rule.issuer).or_insert(rule.registry) != rule.registry {
        let message = "L003: rules of two registries are for this issuer, whose tokens all have one audience";
        entry.fault_at_key(faults, message, "keep the rules of one registry");
    }
    // SECURITY: the first use is all that keeps a token that another service has seen from being used here.
    let replay = world.registry(rule.registry).map(|registry| registry.replay_of(issuer.common()));
    if replay == Some(Replay::Off) {
        let message = "L039: the registry accepts replays, and all tokens of this issuer have one audience";
        entry.fault_at_key(faults, message, "set `replay: once` at the registry");
    }
}

/// The same for the rules that registries serve themselves, by what they may name: when they come, nobody is there to mend
/// it.
pub(super) fn fixed_audiences_of_bundles(
    sections: &[Field<'_>],
    world: &World,
    served: &mut HashMap<u32, u32>,
    faults: &mut Faults,
) {
    for (registry, number) in world.registry_list.iter().zip(0..) {
        let Some(source) = &registry.bundle else { continue };
        for (entry, issuer) in world.issuer_list.iter().zip(0..) {
            if entry.provider().fixed_audience.is_none() || !source.issuers.iter().any(|name| name == entry.id()) {
                continue;
            }
            let name = entry.id();
            if *served.entry(issuer).or_insert(number) != number {
                let message =
                    format!("L003: bundles of two registries may name `{name}`, whose tokens all have one audience");
                report(sections, &registry.id, &message, "let the bundle of one registry name it", faults);
            }
            if registry.replay_of(entry.common()) == Replay::Off {
                let message = format!(
                    "L039: it accepts replays, and its bundle may name `{name}`, whose tokens all have one audience"
                );
                report(sections, &registry.id, &message, "set `replay: once`", faults);
            }
        }
    }
}

/// No two registries answer to one name, derive one secret, or know one key.
pub(super) fn registries(sections: &[Field<'_>], registries: &[Arc<Registry>], faults: &mut Faults) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for registry in registries {
        let id = registry.id.as_str();
        let mut names: Vec<(String, &str)> = Vec::new();
        let authority =
            |url: &Url| format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0));
        names.extend(
            registry.audiences.iter().map(|audience| (format!("the audience `{audience}`"), "use another audience")),
        );
        let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
        let urls = registry.urls.iter();
        names
            .extend(urls.map(|url| (format!("the URL `{}{}`", authority(url), path(url)), "give it a URL of its own")));
        if registry.dialect.owns_host() {
            let mut hosts: Vec<String> = registry.urls.iter().map(authority).collect();
            hosts.sort();
            hosts.dedup();
            let remedy = "give it a host of its own: clients of this dialect drop the path";
            names.extend(
                hosts
                    .into_iter()
                    .map(|host| (format!("the host `{host}` for dialect `{}`", registry.dialect.name()), remedy)),
            );
        }
        names.push((
            format!("the key id `{}`", registry.key_id),
            "set another `key_id`: tokens of one would be good for both",
        ));
        for caller in &registry.callers {
            names.push((
                format!("the API key of a caller (`{}`)", digest(caller.key_sha256)),
                "make a key for each caller",
            ));
        }
        for (name, remedy) in names {
            match seen.get(&name) {
                Some(other) if *other == id => report(sections, id, &format!("has {name} twice"), remedy, faults),
                Some(other) => {
                    report(sections, id, &format!("has {name}, as has the registry `{other}`"), remedy, faults);
                }
                None => {
                    seen.insert(name, id);
                }
            }
        }
    }
}

/// The first digits of a digest: enough to find it in a file.
fn digest(bytes: [u8; 32]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).chain(["…".to_owned()]).collect()
}

/// Reports a fault of a named entry of some section.
fn report(sections: &[Field<'_>], id: &str, message: &str, remedy: &str, faults: &mut Faults) {
    let mut silent = Faults::new();
    let found = sections.iter().find_map(|section| section.entries(&mut silent)?.find(|entry| entry.name() == id));
    match found {
        Some(entry) => entry.fault_at_key(faults, message, remedy),
        None => faults.push(Place::whole("policy".into()), id.to_owned(), message, remedy),
    }
}
