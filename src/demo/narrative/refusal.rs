//! A refusal, its mend, and the refusal that no rule can mend.

use std::io;

use serde_json::Value;
use serde_json::json;

use crate::demo::client::Answer;
use crate::demo::world::RULES;
use crate::demo::world::World;

use super::Told;
use super::facts_of;
use super::page::Page;

const WANTED: &str = "workflow_file: release.yml";
const MENDED: &str = "workflow_file: {in: [release.yml, publish.yml]}";

pub(super) async fn refusal(world: &World) -> io::Result<Told<String>> {
    world.run_job("publish.yml", "v1.4.0");
    let id_token = world.id_token().await?.member("value").to_owned();
    let answer = world.mint(&id_token).await?;
    let rule = answer.body.pointer("/explanation/rules/0").cloned().unwrap_or_default();
    let page = Page::default()
        .paragraph(
            "The project renames its workflow file and tells nobody. Its next job is refused. The answer, which uv \
             prints, says why, condition by condition: the token proved that this is the rule's own repository.",
        )
        .reply(&request(world), answer.status, &sentence(&answer))
        .table(&conditions(&rule));
    let expected = "422 workflow-mismatch".to_owned();
    let facts = json!({
        "status": answer.status, "code": answer.body.get("code"), "message": answer.body.get("message"),
        "explanation": answer.body.get("explanation"),
    });
    let title = "A refusal, explained";
    Ok(Told::new("refusal", title, [expected, answer.outcome()], page, id_token).with(facts))
}

fn request(world: &World) -> String {
    format!("POST {}", world.url("/_/oidc/mint-token"))
}

/// `token-replayed: this ID token was already exchanged …`
fn sentence(answer: &Answer) -> String {
    match answer.member("code") {
        "" => "an upload token".to_owned(),
        code => format!("{code}: {}", answer.member("message")),
    }
}

/// The conditions of a rule in an explanation, as rows under a heading.
fn conditions(rule: &Value) -> Vec<[String; 4]> {
    let head = ["", "claim", "the rule wants", "the token has"].map(str::to_owned);
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let is = |row: &Value, name: &str| row.get(name).and_then(Value::as_bool).unwrap_or_default();
    let row = |row: &Value| {
        let mark = if is(row, "holds") { "ok" } else { "NO" };
        let preset = if is(row, "preset") { " (preset)" } else { "" };
        [mark.to_owned(), text(row, "claim") + preset, text(row, "wants"), text(row, "has")]
    };
    let rows = rule.get("conditions").and_then(Value::as_array);
    std::iter::once(head).chain(rows.into_iter().flatten().map(row)).collect()
}

pub(super) async fn mend(world: &World, id_token: &str) -> io::Result<Told<()>> {
    let before = world.app().policy().revision().to_owned();
    world.reload(&RULES.replace(WANTED, MENDED))?;
    let after = world.app().policy().revision().to_owned();
    let answer = world.mint(id_token).await?;
    let page = Page::default()
        .paragraph(
            "The project tells the registry, whose operator edits the rule. It is read again while everything runs:",
        )
        .lines(&format!("-     {WANTED}\n+     {MENDED}"))
        .paragraph(&format!(
            "Policy {before} gives way to {after}. A refusal spends nothing, so the same job retries with the same ID \
             token:"
        ))
        .reply(&request(world), answer.status, &sentence(&answer));
    let facts = json!({"status": answer.status, "policy_revision": {"before": before, "after": after}});
    Ok(Told::new("mend", "The mend", ["200".to_owned(), answer.outcome()], page, ()).with(facts))
}

pub(super) async fn replay(world: &World, id_token: &str) -> io::Result<Told<()>> {
    let answer = world.mint(id_token).await?;
    let page = Page::default()
        .paragraph("Somebody finds that ID token in a log. It is valid for minutes yet, and it is good for nothing:")
        .reply(&request(world), answer.status, &sentence(&answer));
    let outcome = ["422 token-replayed".to_owned(), answer.outcome()];
    Ok(Told::new("replay", "A replay, refused", outcome, page, ()).with(facts_of(&answer)))
}
