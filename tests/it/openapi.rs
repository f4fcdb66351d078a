//! The description of the API, for programs and for people, says what the service does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use actix_web::web;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use trustmint::code::Code;
use trustmint::http::ENDPOINTS;
use trustmint::http::endpoint::Access;
use trustmint::http::endpoint::Operation;
use trustmint::http::openapi::document::by_status;
use trustmint::policy::bundle::Lapse;
use trustmint::secret::sha256;
use trustmint::time::Timestamp;
use trustmint::verify::Refused;

use crate::support::Service;
use crate::support::front::tool;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::service::policy_text;

async fn ask(service: &Service, method: &str, path: &str) -> Answer {
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
    Answer::of(service.client.request(method, format!("{}{path}", service.base)).send().await.unwrap()).await
}

fn paths(document: &Value) -> impl Iterator<Item = (&String, Vec<&str>)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().map(String::as_str).filter(|key| !key.starts_with("x-"));
        (path, methods.collect())
    })
}

#[actix_web::test]
async fn what_is_described_is_routed_and_what_is_routed_is_described() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.body;
    let mut described = BTreeSet::new();
    for (path, methods) in paths(&document) {
        described.insert(path.clone());
        for method in ["get", "head", "post", "put", "delete", "patch", "options", "trace"] {
            let answer = ask(&service, method, &path.replace("{path}", "a/b").replace("{name}", "a")).await;
            let listed = methods.contains(&method) || (method == "head" && methods.contains(&"get"));
            // That there is no such endpoint, or that it does not know the method, never comes of one that is listed.
            assert!(!answer.text.contains("there is no endpoint"), "{method} {path}: {}", answer.text);
            assert_eq!(answer.status != 405, listed, "{method} {path}: {} {}", answer.status, answer.text);
            if answer.status == 405 {
                let allowed = answer.headers["allow"].to_str().unwrap().to_ascii_lowercase();
                let allowed: BTreeSet<&str> = allowed.split(", ").filter(|method| *method != "head").collect();
                assert_eq!(allowed, methods.iter().copied().collect(), "{path}");
                assert!(document["paths"][path]["x-other-methods"].is_object(), "{path}");
            }
        }
    }
    let routed: BTreeSet<String> = ENDPOINTS.iter().map(|endpoint| endpoint.shown_path()).collect();
    assert_eq!((described, routed.len()), (routed.clone(), ENDPOINTS.len()));
}

#[actix_web::test]
async fn a_registrys_call_says_how_its_allowance_stands_where_the_description_says_so() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.body;
    let mut counted = BTreeSet::new();
    for endpoint in ENDPOINTS {
        for operation in endpoint.operations {
            if !matches!(operation.access, Access::Registry | Access::RegistryAlways | Access::Proxy) {
                continue;
            }
            let method = operation.method.names().first().unwrap();
            let path = endpoint.shown_path();
            let described = &document["paths"][&path][method.to_ascii_lowercase()]["responses"];
            let mut answers = operation.answers.iter().map(|answer| &described[answer.status.as_str()]["headers"]);
            let described = answers.all(|it| it.get("RateLimit").is_some());
            let over = by_status(endpoint, operation).remove(&429);
            let over = over.is_some_and(|codes| codes.contains(&Code::RateLimited));
            assert_eq!(described, operation.access.is_counted(), "{method} {path}");
            assert_eq!(over, described && operation.access != Access::Proxy, "{method} {path}");
            // Also a call that is refused counts, if any does: no answer of 200 is needed to see that.
            let asked = service.client.request(method.parse().unwrap(), format!("{}{path}", service.base));
            let asked = asked.bearer_auth(API_KEY).header("x-trustmint-key", API_KEY);
            let answer = Answer::of(asked.send().await.unwrap()).await;
            assert_eq!(answer.headers.contains_key("ratelimit"), described, "{method} {path}: {}", answer.text);
            counted.insert((path, described));
        }
    }
    assert!(counted.iter().any(|(_, counted)| *counted) && counted.iter().any(|(_, counted)| !*counted), "{counted:?}");
}

