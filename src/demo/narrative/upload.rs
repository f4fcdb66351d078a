//! What a registry does with an upload token.

use std::io;

use serde_json::Value;
use serde_json::json;

use crate::demo::world;
use crate::demo::world::World;

use super::Told;
use super::facts_of;
use super::page::Page;
use super::page::beginning;
use super::quoted;

/// The version that the story publishes.
const VERSION: &str = "1.4.0";
/// How much of a token is shown.
const SHOWN: usize = 32;

pub(super) async fn question(world: &World, upload_token: &str) -> io::Result<Told<()>> {
    let (_, _, mut question) = world::widgets(VERSION)?;
    let facts = question.clone();
    if let Some(members) = question.as_object_mut() {
        members.insert("token".into(), json!(upload_token));
    }
    let file = world.directory().write("question.json", question.to_string())?;
    let key = world.api_key().expose();
    let answer = world.client().post(&world.url("/v1/verify"), Some(key), &question).await?;

    let command = format!(
        "curl --cacert {} \\\n     -H 'Authorization: Bearer {key}' \\\n     -d @{} \\\n     {}",
        quoted(&world.directory().join("ca.pem").display().to_string()),
        quoted(&file.display().to_string()),
        world.url("/v1/verify"),
    );
    let shown = facts.as_object().cloned().unwrap_or_default();
    let token = [("token".to_owned(), json!(beginning(upload_token, SHOWN)))];
    let shown = Value::Object(token.into_iter().chain(shown).collect());
    let page = Page::default()
        .paragraph(
            "A registry makes one call for an upload: is this token good for these very bytes, under this name and \
             version? `exists` says whether it has the package already.",
        )
        .lines(&command)
        .exchange("question.json", &shown, answer.status, &answer.body);
    let verdict = match answer.body.get("allowed") {
        Some(Value::Bool(true)) => "allowed",
        Some(Value::Bool(false)) => answer.member("code"),
        Some(_) | None => "no answer",
    };
    let outcome = ["200 allowed".to_owned(), format!("{} {verdict}", answer.status)];
    Ok(Told::new("verify", "The registry's one question", outcome, page, ())
        .with(json!({"command": command, "question": facts, "answer": answer.body})))
}

pub(super) async fn upload(world: &World, upload_token: &str) -> io::Result<Told<()>> {
    let (package, wheel, _) = world::widgets(VERSION)?;
    let answer = world.client().upload(&world.url("/legacy/"), upload_token, &package, VERSION, &wheel).await?;
    let files = world.registry().files().await;
    let stored = files.get(&wheel.file_name);
    let request = format!("POST {}  {}, {} bytes", world.url("/legacy/"), wheel.file_name, wheel.bytes.len());
    let reply = match stored {
        Some(file) => format!("stored, published by {}", origin(&file.publisher)),
        None => answer.text.clone(),
    };
    let page = Page::default()
        .paragraph("The client uploads, with the token as its password. The registry asks that question, and stores.")
        .reply(&request, answer.status, &reply);
    let got = format!("{} {}", answer.status, if stored.is_some() { "stored" } else { "not stored" });
    let told = Told::new("upload", "An accepted upload", ["200 stored".to_owned(), got], page, ());
    Ok(match stored {
        Some(file) => told.with(json!({
            "file": wheel.file_name, "sha256": file.sha256, "publisher": file.publisher,
        })),
        None => told.with(facts_of(&answer)),
    })
}

/// `acme/widgets, release.yml, run 21561244697`
fn origin(publisher: &Value) -> String {
    let claim = |name: &str| publisher.pointer(&format!("/claims/{name}")).and_then(Value::as_str).unwrap_or_default();
    format!("{}, {}, run {}", claim("repository"), claim("workflow_file"), claim("run_id"))
}
