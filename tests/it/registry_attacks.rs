//! Attacks on what registries ask and say: other tenants' tokens, API keys, cursors, floods, and proxies' requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::state::Cursor;
use trustmint::state::revocations::Revocation;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants;
use crate::support::tenants::tenants_with;

const FORM: &str = "application/x-www-form-urlencoded";
const SECOND: Duration = Duration::from_secs(1);

/// What a registry can ask, each with a question that is well formed.
fn endpoints(token: &str) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let question = json!({"token": token, "package": "widgets", "exists": true}).to_string();
    vec![
        ("POST", "/v1/verify", "application/json", question),
        ("POST", "/v1/introspect", FORM, format!("token={token}")),
        ("POST", "/v1/explain", "application/json", json!({"token": token}).to_string()),
        ("POST", "/v1/policy/notify", "application/json", String::new()),
        ("POST", "/v1/revocations", "application/json", json!({"rule": "none"}).to_string()),
        ("GET", "/v1/revocations", "", String::new()),
        ("GET", "/v1/refusals", "", String::new()),
    ]
}

async fn ask(service: &Service, endpoint: &(&str, &str, &str, String), authorization: &[&[u8]]) -> Answer {
    let (method, path, media, body) = endpoint;
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = service.client.request(method, format!("{}{path}", service.base)).header("content-type", *media);
    for value in authorization {
        request = request.header("authorization", reqwest::header::HeaderValue::from_bytes(value).unwrap());
    }
    Answer::of(request.body(body.clone()).send().await.unwrap()).await
}

async fn verify_as(service: &Service, key: &str, question: &Value) -> Answer {
    let request = service.client.post(format!("{}/v1/verify", service.base)).bearer_auth(key);
    Answer::of(request.body(question.to_string()).send().await.unwrap()).await
}