/// The public routes are made of the descriptions: no file routes a path by itself, but for the operators' listener.
#[test]
fn no_public_path_is_routed_by_hand() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rim = fs::read_to_string(source.join("http.rs")).unwrap();
    let (public, operations) = rim.split_once("pub fn operations_routes").unwrap();
    assert!(public.contains(".service(endpoint.resource())") && operations.contains("web::resource("));
    let mut files = vec![("http.rs".to_owned(), public.to_owned())];
    let mut folders = vec![source.join("http")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|it| it == "rs") && !entry.ends_with("http/endpoint.rs") {
                files.push((entry.display().to_string(), fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(files.len() > 20, "{}", files.len());
    for (name, text) in files {
        for call in ["web::resource(", "web::scope(\"/", ".route("] {
            assert!(!text.contains(call), "{name} routes a path that nothing describes: `{call}`");
        }
    }
}

#[test]
fn every_code_is_described_at_an_endpoint_unless_it_is_the_operators() {
    let operators: BTreeSet<Code> =
        [Code::OperationsClosed, Code::NoSuchIssuer, Code::NoSuchStop, Code::StaticKeys, Code::PolicyRefused].into();
    let mut described: BTreeSet<Code> = [Code::MethodNotAllowed].into();
    for endpoint in ENDPOINTS {
        described.extend(endpoint.operations.iter().flat_map(Operation::codes));
    }
    // In the answer of verify, whose schema lists them.
    let document: Value = serde_json::from_str(&trustmint::http::openapi::document::of("https://a.example")).unwrap();
    let verify = document["paths"]["/v1/verify"]["post"]["responses"]["200"].to_string();
    described.extend(Code::ALL.iter().filter(|code| verify.contains(&format!("\"{code}\""))));
    for code in Code::ALL {
        assert_eq!(described.contains(code), !operators.contains(code), "{code}");
    }
}

#[test]
fn whoever_asks_about_an_upload_token_is_told_of_every_reason_why_that_cannot_be_said() {
    let document: Value = serde_json::from_str(&trustmint::http::openapi::document::of("https://a.example")).unwrap();
    let lapses = [Lapse::Missing, Lapse::Expired(Timestamp::from_unix_seconds(0))].map(Refused::RulesUnknown);
    let lost = Refused::StateLost { retry_after: Duration::from_secs(1) };
    for refused in [Refused::RestrictionsStale, lost].into_iter().chain(lapses) {
        for path in ["/v1/verify", "/v1/introspect", "/v1/authorize"] {
            let described = document["paths"][path]["post"]["responses"]["503"].to_string();
            assert!(described.contains(&format!("\"{}\"", refused.code())), "{path}: {}", refused.code());
        }
    }
}

#[actix_web::test]
async fn the_document_holds_together() {
    let service = Service::start().await;
    let document = service.get("/openapi.json").await.body;
    assert_eq!(document["openapi"], "3.1.1");
    let mut references = Vec::new();
    let mut values = vec![&document];
    while let Some(value) = values.pop() {
        if let Some(object) = value.as_object() {
            references.extend(object.get("$ref").and_then(Value::as_str));
            values.extend(object.values());
        }
        values.extend(value.as_array().into_iter().flatten());
    }
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in paths(&document) {
        for method in methods {
            let operation = &document["paths"][path][method];
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}: {}", operation["operationId"]);
            for statement in ["summary", "description"] {
                assert!(!operation[statement].as_str().unwrap().is_empty(), "{method} {path}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
                let retried = response["headers"]["Retry-After"].is_object();
                assert_eq!(matches!(status.as_str(), "429" | "503"), retried, "{method} {path} {status}");
            }
            let body = document["paths"][path][method]["requestBody"]["content"].as_object();
            for (media, content) in body.into_iter().flatten() {
                assert!(content["example"].is_object(), "{method} {path} {media}: its example is no JSON");
            }
        }
    }
    let secured = |path: &str| document["paths"][path]["post"]["security"].clone();
    assert_eq!(secured("/v1/verify"), json!([{"apiKey": []}]));
    assert_eq!(secured("/v1/token"), json!([]), "the ID token in the body is the credential");
    let media = document["paths"]["/v1/token"]["post"]["requestBody"]["content"].as_object().unwrap();
    assert_eq!(media.keys().collect::<Vec<_>>(), ["application/json", "application/x-www-form-urlencoded"]);
}

#[actix_web::test]
async fn both_name_the_hosts_own_url_and_are_sent_once() {
    let service = Service::with_policy(|base, issuer| {
        let text = policy_text(base, issuer, crate::support::service::WIDGETS);
        policy(&text.replace("registries:\n", "registries:\n  beta:\n    dialect: generic\n    urls: [\"https://beta.example:8443/files/\"]\n    audiences: [beta]\n"))
    })
    .await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let request = service.client.get(format!("{}{path}", service.base));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await.unwrap()).await
    };
    let document = get("/openapi.json", &[]).await;
    assert_eq!(document.headers["content-type"], "application/json");
    assert_eq!(document.body["servers"], json!([{"url": service.base}]));
    let other = get("/openapi.json", &[("host", "beta.example:8443")]).await;
    assert_eq!(other.body["servers"], json!([{"url": "https://beta.example:8443"}]));
    assert_ne!(other.headers["etag"], document.headers["etag"]);

    for path in ["/openapi.json", "/openapi.html"] {
        let first = get(path, &[]).await;
        let tag = first.headers["etag"].to_str().unwrap();
        for known in [tag, &format!("\"x\", W/{tag}"), "*"] {
            let again = get(path, &[("if-none-match", known)]).await;
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path} {known}");
            assert_eq!(again.headers["etag"], tag);
        }
        assert_eq!(get(path, &[("if-none-match", "\"x\"")]).await.status, 200);
        let stranger = get(path, &[("host", "stranger.example")]).await;
        assert_eq!((stranger.status, stranger.code()), (421, "unknown-host"));
    }
}

