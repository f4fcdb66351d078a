//! The discovery document, member by member (OIDC Discovery 1.0 section 3, RFC 8414 section 2).

use std::fmt::Display;

use super::Finding;
use crate::identity::discovery;
use crate::identity::discovery::DiscoveryError;
use crate::identity::issuer::IssuerUrl;
use crate::identity::provider::Provider;
use crate::identity::token::Algorithm;
use crate::json::Json;
use crate::json::Object;

const REPAIR: &str = "the provider must repair its document";

pub(super) fn examine(bytes: &[u8], issuer: &IssuerUrl, provider: &Provider, list: &mut Vec<Finding>) {
    let members = match Json::parse(bytes) {
        Ok(Json::Object(members)) => members,
        Ok(other) => {
            let sentence = format!("the discovery document is {}, not an object", other.type_name());
            return list.push(Finding::refused("discovery-unreadable", sentence, REPAIR));
        }
        Err(error) => {
            let sentence = format!("the discovery document is no strict JSON: {error}");
            return list.push(Finding::refused("discovery-unreadable", sentence, REPAIR));
        }
    };
    if let Err(error) = discovery::jwks_uri(bytes, issuer, provider) {
        let other = if let DiscoveryError::OtherIssuer(name) = &error { IssuerUrl::parse(name).ok() } else { None };
        refusal(&error, &members, issuer, list);
        // Under its own name the document may be faulty too.
        if let Some(Err(error)) = other.map(|other| discovery::jwks_uri(bytes, &other, provider)) {
            refusal(&error, &members, issuer, list);
        }
    }
    required(&members, list);
    algorithms(&members, list);
    claims(&members, provider, list);
}

fn refusal(error: &DiscoveryError, members: &Object, issuer: &IssuerUrl, list: &mut Vec<Finding>) {
    let finding = match error {
        DiscoveryError::NotADocument => {
            for name in ["issuer", "jwks_uri"] {
                match members.get(name) {
                    Some(Json::String(_)) => {}
                    Some(other) => list.push(wrong_type(name, "a string", other.type_name())),
                    None => {
                        let sentence = format!("the discovery document has no `{name}`");
                        list.push(Finding::refused("member-missing", sentence, REPAIR));
                    }
                }
            }
            return;
        }
        DiscoveryError::OtherIssuer(name) => {
            let how = if name.trim_end_matches('/') == issuer.as_str().trim_end_matches('/') {
                ": they differ in the slash at the end"
            } else if name.eq_ignore_ascii_case(issuer.as_str()) {
                ": they differ in capitals"
            } else {
                ""
            };
            let remedy = match IssuerUrl::parse(name) {
                Ok(other) => format!("if its tokens carry `{other}` in `iss`, probe and configure that"),
                Err(fault) => format!("the provider must be set up under another name: this one {fault}"),
            };
            Finding::refused("issuer-mismatch", format!("{error}, not `{issuer}`{how}"), remedy)
        }
        DiscoveryError::JwksUri(_) => Finding::refused("jwks-uri", said(error), REPAIR),
        DiscoveryError::OtherHost(_) => {
            let remedy = "check who runs that host; the key set can be brought as a file (`jwks_file`)";
            Finding::refused("jwks-uri-host", said(error), remedy)
        }
    };
    list.push(finding);
}

fn said(error: &impl Display) -> String {
    error.to_string()
}

fn wrong_type(name: &str, wanted: &str, found: &str) -> Finding {
    let sentence = format!("`{name}` is {found}, not {wanted}");
    if matches!(name, "issuer" | "jwks_uri") {
        Finding::refused("member-type", sentence, REPAIR)
    } else {
        Finding::odd("member-type", sentence, "the service does not read it; other software will stumble")
    }
}

fn required(members: &Object, list: &mut Vec<Finding>) {
    for (name, code) in
        [("response_types_supported", "response-types-missing"), ("subject_types_supported", "subject-types-missing")]
    {
        match members.get(name) {
            None => {
                let sentence = format!("the discovery document has no `{name}`, which is required");
                list.push(Finding::odd(code, sentence, "the service does not read it; other software may refuse it"));
            }
            Some(found) => drop(strings(name, found, list)),
        }
    }
    if members.get("authorization_endpoint").is_none() {
        let sentence = "the discovery document has no `authorization_endpoint`: the provider logs nobody in";
        list.push(Finding::note("authorization-endpoint-missing", sentence, ""));
    }
}

fn algorithms(members: &Object, list: &mut Vec<Finding>) {
    const NAME: &str = "id_token_signing_alg_values_supported";
    let Some(found) = members.get(NAME) else {
        let sentence = format!("the discovery document has no `{NAME}`, which is required");
        return list.push(Finding::odd(
            "algorithms-missing",
            sentence,
            "see from a token's header what it is signed with",
        ));
    };
    let Some(names) = strings(NAME, found, list) else { return };
    let (good, bad): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| Algorithm::parse(name).is_some());
    if good.is_empty() {
        let known = Algorithm::ALL.map(Algorithm::name).join(", ");
        let sentence = format!("no algorithm is offered that the service verifies, only {}", listed(&bad));
        return list.push(Finding::refused(
            "algorithms-unusable",
            sentence,
            format!("the provider must sign with one of {known}"),
        ));
    }
    if !bad.is_empty() {
        let sentence = format!("{} is offered, and tokens that are so signed are refused", listed(&bad));
        list.push(Finding::note(
            "algorithms-not-verified",
            sentence,
            format!("see that jobs' tokens are signed with {}", listed(&good)),
        ));
    }
    if !good.contains(&Algorithm::Rs256.name()) {
        list.push(Finding::note("rs256-missing", "RS256 is not offered, which every provider must", ""));
    }
}

fn claims(members: &Object, provider: &Provider, list: &mut Vec<Finding>) {
    let Some(found) = members.get("claims_supported") else {
        let sentence = "the discovery document does not say which claims tokens have (`claims_supported`)";
        return list.push(Finding::note("claims-missing", sentence, "decode a token to see them"));
    };
    let Some(names) = strings("claims_supported", found, list) else { return };
    if !names.contains(&"jti") {
        let sentence = "`claims_supported` lacks `jti`: a token's digest stands for its id against replay";
        list.push(Finding::note("no-jti", sentence, ""));
    }
    let missing: Vec<&str> = provider.pins.iter().copied().filter(|pin| !names.contains(pin)).collect();
    if !missing.is_empty() {
        let sentence = format!("`claims_supported` lacks {}, which rules must pin", listed(&missing));
        let remedy = format!("see that tokens have it, and that the preset `{}` is the right one", provider.name);
        list.push(Finding::note("pins-not-listed", sentence, remedy));
    }
}

/// A list of strings; another type is reported.
fn strings<'a>(name: &str, found: &'a Json, list: &mut Vec<Finding>) -> Option<Vec<&'a str>> {
    let items = if let Json::Array(items) = found { items.iter().map(Json::as_str).collect() } else { None };
    if items.is_none() {
        let found = if let Json::Array(_) = found { "a list of other things" } else { found.type_name() };
        list.push(wrong_type(name, "a list of strings", found));
    }
    items
}

/// Names in a sentence; a long list is cut.
pub(super) fn listed(names: &[impl Display]) -> String {
    const MOST: usize = 6;
    let mut shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name:.80}`")).collect();
    match names.len().saturating_sub(MOST) {
        _ if names.is_empty() => shown.push("none".to_owned()),
        0 => {}
        more => shown.push(format!("{more} more")),
    }
    shown.join(", ")
}
