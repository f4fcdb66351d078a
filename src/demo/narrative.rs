//! The demonstration as a story in nine steps: what each should come to, what it came to, and what a person reads.
//!
//! It decides nothing: whatever it tells was asked of the running service and of the parts around it.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use super::world::World;

mod exchange;
mod page;
mod refusal;
mod upload;

use page::Page;

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// From 1 on.
    pub step: usize,
    /// Its name for programs.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it should come to.
    pub expected: String,
    /// What it came to.
    pub got: String,
    /// The facts that it tells, for programs. No token is among them.
    pub facts: Value,
    /// The text, indented, in lines of at most a hundred columns.
    #[serde(skip)]
    pub text: String,
}

impl Step {
    /// Whether it came out as it should.
    pub fn came_out(&self) -> bool {
        self.expected == self.got
    }
}

/// A step, and what later ones need of it.
struct Told<T> {
    step: Step,
    then: T,
}

impl<T> Told<T> {
    fn new(name: &'static str, title: &'static str, [expected, got]: [String; 2], page: Page, then: T) -> Self {
        let step = Step { step: 0, name, title, expected, got, facts: Value::Null, text: page.finish() };
        Self { step, then }
    }

    fn with(mut self, facts: Value) -> Self {
        self.step.facts = facts;
        self
    }
}

/// Why the story ends early.
enum Stopped {
    /// A step came out differently than it should; it was told.
    Differently,
    /// A step could not be taken.
    Failed(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Who listens.
struct Audience<F> {
    heard: usize,
    hear: F,
}

impl<F: FnMut(Step) -> io::Result<()>> Audience<F> {
    /// Tells a step, and gives what later ones need of it if it came out as it should.
    fn tell<T>(&mut self, told: Told<T>) -> Result<T, Stopped> {
        self.heard += 1;
        let as_expected = told.step.came_out();
        (self.hear)(Step { step: self.heard, ..told.step })?;
        if as_expected { Ok(told.then) } else { Err(Stopped::Differently) }
    }
}

/// Goes through all steps, up to one that comes out differently than it should; says whether there was none.
pub async fn tell(world: &World, hear: impl FnMut(Step) -> io::Result<()>) -> io::Result<bool> {
    match steps(world, Audience { heard: 0, hear }).await {
        Ok(()) => Ok(true),
        Err(Stopped::Differently) => Ok(false),
        Err(Stopped::Failed(error)) => Err(error),
    }
}

async fn steps<F>(world: &World, mut to: Audience<F>) -> Result<(), Stopped>
where
    F: FnMut(Step) -> io::Result<()>,
{
    to.tell(exchange::rule(world))?;
    world.settled().await;
    let id_token = to.tell(exchange::claims(world).await?)?;
    let upload_token = to.tell(exchange::exchange(world, &id_token).await?)?;
    to.tell(exchange::macaroon(&upload_token)?)?;
    to.tell(upload::question(world, &upload_token).await?)?;
    to.tell(upload::upload(world, &upload_token).await?)?;
    let id_token = to.tell(refusal::refusal(world).await?)?;
    to.tell(refusal::mend(world, &id_token).await?)?;
    to.tell(refusal::replay(world, &id_token).await?)
}

/// What stands above the first step.
pub fn preface(world: &World) -> String {
    let row = |name: &str, value: String, what: &str| [name.to_owned(), value, what.to_owned()];
    Page::default()
        .paragraph(
            "A CI job publishes a package, and no secret is stored anywhere. Everything below really happens, on this \
             machine only: keys, certificate and tokens are real and thrown away at the end.",
        )
        .table(&[
            row("service", world.base().to_owned(), "trustmint, and a registry behind the same host"),
            row("CI", world.provider().issuer().to_owned(), "an identity provider that plays GitHub Actions"),
            row("files", world.directory().path().display().to_string(), "removed at the end"),
        ])
        .finish()
}

/// How a person goes on while everything stays up.
#[derive(Debug, Serialize)]
pub struct Invitation {
    /// Its name among the steps.
    pub name: &'static str,
    /// One line for a shell that publishes a wheel with uv.
    pub command: String,
    /// Where the service and the registry answer.
    pub service: String,
    /// The `iss` of the identity provider.
    pub issuer: String,
    /// The directory of this run.
    pub directory: String,
    /// The text.
    #[serde(skip)]
    pub text: String,
}

/// Prepares a job that publishes the next version with a real client: its wheel, and the environment that a CI system
/// would give it.
pub fn invite(world: &World) -> io::Result<Invitation> {
    const VERSION: &str = "1.4.1";
    let (_, wheel, _) = super::world::widgets(VERSION)?;
    world.run_job("release.yml", &format!("v{VERSION}"));
    let directory = world.directory();
    directory.write(&format!("dist/{}", wheel.file_name), &wheel.bytes)?;
    let provider = world.provider();
    let variables = [
        ("GITHUB_ACTIONS", "true".to_owned()),
        ("CI", "true".to_owned()),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", provider.token_request_url()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", provider.token_request_token()),
        ("SSL_CERT_FILE", directory.join("ca.pem").display().to_string()),
        ("UV_PUBLISH_URL", world.url("/legacy/")),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ];
    let lines = variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    directory.write("env.sh", lines.collect::<String>())?;
    let path = directory.path().display().to_string();
    let command = format!("(cd {} && . ./env.sh && uv publish --trusted-publishing always)", quoted(&path));
    let text = Page::default()
        .paragraph("Everything stays up until ctrl-c. A real client publishes to it, as it would from CI:")
        .lines(&command)
        .paragraph(&format!(
            "`dist/` there has widgets {VERSION}; `env.sh` is what GitHub Actions would tell the job, and where index \
             and certificate are. The line `::add-mask::` that uv prints tells GitHub to keep the token out of logs."
        ))
        .paragraph(
            "The curl line of step 5 works as long as its token, fifteen minutes. Every outcome is a line of \
             `audit.jsonl`.",
        )
        .finish();
    let (service, issuer) = (world.base().to_owned(), provider.issuer().to_owned());
    Ok(Invitation { name: "ready", command, service, issuer, directory: path, text })
}

/// A word for a shell (POSIX section 2.2.2), quoted only if it must be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A failed answer's own words, for a step that came out differently.
fn facts_of(answer: &super::client::Answer) -> Value {
    json!({"status": answer.status, "code": answer.body.get("code"), "message": answer.body.get("message")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_for_the_shell_if_it_must_be() {
        assert_eq!(quoted("/tmp/a-b_c.d"), "/tmp/a-b_c.d");
        assert_eq!(quoted("http://x/?a=b&c"), "'http://x/?a=b&c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
