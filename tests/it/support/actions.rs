//! The JavaScript actions that exchange ID tokens on GitHub, by their recorded requests: no package registry has them. Each
//! sends what the action sends and reads the answer as strictly as the action does; an error is what its user reads.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::front::Front;
use super::front::Job;
use super::front::said;

/// rust-lang/crates-io-auth-action: the token that later steps give to cargo.
pub fn crates_io_auth_action(front: &Front, job: &Job) -> Result<String, String> {
    let registry = front.url.trim_end_matches('/');
    let id_token = id_token(front, job, registry.trim_start_matches("https://"));
    let body = json!({"jwt": id_token}).to_string();
    let url = format!("{registry}/api/v1/trusted_publishing/tokens");
    let answer = send(front, &[&NODE[..], &["-H", "content-type: application/json", "-d", &body, &url]].concat());
    if !answer.is_ok() {
        return Err(format!(
            "Failed to retrieve token from Cargo registry. Status: {}. {}",
            answer.status,
            details(&answer)
        ));
    }
    match answer.json()["token"].as_str().filter(|token| !token.is_empty()) {
        Some(token) => Ok(token.to_owned()),
        None => Err("Failed to retrieve token from the Cargo registry response body".to_owned()),
    }
}

/// What that action does when the job ends; its step fails unless this succeeds.
pub fn crates_io_auth_action_post(front: &Front, token: &str) -> Result<(), String> {
    let url = format!("{}/api/v1/trusted_publishing/tokens", front.url.trim_end_matches('/'));
    let bearer = format!("authorization: Bearer {token}");
    let answer = send(front, &[&NODE[..], &["-X", "DELETE", "-H", &bearer, &url]].concat());
    if answer.is_ok() {
        Ok(())
    } else {
        Err(format!("Failed to revoke token. Status: {}. {}", answer.status, details(&answer)))
    }
}

/// rubygems/configure-rubygems-credentials with `gem-server` and `audience`: the key that later steps give to gem.
pub fn configure_rubygems_credentials(front: &Front, job: &Job, audience: &str) -> Result<String, String> {
    let server = front.url.trim_end_matches('/');
    let body = json!({"jwt": id_token(front, job, audience)}).to_string();
    let url = format!("{server}/api/v1/oidc/trusted_publisher/exchange_token");
    let headers =
        ["-A", "rubygems-oidc-action", "-H", "content-type: application/json", "-H", "accept: application/json"];
    let answer = send(front, &[&headers[..], &["-d", &body, &url]].concat());
    // The client library makes nothing of a 404, and an error of every other status that is no success.
    if answer.status == 404 {
        return Err(format!(
            "No trusted publisher configured for this workflow found on {server} for audience {audience}"
        ));
    }
    if !answer.is_ok() {
        let message = serde_json::from_str::<Value>(&answer.body).ok();
        let message = message.and_then(|body| body["message"].as_str().map(str::to_owned));
        return Err(message.unwrap_or(answer.body));
    }
    // The action's schema: other members are dropped, `gem` may be absent and not null, times have an offset.
    let answer = answer.json();
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let gem = answer.get("gem").is_none_or(|gem| gem["name"].is_string());
    let expires_at: Result<jiff::Timestamp, _> = answer["expires_at"].as_str().unwrap_or_default().parse();
    if !(answer["name"].is_string() && texts(&answer["scopes"]) && gem && expires_at.is_ok()) {
        return Err(format!("the schema: {answer}"));
    }
    answer["rubygems_api_key"].as_str().map(str::to_owned).ok_or_else(|| format!("the schema: {answer}"))
}

/// NuGet/login with `user`, `token-service-url` and `audience`: the key that later steps give to `dotnet nuget push`.
pub fn nuget_login(front: &Front, job: &Job, user: &str, audience: &str) -> Result<String, String> {
    let bearer = format!("Authorization: Bearer {}", id_token(front, job, audience));
    let body = json!({"username": user, "tokenType": "ApiKey"}).to_string();
    let url = format!("{}api/v2/token", front.url);
    let headers = ["-A", "nuget/login-action", "-H", "Content-Type: application/json", "-H", "Accept:", "-H", &bearer];
    let answer = send(front, &[&headers[..], &["-d", &body, &url]].concat());
    if answer.status != 200 {
        let error = serde_json::from_str::<Value>(&answer.body).ok();
        let error = error.and_then(|body| body["error"].as_str().map(str::to_owned)).unwrap_or(answer.body);
        return Err(format!("Token exchange failed (HTTP {}) at {url}: {error}", answer.status));
    }
    match answer.json()["apiKey"].as_str() {
        Some(key) => Ok(key.to_owned()),
        None => Err("Response did not contain \"apiKey\".".to_owned()),
    }
}

/// What Node's `fetch` adds of its own.
const NODE: [&str; 8] =
    ["-A", "node", "-H", "accept-language: *", "-H", "sec-fetch-mode: cors", "-H", "accept-encoding: gzip, deflate"];

/// `core.getIDToken`.
fn id_token(front: &Front, job: &Job, audience: &str) -> String {
    let url = format!(
        "{}&audience={}",
        job.variable("ACTIONS_ID_TOKEN_REQUEST_URL"),
        audience.replace(':', "%3A").replace('/', "%2F")
    );
    let bearer = format!("Authorization: Bearer {}", job.variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
    let answer = send(front, &["-A", "actions/oidc-client", "-H", "Accept: application/json", "-H", &bearer, &url]);
    answer.json()["value"].as_str().unwrap().to_owned()
}

/// An answer as a client has it.
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    const fn is_ok(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn send(front: &Front, arguments: &[&str]) -> Answer {
    let mut curl = front.client(Path::new("curl"));
    curl.args(["-sS", "--cacert"]).arg(front.ca()).args(["-w", "\n%{http_code}"]).args(arguments);
    let output = said(&mut curl).success();
    let (body, status) = output.rsplit_once('\n').unwrap_or(("", &output));
    Answer { status: status.parse().unwrap(), body: body.to_owned() }
}

/// How crates-io-auth-action shows a failure: the details if every entry has one, else the body.
fn details(answer: &Answer) -> String {
    let body = serde_json::from_str::<Value>(&answer.body).ok();
    let entries = body.as_ref().and_then(|body| body["errors"].as_array()).filter(|entries| !entries.is_empty());
    let details: Option<Vec<&str>> =
        entries.and_then(|list| list.iter().map(|entry| entry["detail"].as_str()).collect());
    details.map_or_else(|| answer.body.clone(), |details| details.join(", "))
}
