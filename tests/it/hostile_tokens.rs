//! Ten thousand hostile tokens at the front door, and what they make the service ask for.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::cache::BURST;
use trustmint::identity::cache::REFILL;

use crate::support::Service;
use crate::support::service::Answer;

const TOKENS: usize = 10_000;
/// How many come at once.
const BATCH: usize = 50;
/// How long the stream takes.
const STREAM: Duration = Duration::from_secs(60);

/// A token that nobody should believe, another kind for each number.
fn hostile(service: &Service, stranger: &SigningKey, number: usize, claims: &Value) -> String {
    let kid = format!("invented-{number}");
    let header = |extra: &Value| {
        let mut header = json!({"kid": kid});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        header
    };
    let over = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let canary = "http://127.0.0.1:9/keys";
    match number % 10 {
        // A key id that the issuer does not publish: the one kind that may cause a request.
        0..=2 => stranger.token(&header(&json!({})), claims),
        // The issuer's key id over a stranger's signature.
        3 => stranger.token(&json!({"kid": service.provider.key("RS256").unwrap().kid()}), claims),
        // Issuers that nobody configured.
        4 => stranger.token(&header(&json!({})), &over("iss", json!(format!("https://evil-{number}.example")))),
        5 => stranger.token(&header(&json!({})), &over("iss", json!(format!("{}/", service.provider.issuer())))),
        // Keys of the sender's choice.
        6 => stranger.token(&header(&json!({"jku": canary})), claims),
        7 => stranger.token(&header(&json!({"jwk": stranger.jwk(), "x5u": canary})), claims),
        // No signature, and a symmetric one.
        8 => stranger.token(&header(&json!({"alg": "none"})), claims),
        _ => stranger.token(&header(&json!({"alg": "HS256"})), claims),
    }
}

#[actix_web::test]
#[expect(clippy::print_stdout, reason = "the figures, for whoever runs it with --nocapture")]
async fn ten_thousand_hostile_tokens_cause_no_more_requests_than_the_bucket_allows_and_hide_no_rotation() {
    let service = Service::start().await;
    let job = json!({"token": service.id_token(&json!({}))});
    assert_eq!(service.mint(&job).await.status, 200);
    service.pass(Duration::from_secs(60)).await;
    let before = [Endpoint::Discovery, Endpoint::Jwks].map(|endpoint| service.provider.requests(endpoint));
    let stranger = SigningKey::generate(KeyKind::Ed25519).unwrap();
    let url = format!("{}/_/oidc/mint-token", service.base);
    let (mut rotated_at, mut learnt_after) = (None, None);
    for batch in 0..TOKENS / BATCH {
        // A genuine rotation in the middle of the stream, while its allowance is spent.
        if batch == 57 * (TOKENS / BATCH) / 100 {
            service.provider.rotate().unwrap();
            rotated_at = Some(service.app.now());
        }
        if let Some(rotated_at) = rotated_at.filter(|_| learnt_after.is_none()) {
            let answer = service.mint(&json!({"token": service.id_token(&json!({}))})).await;
            if answer.status == 200 {
                learnt_after = Some(service.app.now().since(rotated_at));
            } else {
                // Not a no: what to do is to come back.
                assert_eq!((answer.status, answer.code()), (503, "issuer-unavailable"), "{}", answer.text);
                assert!(answer.headers.contains_key("retry-after"));
            }
        }
        let claims = service.claims(&json!({}));
        let tokens = (0..BATCH).map(|n| hostile(&service, &stranger, batch * BATCH + n, &claims));
        let posts: JoinSet<_> = tokens
            .map(|token| {
                let post = service.client.post(&url).body(json!({"token": token}).to_string());
                async move { Answer::of(post.send().await.unwrap()).await }
            })
            .collect();
        for answer in posts.join_all().await {
            assert!(matches!(answer.status, 422 | 503), "{}", answer.text);
            assert!(answer.body["token"].is_null(), "{}", answer.text);
        }
        service.clock.pass(STREAM / u32::try_from(TOKENS / BATCH).unwrap());
    }
    let after = [Endpoint::Discovery, Endpoint::Jwks].map(|endpoint| service.provider.requests(endpoint));
    let caused = after[0] + after[1] - before[0] - before[1];
    let allowed = usize::try_from(BURST).unwrap() + usize::try_from(STREAM.as_secs() / REFILL.as_secs()).unwrap();
    let learnt_after = learnt_after.expect("the rotation was learnt while the stream went on");
    println!(
        "{TOKENS} hostile tokens in {STREAM:?}: {caused} requests (at most {allowed}); rotation learnt after {learnt_after:?}"
    );
    assert!(caused <= allowed, "{caused} requests, {allowed} allowed");
    assert!(caused >= 1, "the stream met the bucket at all");
    assert!(learnt_after <= REFILL, "{learnt_after:?}");
    // Nothing hostile was recorded one by one: what is in the log are the two jobs.
    assert_eq!(service.audit().len(), 2);
}
