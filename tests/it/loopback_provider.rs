//! The loopback identity provider: what it serves when honest, and every way in which it can be told to misbehave.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use trustmint::demo::provider::{Answer, Endpoint, LoopbackProvider};
use trustmint::demo::signing::{KeyKind, SigningKey};
use trustmint::time::{Clock, SystemClock, Timestamp};

fn start() -> LoopbackProvider {
    LoopbackProvider::start(Arc::new(SystemClock)).unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

async fn get(url: impl reqwest::IntoUrl) -> reqwest::Response {
    client().get(url).send().await.unwrap()
}

async fn json<T: serde::de::DeserializeOwned>(response: reqwest::Response) -> T {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn published(provider: &LoopbackProvider) -> JwkSet {
    json(get(format!("{}/jwks", provider.issuer())).await).await
}

/// What an independent implementation makes of a token, given the published keys.
async fn decode(provider: &LoopbackProvider, token: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let keys = published(provider).await;
    let key = keys.find(&header.kid?)?;
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["acme"]);
    validation.set_issuer(&[provider.issuer()]);
    jsonwebtoken::decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation).ok().map(|data| data.claims)
}

#[actix_web::test]
async fn discovery_leads_to_the_keys_that_verify_its_tokens() {
    let provider = start();
    let document: Value = json(get(format!("{}/.well-known/openid-configuration", provider.issuer())).await).await;
    assert_eq!(document["issuer"], provider.issuer());
    assert_eq!(document["jwks_uri"], format!("{}/jwks", provider.issuer()));
    assert!(document.get("authorization_endpoint").is_none());

    let now = SystemClock.now();
    let claims = provider.claims(&json!({"repository": "acme/widgets"}), "acme", now);
    assert_eq!(decode(&provider, &provider.mint(&claims)).await, Some(claims.clone()));
    for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
        let token = provider.key(algorithm).unwrap().token(&Value::Null, &claims);
        assert_eq!(decode(&provider, &token).await, Some(claims.clone()), "{algorithm}");
    }
    let impostor = SigningKey::generate(KeyKind::P256).unwrap().with_kid(provider.key("ES256").unwrap().kid());
    assert_eq!(decode(&provider, &impostor.token(&Value::Null, &claims)).await, None);
}

#[actix_web::test]
async fn claims_are_completed_and_never_replaced() {
    let provider = start();
    let now = Timestamp::from_unix_seconds(1_787_000_000);
    let claims = provider.claims(&json!({"exp": 5, "aud": ["a", "b"]}), "acme", now);
    assert_eq!(claims["iss"], provider.issuer());
    assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(1_787_000_000), &json!(1_786_999_700)));
    assert_eq!((&claims["exp"], &claims["aud"]), (&json!(5), &json!(["a", "b"])));
    assert_ne!(claims["jti"], provider.claims(&json!({}), "acme", now)["jti"]);
}

#[actix_web::test]
async fn a_job_asks_for_a_token_as_on_github() {
    let provider = start();
    provider.run_job(&json!({"repository": "acme/widgets"}));
    let ask = async |url: String, credentials: Option<String>| {
        let mut request = client().get(url);
        if let Some(credentials) = credentials {
            request = request.header("Authorization", credentials);
        }
        request.send().await.unwrap()
    };
    let url = provider.token_request_url();
    for scheme in ["bearer", "Bearer"] {
        let credentials = format!("{scheme} {}", provider.token_request_token());
        let reply: Value = json(ask(format!("{url}&audience=acme"), Some(credentials)).await).await;
        assert_eq!(reply["count"], 1);
        let claims = decode(&provider, reply["value"].as_str().unwrap()).await.unwrap();
        assert_eq!((&claims["repository"], &claims["aud"]), (&json!("acme/widgets"), &json!("acme")));
    }
    let credentials = format!("bearer {}", provider.token_request_token());
    assert_eq!(ask(format!("{url}&audience=acme"), None).await.status(), 401);
    assert_eq!(ask(format!("{url}&audience=acme"), Some("bearer other".into())).await.status(), 401);
    assert_eq!(ask(url.clone(), Some(credentials.clone())).await.status(), 400);
    assert_eq!(ask(format!("{url}&audience=a&audience=b"), Some(credentials)).await.status(), 400);
    assert_eq!(provider.requests(Endpoint::Token), 6);
}

#[actix_web::test]
async fn keys_rotate_and_are_withdrawn() {
    let provider = start();
    let old = provider.keys();
    provider.rotate().unwrap();
    let claims = provider.claims(&json!({}), "acme", SystemClock.now());
    let by_old_key = old[0].token(&Value::Null, &claims);
    assert!(decode(&provider, &provider.mint(&claims)).await.is_some());
    assert!(decode(&provider, &by_old_key).await.is_some());
    provider.withdraw_old_keys();
    assert!(decode(&provider, &provider.mint(&claims)).await.is_some());
    assert!(decode(&provider, &by_old_key).await.is_none());
    assert_eq!(published(&provider).await.keys.len(), 1);
}

#[actix_web::test]
async fn a_held_endpoint_answers_when_it_is_released() {
    let provider = Arc::new(start());
    provider.answer(Endpoint::Jwks, Answer::Held);
    let url = format!("{}/jwks", provider.issuer());
    let waiting = actix_web::rt::spawn(get(url.clone()));
    provider.requested(Endpoint::Jwks, 1).await;
    assert!(!waiting.is_finished());
    provider.answer(Endpoint::Jwks, Answer::Honest);
    assert_eq!(waiting.await.unwrap().status(), 200);
    assert_eq!(provider.requests(Endpoint::Jwks), 1);
    assert_eq!(provider.requests(Endpoint::Discovery), 0);
}

#[actix_web::test]
async fn it_lies_as_told() {
    let provider = start();
    let url = format!("{}/jwks", provider.issuer());
    let told = async |answer: Answer| {
        provider.answer(Endpoint::Jwks, answer);
        get(url.clone()).await
    };
    assert_eq!(told(Answer::status(500)).await.status(), 500);
    let redirect = told(Answer::redirect("http://127.0.0.1:1/")).await;
    assert_eq!(
        (redirect.status().as_u16(), &redirect.headers()["location"]),
        (302, &"http://127.0.0.1:1/".parse().unwrap())
    );
    assert_eq!(told(Answer::json(&json!({"keys": []}))).await.text().await.unwrap(), r#"{"keys":[]}"#);
    let page = told(Answer::body("text/html", "<p>down</p>")).await;
    assert_eq!(page.headers()["content-type"], "text/html");
    assert_eq!(told(Answer::body("application/json", vec![b' '; 1 << 20])).await.bytes().await.unwrap().len(), 1 << 20);
    let mut endless = told(Answer::Endless).await;
    let mut read = 0;
    while read < 1 << 20 {
        read += endless.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(told(Answer::Honest).await.headers()["cache-control"], "max-age=3600");
    provider.set_cache_control("");
    assert!(told(Answer::Honest).await.headers().get("cache-control").is_none());
}

#[actix_web::test]
async fn it_is_down_once_dropped_even_while_it_holds_a_request() {
    let provider = start();
    let url = format!("{}/jwks", provider.issuer());
    provider.answer(Endpoint::Jwks, Answer::Held);
    let waiting = actix_web::rt::spawn(client().get(&url).send());
    provider.requested(Endpoint::Jwks, 1).await;
    drop(provider);
    assert!(client().get(&url).timeout(Duration::from_secs(2)).send().await.is_err());
    assert!(waiting.await.unwrap().is_err());
}
