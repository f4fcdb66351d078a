//! From the rule to the upload token.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::demo::world::AUDIENCE;
use crate::demo::world::RULES;
use crate::demo::world::World;
use crate::macaroon::Unverified;

use super::Told;
use super::page::Page;
use super::page::beginning;

/// How much of a token is shown.
const SHOWN: usize = 32;

pub(super) fn rule(world: &World) -> Told<()> {
    let policy = world.app().policy();
    let page = Page::default()
        .paragraph(
            "An owner of the package `widgets` tells the registry once which job may publish it. Nobody gets a \
             password.",
        )
        .lines(RULES);
    let got = format!("{} rule", policy.rule_count());
    Told::new("rule", "The rule", ["1 rule".to_owned(), got], page, ())
        .with(json!({"policy_revision": policy.revision(), "rules": RULES}))
}

pub(super) async fn claims(world: &World) -> io::Result<Told<String>> {
    const SHOWN_CLAIMS: [&str; 10] = [
        "iss",
        "aud",
        "repository_owner_id",
        "repository_id",
        "repository",
        "workflow_ref",
        "environment",
        "ref",
        "event_name",
        "run_id",
    ];
    world.run_job("release.yml", "v1.4.0");
    let audience = world.client().get(&world.url("/_/oidc/audience"), None).await?;
    let answer = world.id_token().await?;
    let id_token = answer.member("value").to_owned();
    let claims = payload(&id_token);
    let claim =
        |name: &str| claims.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let mut rows: Vec<[String; 2]> =
        SHOWN_CLAIMS.iter().map(|name| [(*name).to_owned(), claim(name).unwrap_or_default()]).collect();
    let times = ["iat", "exp"].map(|name| claims.get(name).and_then(Value::as_i64).unwrap_or_default());
    let [issued, expires] = times;
    rows.push(["exp".to_owned(), format!("{expires}: {} seconds after it was issued", expires - issued)]);
    let page = Page::default()
        .paragraph(&format!(
            "A job starts. Its publishing client asks the registry's host for which audience it wants an ID token \
             (`{}`), and the CI for that token. The CI signs what it knows about the job, among it:",
            audience.member("audience")
        ))
        .table(&rows);
    let expected = format!("200, for {AUDIENCE}");
    let got = format!("{}, for {}", answer.status, claim("aud").unwrap_or_default());
    Ok(Told::new("claims", "The CI's claims", [expected, got], page, id_token).with(json!({ "claims": claims })))
}

pub(super) async fn exchange(world: &World, id_token: &str) -> io::Result<Told<String>> {
    let answer = world.mint(id_token).await?;
    let token = answer.member("token").to_owned();
    let page = Page::default()
        .paragraph(
            "The client hands the ID token over. The service checks its signature with the CI's published keys, its \
             times and its audience, finds the rule that all its claims satisfy, and answers with an upload token.",
        )
        .exchange(
            &format!("POST {}", world.url("/_/oidc/mint-token")),
            &json!({"token": beginning(id_token, SHOWN)}),
            answer.status,
            &abridged(&answer.body),
        );
    let facts = json!({"status": answer.status, "expires": answer.body.get("expires")});
    Ok(Told::new("exchange", "The exchange", ["200".to_owned(), answer.outcome()], page, token).with(facts))
}

/// An answer with its token abridged.
fn abridged(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(token) = body.get_mut("token").filter(|token| token.is_string()) {
        *token = json!(beginning(token.as_str().unwrap_or_default(), SHOWN));
    }
    body
}

pub(super) fn macaroon(upload_token: &str) -> io::Result<Told<()>> {
    const MEANINGS: [(&str, &str); 3] = [
        ("registry", "only at this registry"),
        ("time-before", "for fifteen minutes"),
        ("allow", "these actions on these packages"),
    ];
    let token = Unverified::parse(upload_token).map_err(io::Error::other)?;
    let identifier = token.identifier().map_err(io::Error::other)?;
    let provenance = &identifier.provenance;
    let caveats: Vec<String> = token.caveats().map(|caveat| String::from_utf8_lossy(caveat).into_owned()).collect();
    let kind = |caveat: &str| caveat.split(' ').next().unwrap_or_default().to_owned();
    let meaning = |caveat: &str| MEANINGS.iter().find(|(name, _)| *name == kind(caveat)).map_or("", |(_, text)| text);
    let row = |name: &str, value: String, what: &str| [name.to_owned(), value, what.to_owned()];
    let claim = |name: &str| provenance.claims.get(name).and_then(crate::json::Json::as_str).unwrap_or_default();
    let mut rows = vec![
        row("location", token.location().to_owned(), ""),
        row("id", identifier.id.to_string(), ""),
        row("key", identifier.kid.clone(), "the service's, known to nobody else"),
        row("origin", format!("{} at {}", claim("repository"), claim("ref")), "as the CI's signature proved"),
        row("rules", provenance.rules.join(", "), "which granted it"),
    ];
    rows.extend(caveats.iter().map(|caveat| row("caveat", caveat.clone(), meaning(caveat))));
    let page = Page::default()
        .paragraph("The upload token is a macaroon: where it came from, and caveats that must all hold.")
        .table(&rows)
        .paragraph(
            "Whoever holds it can add caveats, without asking anybody; nobody can take one away. `trustmint token \
             inspect` decodes any.",
        );
    let got = caveats.iter().map(|caveat| kind(caveat)).collect::<Vec<_>>().join(", ");
    let facts = json!({
        "id": identifier.id.to_string(), "location": token.location(), "caveats": caveats, "provenance": provenance,
    });
    let expected = "registry, time-before, allow".to_owned();
    Ok(Told::new("macaroon", "The macaroon, decoded", [expected, got], page, ()).with(facts))
}

/// The payload of a token, unverified: the story shows what it says.
fn payload(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
