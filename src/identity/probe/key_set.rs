//! The key set, key by key (RFC 7517, RFC 7518 section 6).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Answered;
use super::Finding;
use super::KeyFacts;
use super::discovery::listed;
use crate::identity::cache::MAX_FRESH;
use crate::identity::cache::MIN_FRESH;
use crate::identity::jwks;
use crate::identity::jwks::MAX_KID;
use crate::identity::jwks::SkipReason;

/// How the set says it may be kept (RFC 9111).
pub(super) fn freshness(answered: &Answered) -> Vec<Finding> {
    let mut list = Vec::new();
    let seconds = |age: std::time::Duration| age.as_secs();
    match answered.max_age {
        None => {
            let sentence = "the key set has no `Cache-Control` with `max-age`: it is fetched every 5 minutes";
            list.push(Finding::note("cache-control-missing", sentence, ""));
        }
        Some(age) if age < MIN_FRESH => {
            let sentence = format!("the key set is fresh for {} s only: it is kept for 5 minutes", seconds(age));
            list.push(Finding::note("cache-short", sentence, ""));
        }
        Some(age) if age > MAX_FRESH => {
            let sentence = format!("the key set is fresh for {} s: it is kept for an hour", seconds(age));
            list.push(Finding::note("cache-long", sentence, ""));
        }
        Some(_) => {}
    }
    if answered.etag.is_none() {
        let sentence = "the key set has no `ETag`: each refresh transfers it whole";
        list.push(Finding::note("etag-missing", sentence, ""));
    }
    list
}

pub(super) fn examine(bytes: &[u8], list: &mut Vec<Finding>) -> Vec<KeyFacts> {
    let members = match jwks::members(bytes) {
        Ok(members) => members,
        Err(error) => {
            list.push(Finding::refused(
                "key-set-unreadable",
                error.to_string(),
                "the provider must repair its key set",
            ));
            return Vec::new();
        }
    };
    // Only to say more about what has been judged: the last of repeated members is as good as the first.
    let raw: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let raw = raw.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut keys = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let raw = raw.get(index).unwrap_or(&Value::Null);
        keys.push(facts(raw, member.is_ok()));
        if let Err(skipped) = member {
            let sentence = if skipped.reason == SkipReason::Modulus {
                format!("{skipped}; it is {}", kind(raw))
            } else {
                skipped.to_string()
            };
            list.push(if skipped.reason == SkipReason::Use {
                Finding::note("key-not-used", sentence, "")
            } else {
                Finding::odd("key-not-used", sentence, remedy(skipped.reason))
            });
        }
        if number(raw, "n").is_some_and(|n| n.first() == Some(&0)) {
            let sentence = format!("{} has a zero octet before its `n`, which RFC 7518 forbids", name(raw));
            list.push(Finding::odd(
                "modulus-padded",
                sentence,
                "the service drops it; other software may refuse the key",
            ));
        }
    }
    whole(&keys, raw, list);
    keys
}

/// What only the set as a whole shows.
fn whole(keys: &[KeyFacts], raw: &[Value], list: &mut Vec<Finding>) {
    let used: Vec<&KeyFacts> = keys.iter().filter(|key| key.used).collect();
    match used.as_slice() {
        [] if keys.is_empty() => {
            list.push(Finding::refused("no-usable-key", "the key set is empty", "the provider must publish its key"));
        }
        [] => {
            let remedy = "the provider must publish an RSA (2048 bits or more), P-256, P-384 or Ed25519 key";
            list.push(Finding::refused("no-usable-key", "no key of the set can be used", remedy));
        }
        [only] => {
            let sentence = "there is one key: when the provider changes it without publishing the new one ahead, the first \
                            tokens wait for a refresh";
            list.push(Finding::note(
                "single-key",
                sentence,
                "ask the provider to publish keys before it signs with them",
            ));
            if only.kid.is_none() {
                let sentence = "the key has no `kid`: tokens must not name one, and there can be no second key";
                list.push(Finding::odd("kid-missing", sentence, "ask the provider to name its keys"));
            }
        }
        several => {
            if several.iter().any(|key| key.kid.is_none()) {
                let sentence = "a key has no `kid`: among several, no token can name it";
                list.push(Finding::odd("kid-missing", sentence, "ask the provider to name its keys"));
            }
        }
    }
    let without = |member: &str| -> Vec<String> {
        let used = raw.iter().zip(keys).filter(|(raw, key)| key.used && raw.get(member).is_none());
        used.map(|(_, key)| key.kid.clone().unwrap_or_else(|| "(no kid)".to_owned())).collect()
    };
    for (member, code, sentence) in [
        ("alg", "alg-missing", "any algorithm of their type is accepted"),
        ("use", "use-missing", "they are taken to be for signatures"),
    ] {
        let kids = without(member);
        if !kids.is_empty() {
            list.push(Finding::note(code, format!("without `{member}`: {}; {sentence}", listed(&kids)), ""));
        }
    }
}

fn facts(raw: &Value, used: bool) -> KeyFacts {
    let text = |name: &str| raw.get(name).and_then(Value::as_str).map(|text| text.chars().take(MAX_KID).collect());
    KeyFacts { kid: text("kid"), kind: kind(raw), alg: text("alg"), used }
}

fn name(raw: &Value) -> String {
    match raw.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("key `{kid:.80}`"),
        None => "a key without a `kid`".to_owned(),
    }
}

/// Type and size.
fn kind(raw: &Value) -> String {
    let text = |name: &str| raw.get(name).and_then(Value::as_str);
    match (text("kty"), text("crv"), number(raw, "n")) {
        (Some("RSA"), _, Some(n)) => {
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            let n = n.get(zeros..).unwrap_or_default();
            let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
            format!("RSA {bits}")
        }
        (Some("EC" | "OKP"), Some(curve), _) => format!("{curve:.40}"),
        (Some(kty), ..) => format!("{kty:.40}"),
        (None, ..) => "unknown".to_owned(),
    }
}

fn number(raw: &Value, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(raw.get(name)?.as_str()?).ok()
}

const fn remedy(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Private | SkipReason::Factorable => "warn the provider at once: everybody can sign with this key",
        SkipReason::DuplicateKid | SkipReason::KeyId => "the provider must give each key a name of its own",
        SkipReason::KeyType
        | SkipReason::Curve
        | SkipReason::Modulus
        | SkipReason::Exponent
        | SkipReason::Algorithm
        | SkipReason::Use => "see that jobs' tokens are not signed with it: they are refused",
        SkipReason::Unreadable | SkipReason::Encoding | SkipReason::Invalid => "the provider must repair the key",
    }
}