#[actix_web::test]
async fn the_page_shows_every_endpoint_and_every_code_and_can_do_nothing() {
    let service = Service::start().await;
    let page = service.get("/openapi.html").await;
    assert_eq!((page.status, &page.headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
    for endpoint in ENDPOINTS {
        assert!(page.text.contains(&format!("<code>{}</code></h3>", endpoint.shown_path())), "{}", endpoint.path);
    }
    for code in Code::ALL {
        assert_eq!(page.text.matches(&format!("<code id=\"code-{code}\">")).count(), 1, "{code}");
    }
    // Every link leads somewhere, and nowhere else.
    for link in page.text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let leads = link.strip_prefix('#').map(|id| page.text.matches(&format!("id=\"{id}\"")).count());
        assert!(link == "/openapi.json" || leads == Some(1), "{link}");
    }
    for active in ["<script", "javascript:", " on", "src=", "<form", "<iframe", "@import", "url("] {
        let tags = page.text.split('<').map(|rest| rest.split('>').next().unwrap_or_default());
        let found = tags.filter(|tag| format!("<{tag}").contains(active)).count();
        assert_eq!(found, 0, "{active}");
    }
    let (_, style) = page.text.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let allowed = page.headers["content-security-policy"].to_str().unwrap();
    assert!(allowed.starts_with("default-src 'none'; "), "{allowed}");
    let digest = STANDARD.encode(sha256(style.as_bytes()));
    assert!(allowed.contains(&format!("style-src 'sha256-{digest}'")), "{allowed}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
}

#[actix_web::test]
async fn a_browser_shows_the_page_with_its_style_and_finds_no_fault_in_it() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("page.png");
    let mut browser = Command::new(tool("TRUSTMINT_TEST_CHROMIUM"));
    // As root it has no sandbox of its own. The certificate is the test's.
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        "--window-size=1200,1600",
    ]);
    browser.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    browser.arg(format!("--screenshot={}", picture.display())).args(["--dump-dom", "--enable-logging=stderr", "--v=0"]);
    browser.arg(format!("{}/openapi.html", service.base));
    let output = web::block(move || browser.output()).await.unwrap().unwrap();
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for endpoint in ENDPOINTS {
        assert!(shown.contains(&format!("<code>{}</code></h3>", endpoint.shown_path())), "{}: {told}", endpoint.path);
    }
    // What the page may not do by its own policy would be told here.
    assert!(!told.contains("Content Security Policy") && !told.contains("CONSOLE"), "{told}");
    let picture = fs::read(picture).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes of picture", picture.len());
}