async fn consume(service: &Service, token: &str, upload: &str, facts: &Value) -> String {
    let mut question = json!({"token": token, "package": "widgets", "exists": true, "consume": upload});
    question.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
    let answer = service.verify(&question).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

async fn single_use(service: &Service) -> String {
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    service.mint(&body).await.body["token"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn an_api_key_is_presented_once_and_plainly() {
    let service = Service::with_policy(tenants).await;
    let token = service.upload_token().await;
    let good = format!("Bearer {API_KEY}");
    let (good, other) = (good.as_bytes(), format!("Bearer {TOOLS_KEY}"));
    let other = other.as_bytes();
    let joined = [good, b", ", good].concat();
    let (suffixed, quoted) = ([good, b"\xc3\xa9"].concat(), format!("Bearer \"{API_KEY}\""));
    let (tab, colon) = (format!("Bearer\t{API_KEY}"), format!("Bearer:{API_KEY}"));
    let (digest, scheme) = (format!("Bearer {}", hex(&sha256(API_KEY.as_bytes()))), format!("Token {API_KEY}"));
    let upload = format!("Bearer {token}");
    let hostile: Vec<Vec<&[u8]>> = vec![
        vec![],
        vec![good, good],
        vec![good, b"Bearer x"],
        vec![b"Bearer x", good],
        vec![good, other],
        vec![b"Basic YTpi", good],
        vec![&joined],
        vec![&suffixed],
        vec![quoted.as_bytes()],
        vec![tab.as_bytes()],
        vec![colon.as_bytes()],
        vec![digest.as_bytes()],
        vec![scheme.as_bytes()],
        vec![upload.as_bytes()],
        vec![b"Bearer"],
        vec![b"Bearer "],
        vec![b""],
    ];
    for endpoint in endpoints(&token) {
        for authorization in &hostile {
            let answer = ask(&service, &endpoint, authorization).await;
            assert_eq!((answer.status, answer.code()), (401, "bad-api-key"), "{endpoint:?} {authorization:?}");
        }
        assert_ne!(ask(&service, &endpoint, &[good]).await.status, 401, "{endpoint:?}");
    }
    let operations = Operations::of(Arc::clone(&service.app));
    for path in ["policy", "issuers", "stops"] {
        let request = operations.client.get(format!("{}/{path}", operations.base));
        let twice = request.bearer_auth(KEY).bearer_auth(KEY);
        assert_eq!(Answer::of(twice.send().await.unwrap()).await.code(), "bad-api-key", "{path}");
        for key in [API_KEY, TOOLS_KEY] {
            let request = operations.client.get(format!("{}/{path}", operations.base)).bearer_auth(key);
            assert_eq!(Answer::of(request.send().await.unwrap()).await.code(), "bad-api-key", "{path}: a registry's");
        }
    }
    let answer = ask(&service, &endpoints(&token)[0], &[format!("Bearer {KEY}").as_bytes()]).await;
    assert_eq!(answer.code(), "bad-api-key", "an operator's key is no registry's");
}

#[actix_web::test]
async fn api_keys_are_rotated_without_a_gap_and_belong_to_one_registry() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
    let digest = |key: &str| hex(&sha256(key.as_bytes()));
    let both = format!("callers: {{new: {{key_sha256: \"{}\"}}, ", digest("the next key"));
    let question = json!({"token": token, "package": "widgets", "exists": true});
    let allowed = async |key: &str| verify_as(&service, key, &question).await.body["allowed"] == true;
    assert!(allowed(API_KEY).await && !allowed("the next key").await);
    service.app.activate(policy(&text.replace("callers: {", &both)));
    assert!(allowed(API_KEY).await && allowed("the next key").await);
    service.app.activate(policy(&text.replace(&digest(API_KEY), &digest("the next key"))));
    assert!(!allowed(API_KEY).await && allowed("the next key").await);
    // One key for two registries would make each speak for the other.
    let second = format!(
        "registries:\n  second: {{dialect: generic, urls: [\"https://b.example/\"], audiences: [b-aud], callers: {{x: \
         {{key_sha256: \"{}\"}}}}}}\n",
        digest(API_KEY)
    );
    let source = Source { name: "policy.yaml".into(), text: text.replacen("registries:\n", &second, 1) };
    assert!(Policy::load(&[source], &|_, _| None).unwrap_err().to_string().contains("API key"));
}

/// Of two registries with the same prefix, one asks about the other's tokens: live, narrowed, revoked, used, expired, or
/// never there.
#[actix_web::test]
async fn about_another_registrys_token_every_answer_is_the_same_as_about_a_forgery() {
    let members = ", routes: {proxy: nginx, allow: [{method: PUT, path: \"/f/{package}\", action: upload}]}";
    let service = Service::with_policy(|base, issuer| tenants_with(base, issuer, members)).await;
    let (live, revoked, expired) = (
        service.upload_token_for("files-aud").await,
        service.upload_token_for("files-aud").await,
        narrowed(&service.upload_token_for("files-aud").await, &format!("time-before {}", service.app.now())),
    );
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={revoked}")).await.status, 200);
    let own = service.upload_token_for("tools-aud").await;
    let (head, tail) = own.split_at(own.len() - 20);
    let forged = format!("{head}{}{}", if tail.starts_with('A') { "B" } else { "A" }, &tail[1..]);
    let moved = service.upload_token().await.replacen("pypi-", "tm-", 1);
    let without_id = |mut answer: Answer| {
        answer.body.as_object_mut().map(|body| body.remove("request_id"));
        let code = answer.headers.get("x-trustmint-code").cloned();
        (answer.status, answer.body.to_string(), code, answer.headers.get("x-trustmint-detail").cloned())
    };
    let about = async |token: &str| {
        let key = format!("Bearer {TOOLS_KEY}");
        let mut answers = Vec::new();
        for endpoint in &endpoints(token)[..2] {
            answers.push(without_id(ask(&service, endpoint, &[key.as_bytes()]).await));
        }
        let request = service.client.get(format!("{}/v1/authorize", service.base)).header("x-trustmint-key", TOOLS_KEY);
        let request = request.header("x-original-method", "PUT").header("x-original-uri", "/f/widgets");
        answers.push(without_id(Answer::of(request.bearer_auth(token).send().await.unwrap()).await));
        answers
    };
    let expected = about(&forged).await;
    assert!(
        expected[0].1.contains("upload-token-unknown") && expected[1].1.contains("\"active\":false"),
        "{expected:?}"
    );
    assert_eq!(expected[2].0, 403);
    for token in [&live, &narrowed(&live, "version 1"), &revoked, &expired, &moved] {
        assert_eq!(about(token).await, expected);
    }
    // Nor can it revoke or use it up.
    assert_eq!(about(&own).await[0].0, 200);
    let events: Vec<_> = service.audit().into_iter().filter(|event| event["registry"] == "tools").collect();
    assert!(
        events.iter().all(|event| event["event"] != "verify" || event["code"] == "ok"),
        "nothing about strangers' tokens"
    );
}

#[actix_web::test]
async fn lists_are_read_whole_although_all_of_it_happened_at_once_and_others_write_meanwhile() {
    let service = Service::with_policy(tenants).await;
    let (state, until) = (service.app.state(), service.app.now().plus(Duration::from_secs(900)));
    for number in 0..1300 {
        state.revocations().revoke(&format!("acme-pypi:a{number}"), until).await.unwrap();
        state.revocations().revoke(&format!("tools:t{number}"), until).await.unwrap();
    }
    let mut seen = Vec::new();
    let (mut path, mut rounds) = ("/v1/revocations".to_owned(), 0);
    loop {
        let answer =
            ask(&service, &("GET", path.as_str(), "", String::new()), &[format!("Bearer {API_KEY}").as_bytes()]).await;
        let entries = answer.body["revocations"].as_array().unwrap().clone();
        seen.extend(entries.iter().map(|entry| entry["token_id"].as_str().unwrap().to_owned()));
        if answer.body["more"] == false {
            break;
        }
        path = format!("/v1/revocations?since={}", answer.body["next"].as_str().unwrap());
        rounds += 1;
        state.revocations().revoke(&format!("acme-pypi:late{rounds}"), until).await.unwrap();
        assert!(rounds < 20, "it ends");
    }
    assert_eq!(seen.iter().filter(|id| id.starts_with('a')).count(), 1300);
    assert_eq!(seen.iter().filter(|id| id.starts_with("late")).count(), rounds, "what comes meanwhile comes last");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "each once, and none of another registry");
}

#[actix_web::test]
async fn a_flood_of_refusals_at_one_registry_leaves_anothers_alone() {
    let service = Service::with_policy(tenants).await;
    let (state, now) = (service.app.state(), service.app.now());
    state.keep_refusal("acme-pypi", b"{\"n\": 0}").await.unwrap();
    for number in 0..1500 {
        state.keep_refusal("tools", format!("{{\"n\": {number}}}").as_bytes()).await.unwrap();
    }
    let (mut cursor, mut seen) = (None::<Cursor>, Vec::new());
    loop {
        let page = state.refusals("tools", cursor.as_ref(), now).await.unwrap();
        seen.extend(
            page.entries.iter().map(|(_, entry)| serde_json::from_slice::<Value>(entry).unwrap()["n"].as_u64()),
        );
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (500..1500).map(Some).collect::<Vec<_>>(), "the latest thousand, in order, each once");
    let list =
        ask(&service, &("GET", "/v1/refusals", "", String::new()), &[format!("Bearer {API_KEY}").as_bytes()]).await;
    assert_eq!(list.body["refusals"], json!([{"n": 0}]), "{}", list.text);
}

#[actix_web::test]
async fn strangers_cannot_push_a_registrys_own_refusals_out() {
    let service = Service::with_policy(tenants).await;
    let refused =
        async |claims: &Value| service.mint(&json!({"token": service.id_token(claims)})).await.body["code"].clone();
    for number in 0..40 {
        let stranger = json!({"repository_owner_id": "1", "repository_id": number.to_string(), "repository": "evil/x"});
        assert_eq!(refused(&stranger).await, "no-matching-rule");
    }
    assert_eq!(refused(&json!({"environment": "staging"})).await, "environment-mismatch");
    let list = ("GET", "/v1/refusals", "", String::new());
    let mut codes: Vec<Value> = Vec::new();
    for _ in 0..1000 {
        let listed = ask(&service, &list, &[format!("Bearer {API_KEY}").as_bytes()]).await;
        codes = listed.body["refusals"].as_array().unwrap().iter().map(|refusal| refusal["code"].clone()).collect();
        if codes.contains(&json!("environment-mismatch")) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(codes.len(), 31, "{codes:?}");
    // And for a day, by the counts alone.
    let (state, begin) = (service.app.state(), service.app.now());
    for hour in 0..24 {
        let now = begin.plus(hour * Duration::from_secs(3600));
        for _ in 0..100 {
            state.keep_strangers_refusal("tools", b"{}", now).await.unwrap();
        }
    }
    let (mut cursor, mut kept) = (None::<Cursor>, 0);
    loop {
        let page = state.refusals("tools", cursor.as_ref(), begin).await.unwrap();
        kept += page.entries.len();
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(kept, 720, "less than the list has room for");
}

#[actix_web::test]
async fn a_cursor_that_no_answer_gave_shows_nothing_more() {
    let service = Service::with_policy(tenants).await;
    let until = service.app.now().plus(Duration::from_secs(900));
    service.app.state().revocations().revoke("tools:secret", until).await.unwrap();
    service.app.state().keep_refusal("tools", b"{\"secret\": 1}").await.unwrap();
    let most = u64::MAX;
    for cursor in ["0-0", "0-1", &format!("{most}-{most}"), &format!("{most}-0"), "9999999999999-0"] {
        for list in ["revocations", "refusals"] {
            let path = format!("/v1/{list}?since={cursor}");
            let answer =
                ask(&service, &("GET", &path, "", String::new()), &[format!("Bearer {API_KEY}").as_bytes()]).await;
            assert_eq!((answer.status, &answer.body[list]), (200, &json!([])), "{path}: {}", answer.text);
            assert!(!answer.text.contains("secret"));
        }
    }
    for cursor in
        ["-1-0", "1--1", "1-0%20", "%2B1-0", "1-0%00", "0x1-0", "18446744073709551616-0", "1-0-0", "١-٠", "$", "+", "-"]
    {
        for list in ["revocations", "refusals"] {
            let path = format!("/v1/{list}?since={cursor}");
            let answer =
                ask(&service, &("GET", &path, "", String::new()), &[format!("Bearer {API_KEY}").as_bytes()]).await;
            assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{path}: {}", answer.text);
        }
    }
}

#[actix_web::test]
async fn an_upload_id_stands_for_one_set_of_facts() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    assert_eq!(consume(&service, &token, "u", &json!({"version": "1"})).await, "allowed");
    for (facts, expected) in [
        (json!({"version": "1"}), "allowed"),
        (json!({"version": "1", "client_ip": "192.0.2.1"}), "allowed"),
        (json!({}), "consume-conflict"),
        (json!({"version": "1 "}), "consume-conflict"),
        (json!({"version": "1", "size": 0}), "consume-conflict"),
        // Names, actions and versions are not run together.
        (json!({"version": "Some(\"1\")\nNone"}), "consume-conflict"),
        (json!({"version": "1", "package": "gadgets"}), "package-not-covered"),
        (json!({"version": "1", "package": "widgets-x", "exists": false}), "consume-conflict"),
    ] {
        assert_eq!(consume(&service, &token, "u", &facts).await, expected, "{facts}");
    }
    for other in ["U", "u ", "u\u{0}", "\u{fc}", "u\n"] {
        assert_eq!(consume(&service, &token, other, &json!({"version": "1"})).await, "uses-spent", "{other:?}");
    }
    // Another package is another upload, also where that alone differs.
    let third = single_use(&service).await;
    let created = |package: &str| json!({"package": package, "exists": false});
    assert_eq!(consume(&service, &third, "u", &created("widgets-a")).await, "allowed");
    assert_eq!(consume(&service, &third, "u", &created("widgets-b")).await, "consume-conflict");
    // What is refused for another reason spends nothing, and what is over is not revived by a repeat.
    let second = single_use(&service).await;
    let soon = narrowed(&second, &format!("time-before {}", service.app.now().plus(SECOND)));
    assert_eq!(consume(&service, &soon, "u", &json!({})).await, "allowed");
    service.pass(SECOND).await;
    assert_eq!(consume(&service, &soon, "u", &json!({})).await, "upload-token-expired");
    assert_eq!(consume(&service, &second, "v", &json!({})).await, "uses-spent", "the copy's use was the original's");
    service.pass(120 * SECOND).await;
    assert_eq!(consume(&service, &second, "v", &json!({})).await, "uses-spent", "long after the copy's end too");
    assert_eq!(consume(&service, &second, "u", &json!({})).await, "allowed");
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={soon}")).await.status, 200);
    assert_eq!(consume(&service, &second, "u", &json!({})).await, "allowed", "an expired copy revokes nothing");
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={second}")).await.status, 200);
    assert_eq!(consume(&service, &second, "u", &json!({})).await, "upload-token-revoked");
}

#[actix_web::test]
async fn of_concurrent_questions_about_one_upload_one_set_of_facts_wins() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    let asked = (0..60).map(|number| {
        let version = (number % 3).to_string();
        let question =
            json!({"token": token, "package": "widgets", "exists": true, "consume": "u", "version": version});
        let request = service.client.post(format!("{}/v1/verify", service.base)).bearer_auth(API_KEY);
        actix_web::rt::spawn(request.body(question.to_string()).send())
    });
    let mut won = BTreeSet::new();
    for (number, answer) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let answer = Answer::of(answer.await.unwrap().unwrap()).await;
        if answer.body["allowed"] == true {
            won.insert(number % 3);
        } else {
            assert_eq!(answer.code(), "consume-conflict", "{}", answer.text);
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
}

#[actix_web::test]
async fn a_rule_that_is_cut_down_takes_its_live_tokens_with_it_wherever_they_are_shown() {
    let members = ", routes: {proxy: nginx, allow: [{method: PUT, path: \"/f/{package}\", action: upload}]}";
    let service = Service::with_policy(|base, issuer| tenants_with(base, issuer, members)).await;
    let token = service.upload_token_for("tools-aud").await;
    let authorize = async |token: &str| {
        let request = service.client.get(format!("{}/v1/authorize", service.base)).header("x-trustmint-key", TOOLS_KEY);
        let request = request.header("x-original-method", "PUT").header("x-original-uri", "/f/widgets");
        let answer = Answer::of(request.bearer_auth(token).send().await.unwrap()).await;
        (answer.status, answer.headers.get("x-trustmint-code").map(|code| code.to_str().unwrap().to_owned()))
    };
    assert_eq!(authorize(&token).await.0, 200);
    service.pass(SECOND).await;
    // The rules of `tools` are gone: `acme-pypi`'s alone are left.
    let digest = hex(&sha256(TOOLS_KEY.as_bytes()));
    let tools = format!(
        "registries:\n  tools: {{dialect: generic, urls: [\"{}/tools/\"], audiences: [tools-aud], callers: {{front: \
         {{key_sha256: \"{digest}\"}}}}{members}}}\n",
        service.base
    );
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
    service.app.activate(policy(&text.replacen("registries:\n", &tools, 1)));
    assert_eq!(authorize(&token).await, (403, Some("rule-withdrawn".to_owned())));
    let question = json!({"token": token, "package": "widgets", "exists": true});
    assert_eq!(verify_as(&service, TOOLS_KEY, &question).await.code(), "rule-withdrawn");
    let read = json!({"token": token, "package": "widgets", "action": "read"});
    assert_eq!(verify_as(&service, TOOLS_KEY, &read).await.code(), "rule-withdrawn");
    let introspect = ("POST", "/v1/introspect", FORM, format!("token={token}"));
    let answer = ask(&service, &introspect, &[format!("Bearer {TOOLS_KEY}").as_bytes()]).await;
    assert_eq!(answer.body, json!({"active": false}));
}

#[actix_web::test]
async fn a_request_that_asks_its_server_for_something_else_is_not_let_through() {
    let members = ", routes: {proxy: PROXY, allow: [{method: GET, path: \"/f/{package}\", action: read}]}";
    for proxy in ["nginx", "traefik"] {
        let members = members.replace("PROXY", proxy);
        let service = Service::with_policy(|base, issuer| tenants_with(base, issuer, &members)).await;
        let token = service.upload_token_for("tools-aud").await;
        let names = if proxy == "nginx" {
            ["x-original-method", "x-original-uri"]
        } else {
            ["x-forwarded-method", "x-forwarded-uri"]
        };
        let get = async |name: &str, value: &[u8], uri: &[u8]| {
            let request =
                service.client.get(format!("{}/v1/authorize", service.base)).header("x-trustmint-key", TOOLS_KEY);
            let value = reqwest::header::HeaderValue::from_bytes(value).unwrap();
            let uri = reqwest::header::HeaderValue::from_bytes(uri).unwrap();
            let request = request.header(names[0], "GET").header(names[1], uri).header(name, value);
            let answer = Answer::of(request.bearer_auth(&token).send().await.unwrap()).await;
            (answer.status, answer.headers.get("x-trustmint-code").map(|code| code.to_str().unwrap().to_owned()))
        };
        assert_eq!(get("x-anything", b"1", b"/f/widgets").await, (200, None), "{proxy}");
        let refused = (403, Some("route-not-allowed".to_owned()));
        for name in ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"]
        {
            for value in [&b"DELETE"[..], b"/f/other", b"GET", b"", b"\xff"] {
                assert_eq!(get(name, value, b"/f/widgets").await, refused, "{proxy}: {name}");
            }
        }
        for uri in [
            &b"/f/w\xc3\xafdgets"[..],
            b"/f/widgets\xff",
            b"/f/widgets%c0%ae",
            b"/f/widgets%00",
            b"/f/widgets%",
            b"/f/widgets%2",
            b"/f/%77idgets",
            b"/f/widgets%252e",
            b"/f/widgets\\x",
            b"/f/widgets/",
            b"/f//widgets",
            b"/f/widgets/..",
            b"/f/../f/widgets",
            b"/f/widgets;v=1",
            b"/f/widgets?",
            b"/f/widgets?_method=DELETE",
            b"/f/widgets#",
            b"/f/widgets x",
            b"/f/widgets, /f/widgets",
            b"//f/widgets",
            b"/F/widgets",
            b"f/widgets",
            b"https://tools.example/f/widgets",
            b"*",
            b"",
        ] {
            assert_eq!(get("x-anything", b"1", uri).await, refused, "{proxy}: {}", String::from_utf8_lossy(uri));
        }
    }
}

#[actix_web::test]
async fn a_stop_cannot_be_endless_and_only_operators_lift_it() {
    let service = Service::with_policy(tenants).await;
    let operations = Operations::of(Arc::clone(&service.app));
    let post = async |until: &str| {
        let body = json!({"registry": "tools", "reason": "r", "until": until}).to_string();
        let request = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY).body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    for until in [
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "99999999999999999999",
        "",
    ] {
        let answer = post(until).await;
        assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{until}: {}", answer.text);
    }
    let stopped = post(&service.app.now().plus(Duration::from_secs(60)).to_string()).await;
    let id = stopped.body["id"].as_str().unwrap();
    let lift = async |key: &str| {
        let request = operations.client.delete(format!("{}/stops/{id}", operations.base)).bearer_auth(key);
        Answer::of(request.send().await.unwrap()).await
    };
    for key in [TOOLS_KEY, API_KEY, ""] {
        assert_eq!(lift(key).await.code(), "bad-api-key");
    }
    let lifted = lift(KEY).await;
    assert_eq!((lifted.status, &lifted.body["registry"]), (200, &json!("tools")), "{}", lifted.text);
    let events: Vec<Value> = service.audit();
    let said = |kind: &str| events.iter().find(|event| event["event"] == kind).unwrap();
    for kind in ["stop", "lift"] {
        let explanation = &said(kind)["explanation"];
        assert_eq!((&explanation["caller"], &explanation["stop"]), (&json!("oncall"), &json!(id)), "{kind}");
        assert_eq!(said(kind)["registry"], "tools");
    }
}

/// What a rule's revocation covers is decided by the token's own moment, to the millisecond.
#[actix_web::test]
async fn a_registry_that_verifies_offline_draws_the_line_where_the_service_does() {
    let service = Service::start().await;
    service.clock.pass(Duration::from_millis(7));
    let token = service.upload_token().await;
    let request = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
    let answer = request.body(json!({"rule": "widgets-release"}).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let page = service.app.state().revocations().of_registry("acme-pypi", None).await.unwrap();
    let (_, Revocation::Rule { issued_before, .. }) = &page.revocations[0] else { panic!("{page:?}") };
    assert_eq!(issued_before.unix_millis(), service.app.now().unix_millis() + 1);
    let list =
        ask(&service, &("GET", "/v1/revocations", "", String::new()), &[format!("Bearer {API_KEY}").as_bytes()]).await;
    let told = list.body["revocations"][0]["issued_before"].as_str().unwrap();
    assert_eq!(told.split_once('.').map(|(_, millis)| millis), Some("008Z"), "{}", list.text);
    let question = json!({"token": token, "package": "widgets", "exists": true});
    assert_eq!(verify_as(&service, API_KEY, &question).await.code(), "upload-token-revoked");
}
