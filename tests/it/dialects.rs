//! The dialects of crates.io, RubyGems, NuGet, conda and Open VSX: what they share, in one table, and what each has of its
//! own.

use reqwest::Method;
use serde_json::Value;
use serde_json::json;

use crate::support::Service;
use crate::support::codecs::host;
use crate::support::codecs::refused;
use crate::support::codecs::speaking;
use crate::support::codecs::text;
use crate::support::codecs::verdict;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::wire;

const JSON: &str = "Content-Type: application/json";

/// A dialect as its client speaks it to a registry at `/base/`.
struct Client {
    dialect: &'static str,
    /// Where it asks.
    path: &'static str,
    /// Whether the path of the registry's URL is a part of that.
    keeps_path: bool,
    /// The audience, if the client computes it: of the host with its port.
    audience: Option<fn(&str) -> String>,
    /// The package, as rules and clients of this ecosystem may write it.
    packages: [&'static str; 2],
    /// The head and the body in which an ID token is sent, for `packages[0]` if the client names one.
    request: fn(&str) -> (Vec<String>, String),
    /// Where the upload token is in the answer, and the status of that.
    answered: (u16, &'static str),
    prefix: &'static str,
    /// The statuses of: no ID token, an ID token that does not do, a refusal by the rules, another path.
    refusals: [u16; 4],
}

const CLIENTS: &[Client] = &[
    Client {
        dialect: "crates-io",
        path: "/base/api/v1/trusted_publishing/tokens",
        keeps_path: true,
        audience: Some(|host| format!("{host}/base")),
        packages: ["acme_core", "Acme-Core"],
        request: |token| (vec![JSON.to_owned()], json!({ "jwt": token }).to_string()),
        answered: (200, "/token"),
        prefix: "cargo-",
        refusals: [400, 400, 400, 404],
    },
    Client {
        dialect: "rubygems",
        path: "/base/api/v1/oidc/trusted_publisher/exchange_token",
        keeps_path: true,
        audience: None,
        packages: ["RedCloth", "RedCloth"],
        request: |token| (vec![JSON.to_owned()], json!({ "jwt": token }).to_string()),
        answered: (201, "/rubygems_api_key"),
        prefix: "gem-",
        refusals: [400, 400, 400, 400],
    },
    Client {
        dialect: "nuget",
        path: "/base/api/v2/token",
        keeps_path: true,
        audience: None,
        packages: ["Acme.Core", "ACME.CORE"],
        request: |token| {
            let head = vec![JSON.to_owned(), format!("Authorization: Bearer {token}")];
            (head, json!({"username": "acme", "tokenType": "ApiKey"}).to_string())
        },
        answered: (200, "/apiKey"),
        prefix: "nuget-",
        refusals: [401, 401, 401, 404],
    },
    Client {
        dialect: "conda",
        path: "/api/oidc/mint_token",
        keeps_path: false,
        audience: Some(|host| host.split(':').next().unwrap().to_owned()),
        packages: ["acme-core", "Acme-Core"],
        request: |token| (vec![JSON.to_owned()], json!({ "token": token }).to_string()),
        answered: (200, ""),
        prefix: "conda-",
        refusals: [400, 400, 403, 404],
    },
    Client {
        dialect: "open-vsx",
        path: "/base/api/-/trusted-publishing/token",
        keeps_path: true,
        audience: Some(|host| format!("https://{host}/base")),
        packages: ["acme.tools", "Acme.Tools"],
        request: |token| {
            let body = json!({"namespace": "Acme", "extension": "tools", "token": token});
            (vec![JSON.to_owned()], body.to_string())
        },
        answered: (201, "/value"),
        prefix: "vsx-",
        refusals: [400, 400, 403, 404],
    },
];

impl Client {
    fn named(dialect: &str) -> &'static Self {
        CLIENTS.iter().find(|client| client.dialect == dialect).unwrap()
    }

    async fn service(&self, members: &[&'static str]) -> Service {
        speaking(self.dialect, "/base/", &format!("\"{}\"", self.packages[0]), &self.members(members)).await
    }

    /// These lines of a registry, and the audience if the client is told it.
    fn members<'m>(&self, members: &[&'m str]) -> Vec<&'m str> {
        members.iter().copied().chain(self.audience.is_none().then_some("audiences: [acme-own]")).collect()
    }

    fn audience(&self, service: &Service) -> String {
        self.audience.map_or_else(|| "acme-own".to_owned(), |audience| audience(host(service)))
    }

    /// An ID token that does, but for these claims.
    fn job(&self, service: &Service, overrides: &Value) -> String {
        let mut claims = json!({"aud": self.audience(service)});
        claims.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
        service.id_token(&claims)
    }

    async fn exchange(&self, service: &Service, token: &str) -> Answer {
        self.exchange_at(service, self.path, &[], token).await
    }

    async fn exchange_at(&self, service: &Service, path: &str, lines: &[String], token: &str) -> Answer {
        let (mut head, body) = (self.request)(token);
        head.extend_from_slice(lines);
        wire::post(service, path, &head, &body).await
    }

    /// The upload token of an answer.
    #[track_caller]
    fn issued(&self, answer: &Answer) -> Value {
        let (status, place) = self.answered;
        assert_eq!(answer.status, status, "{}: {}", self.dialect, answer.text);
        let token = if place.is_empty() { json!(answer.text) } else { answer.body.pointer(place).unwrap().clone() };
        assert!(token.as_str().unwrap().starts_with(self.prefix), "{}: {token}", self.dialect);
        token
    }
}

#[actix_web::test]
async fn what_a_client_gets_passes_verification_of_its_packages_in_their_native_spelling() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let answer = client.exchange(&service, &client.job(&service, &json!({}))).await;
        let token = client.issued(&answer);
        for package in client.packages {
            assert_eq!(verdict(&service, &token, package).await, "allowed", "{}: {package}", client.dialect);
        }
        assert_eq!(verdict(&service, &token, "other.package").await, "package-not-covered", "{}", client.dialect);
    }
}

#[actix_web::test]
async fn an_id_token_is_good_for_one_exchange() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let token = client.job(&service, &json!({}));
        client.issued(&client.exchange(&service, &token).await);
        refused(&client.exchange(&service, &token).await, client.refusals[1], "token-replayed");
        client.issued(&client.exchange(&service, &client.job(&service, &json!({}))).await);
    }
}

#[actix_web::test]
async fn a_refusal_says_why_and_spends_nothing() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let [missing, token, rules, _] = client.refusals;
        let answer = client.exchange(&service, &client.job(&service, &json!({"environment": "staging"}))).await;
        refused(&answer, rules, "environment-mismatch");
        assert!(answer.body["message"].as_str().unwrap().contains("wants `environment: release`"), "{}", answer.text);
        refused(&client.exchange(&service, "a.b.c").await, token, "token-malformed");
        refused(&client.exchange(&service, "").await, missing, "token-missing");
        for (wrong, code) in [
            (json!({"aud": "acme"}), "wrong-audience"),
            (json!({"aud": "127.0.0.1:1"}), "wrong-audience"),
            (json!({"aud": [client.audience(&service), "x"]}), "audience-list"),
            (json!({"exp": service.clock_seconds() - 3600}), "token-expired"),
        ] {
            refused(&client.exchange(&service, &client.job(&service, &wrong)).await, token, code);
        }
        let good = client.job(&service, &json!({}));
        let activate = |package: &str, member: &str| {
            let (base, issuer) = (&service.base, service.provider.issuer());
            let members = client.members(&[member]);
            service.app.activate(policy(&text(base, issuer, client.dialect, "/base/", package, &members)));
        };
        let own = format!("\"{}\"", client.packages[0]);
        activate(&own, "enabled: false");
        refused(&client.exchange(&service, &good).await, rules, "registry-disabled");
        if client.dialect == "open-vsx" {
            activate("acme.other", "epoch: 0");
            refused(&client.exchange(&service, &good).await, rules, "package-not-granted");
        }
        activate(&own, "limits: {exchanges_per_minute: 1}");
        client.issued(&client.exchange(&service, &good).await);
        refused(&client.exchange(&service, &client.job(&service, &json!({}))).await, 429, "rate-limited");
    }
}

#[actix_web::test]
async fn the_body_is_one_json_object_with_a_text_for_a_token() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let (head, good) = (client.request)(&client.job(&service, &json!({})));
        let doubled = good.replacen('{', "{\"jwt\":\"x\",\"token\":\"x\",\"username\":\"x\",", 1);
        for body in ["", "[]", "null", "\"x\"", "{", "{}{}", &doubled] {
            refused(&wire::post(&service, client.path, &head, body).await, 400, "bad-request");
        }
        if client.dialect != "nuget" {
            for token in ["1", "null", "[\"a.b.c\"]", "{}"] {
                let body =
                    format!("{{\"jwt\":{token},\"token\":{token},\"namespace\":\"acme\",\"extension\":\"tools\"}}");
                refused(&wire::post(&service, client.path, &head, &body).await, 400, "bad-request");
            }
            let none = "{\"namespace\":\"acme\",\"extension\":\"tools\"}";
            refused(&wire::post(&service, client.path, &head, none).await, 400, "token-missing");
            // The content type is not looked at.
            client.issued(&wire::post(&service, client.path, &["Content-Type: text/plain".to_owned()], &good).await);
        }
        let large = format!("{{\"jwt\":\"{}\"}}", "x".repeat(33 * 1024));
        refused(&wire::post(&service, client.path, &head, &large).await, 413, "too-large");
        let mut compressed = head.clone();
        compressed.push("Content-Encoding: gzip".to_owned());
        refused(&wire::post(&service, client.path, &compressed, &good).await, 415, "unsupported-media-type");
    }
}

#[actix_web::test]
async fn the_path_is_the_registrys_and_the_endpoints_byte_for_byte() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let token = client.job(&service, &json!({}));
        let own = client.path.strip_prefix("/base").unwrap_or(client.path);
        let escaped = format!("/base/%61{}", own.strip_prefix("/a").unwrap());
        let mut wrong = vec![
            format!("/base/{own}"),
            format!("//base{own}"),
            format!("/BASE{own}"),
            format!("/bas%65{own}"),
            format!("/base/x{own}"),
            format!("/other{own}"),
            format!("/x/../base{own}"),
            format!("/base/.{own}"),
            format!("/x/base{own}"),
            escaped,
        ];
        // Where the path is kept, the root of the host is not the registry's, and where it is dropped, its path is not.
        wrong.push(if client.keeps_path { own.to_owned() } else { format!("/base{own}") });
        for path in wrong {
            let answer = client.exchange_at(&service, &path, &[], &token).await;
            assert_eq!(answer.code(), "not-found", "{} {path}: {}", client.dialect, answer.text);
            if client.keeps_path {
                refused(&answer, client.refusals[3], "not-found");
                let doubled = path == format!("/base/{own}");
                let words = if doubled { "a `/` too many at its end".to_owned() } else { format!("`{own}`") };
                assert!(answer.body["message"].as_str().unwrap().contains(&words), "{}", answer.text);
            } else {
                refused(&answer, 404, "not-found");
                let hint = path.ends_with(own).then_some("at the root of the host: `/api/oidc/mint_token`");
                assert!(answer.body["message"].as_str().unwrap().contains(hint.unwrap_or_default()), "{}", answer.text);
            }
        }
        let slash = format!("/base%2f{}", own.strip_prefix('/').unwrap());
        for path in [slash, format!("{}/", client.path), format!("{}%2f", client.path), client.path.to_uppercase()] {
            let answer = client.exchange_at(&service, &path, &[], &token).await;
            assert_eq!((answer.status, answer.code()), (404, "not-found"), "{path}: {}", answer.text);
        }
        client.issued(&client.exchange_at(&service, &format!("{}?x=y", client.path), &[], &token).await);
    }
}

#[actix_web::test]
async fn the_host_says_which_registry_and_another_dialects_registry_is_none() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let token = client.job(&service, &json!({}));
        for host in ["stranger.example", "127.0.0.1", "127.0.0.1:1"] {
            let answer = client.exchange_at(&service, client.path, &[format!("Host: {host}")], &token).await;
            refused(&answer, 421, "unknown-host");
        }
        for other in CLIENTS.iter().filter(|other| other.dialect != client.dialect) {
            let answer = other.exchange(&service, &token).await;
            refused(&answer, other.refusals[3], "not-found");
        }
        client.issued(&client.exchange(&service, &token).await);
    }
}

/// Two registries of one dialect on this host, at paths of their own.
#[actix_web::test]
async fn registries_of_one_host_are_told_apart_by_path_and_audience() {
    for client in CLIENTS.iter().filter(|client| client.keeps_path) {
        let service = Service::with_policy(|base, issuer| {
            let packages = format!("\"{}\"", client.packages[0]);
            let text = text(base, issuer, client.dialect, "/base/", &packages, &client.members(&[]));
            let other = if client.audience.is_none() { ", audiences: [other-own]" } else { "" };
            let other = format!(
                "registries:\n  other: {{dialect: {}, urls: [\"{base}/base/other/\"]{other}}}\n",
                client.dialect
            );
            let rule = format!(
                "  other-release: {{registry: other, issuer: github, when: {{repository_owner_id: \"9123456\", \
                 repository_id: \"701234567\"}}, allow: {{upload: [{packages}]}}}}\n"
            );
            policy(&(text.replacen("registries:\n", &other, 1) + &rule))
        })
        .await;
        let path = client.path.replacen("/base", "/base/other", 1);
        let audience = client.audience.map_or_else(|| "other-own".to_owned(), |of| of(host(&service)) + "/other");
        let own = client.job(&service, &json!({}));
        let others = client.job(&service, &json!({ "aud": audience }));
        refused(&client.exchange_at(&service, &path, &[], &own).await, client.refusals[1], "wrong-audience");
        refused(&client.exchange(&service, &others).await, client.refusals[1], "wrong-audience");
        let theirs = client.issued(&client.exchange_at(&service, &path, &[], &others).await);
        assert_eq!(verdict(&service, &theirs, client.packages[0]).await, "upload-token-unknown", "{}", client.dialect);
        let ours = client.issued(&client.exchange(&service, &own).await);
        assert_eq!(verdict(&service, &ours, client.packages[0]).await, "allowed", "{}", client.dialect);
    }
}

#[actix_web::test]
async fn the_audiences_are_those_that_clients_compute_and_the_policys() {
    for client in CLIENTS {
        let extra = if client.audience.is_some() { vec!["audiences: [acme-more]"] } else { vec![] };
        let service = client.service(&extra).await;
        let host = host(&service);
        let mut good = vec![client.audience(&service)];
        good.extend(client.audience.map(|_| "acme-more".to_owned()));
        if client.dialect == "open-vsx" {
            good.push(format!("https://{host}/base/"));
        }
        for audience in &good {
            let token = client.job(&service, &json!({ "aud": audience }));
            client.issued(&client.exchange(&service, &token).await);
        }
        let others = ["localhost".to_owned(), "127.0.0.1".to_owned(), host.to_owned(), format!("{host}/base")];
        let more = [format!("{host}/base/"), format!("https://{host}/base"), format!("https://{host}"), String::new()];
        for audience in others.into_iter().chain(more).filter(|audience| !good.contains(audience)) {
            let answer = client.exchange(&service, &client.job(&service, &json!({ "aud": audience }))).await;
            refused(&answer, client.refusals[1], "wrong-audience");
        }
        let mut told = service.get("/.well-known/oauth-authorization-server").await.body["trustmint_audiences"].clone();
        let told = told.as_array_mut().unwrap();
        told.sort_by_key(ToString::to_string);
        good.sort();
        assert_eq!(*told, good, "{}", client.dialect);
    }
}

#[actix_web::test]
async fn each_answer_is_its_registrys_own() {
    for client in CLIENTS {
        let service = client.service(&[]).await;
        let (head, body) = (client.request)(&client.job(&service, &json!({})));
        let url = format!("{}{}", service.base, client.path);
        let sent = head.iter().fold(service.client.post(url), |sent, line| {
            let (name, value) = line.split_once(": ").unwrap();
            sent.header(name, value)
        });
        let answer = Answer::of(sent.body(body).send().await.unwrap()).await;
        let token = client.issued(&answer);
        let expires = service.app.now().plus(std::time::Duration::from_secs(900)).to_string();
        let expected = match client.dialect {
            "crates-io" => json!({ "token": token }),
            "rubygems" => json!({
                "rubygems_api_key": token, "name": answer.body["name"], "scopes": ["push_rubygem"],
                "expires_at": expires.replace('Z', "+00:00"),
            }),
            "nuget" => json!({"tokenType": "ApiKey", "expires": expires, "apiKey": token}),
            "open-vsx" => json!({"value": token, "expiresTimestamp": expires}),
            _ => Value::Null,
        };
        assert_eq!(answer.body, expected, "{}: {}", client.dialect, answer.text);
        let media = if client.dialect == "conda" { "text/plain" } else { "application/json" };
        assert_eq!(answer.headers["content-type"], media);
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(!answer.text.ends_with('\n') && !token.as_str().unwrap().contains(char::is_whitespace));
    }
}

#[actix_web::test]
async fn what_is_at_the_root_of_the_host_is_not_hidden_by_what_any_path_may_precede() {
    let service = Client::named("nuget").service(&[]).await;
    // Envoy asks so whether its client may send that request.
    for path in CLIENTS.iter().map(|client| client.path).chain(["/-/npm/v1/oidc/token/exchange/package/widgets"]) {
        let answer = service.post_json(&format!("/v1/authorize{path}"), &json!({})).await;
        assert_eq!((answer.status, answer.text.as_str()), (403, ""), "{path}");
        assert_eq!(answer.headers["x-trustmint-code"], "bad-api-key", "{path}");
    }
}

async fn delete(service: &Service, authorization: &[&str]) -> Answer {
    let request = service.client.request(Method::DELETE, format!("{}{}", service.base, CLIENTS[0].path));
    let request = authorization.iter().fold(request, |request, value| request.header("authorization", *value));
    Answer::of(request.send().await.unwrap()).await
}

#[actix_web::test]
async fn crates_ios_action_revokes_by_delete_and_never_fails_its_job() {
    let client = Client::named("crates-io");
    let service = client.service(&[]).await;
    let issued = async || client.issued(&client.exchange(&service, &client.job(&service, &json!({}))).await);
    let kept = issued().await;
    for garbage in ["Bearer cargo-garbage", "Bearer cio_tp_x", "cargo-AgEA", "Bearer x y"] {
        let answer = delete(&service, &[garbage]).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{garbage}");
    }
    assert_eq!(verdict(&service, &kept, "acme_core").await, "allowed");
    for scheme in ["Bearer ", "bearer ", ""] {
        let token = issued().await;
        for _ in 0..2 {
            let answer = delete(&service, &[&format!("{scheme}{}", token.as_str().unwrap())]).await;
            assert_eq!(answer.status, 204, "{}", answer.text);
        }
        assert_eq!(verdict(&service, &token, "acme_core").await, "upload-token-revoked", "{scheme:?}");
    }
    let (kept, kept_again) = (kept.as_str().unwrap(), format!("Bearer {}", kept.as_str().unwrap()));
    for headers in [vec![], vec![""], vec![&kept_again, &kept_again], vec![kept, "x"], vec!["Basic eDp5"]] {
        let answer = delete(&service, &headers).await;
        refused(&answer, 401, "upload-token-missing");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"trustmint\"");
    }
    assert_eq!(verdict(&service, &json!(kept), "acme_core").await, "allowed");
    service.pass(std::time::Duration::from_secs(3600)).await;
    assert_eq!(delete(&service, &[&kept_again]).await.status, 204, "also when it has expired");
    let elsewhere = service.client.delete(format!("{}/api/v1/trusted_publishing/tokens", service.base));
    let answer = Answer::of(elsewhere.header("authorization", kept).send().await.unwrap()).await;
    refused(&answer, 404, "not-found");
}

#[actix_web::test]
async fn the_first_releases_of_crates_ios_action_exchange_by_put() {
    let client = Client::named("crates-io");
    let service = client.service(&[]).await;
    let body = json!({"jwt": client.job(&service, &json!({}))}).to_string();
    let url = format!("{}{}", service.base, client.path);
    let put = async || Answer::of(service.client.put(&url).body(body.clone()).send().await.unwrap()).await;
    client.issued(&put().await);
    refused(&put().await, 400, "token-replayed");
    let answer = Answer::of(service.client.get(&url).send().await.unwrap()).await;
    refused(&answer, 405, "method-not-allowed");
}

#[actix_web::test]
async fn nugets_id_token_is_in_one_header_and_its_body_is_checked_and_decides_nothing() {
    let client = Client::named("nuget");
    let service = client.service(&[]).await;
    let token = client.job(&service, &json!({}));
    let (good, bearer) =
        (json!({"username": "acme", "tokenType": "ApiKey"}).to_string(), format!("Authorization: Bearer {token}"));
    let post = async |head: &[&str], body: &str| {
        let head: Vec<String> = head.iter().map(|line| (*line).to_owned()).collect();
        wire::post(&service, client.path, &head, body).await
    };
    for head in [
        vec![JSON],
        vec![JSON, &bearer, &bearer],
        vec![JSON, &bearer, "Authorization: Bearer x"],
        vec![JSON, "Authorization: Basic eA=="],
        vec![JSON, "Authorization: a.b.c"],
        vec![JSON, "Authorization: Bearer"],
    ] {
        refused(&post(&head, &good).await, 401, "token-missing");
    }
    for media in
        ["Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type:", "X: y"]
    {
        refused(&post(&[media, &bearer], &good).await, 415, "unsupported-media-type");
    }
    for body in [
        json!({"tokenType": "ApiKey"}),
        json!({"username": "acme"}),
        json!({"username": "", "tokenType": "ApiKey"}),
        json!({"username": 1, "tokenType": "ApiKey"}),
        json!({"username": null, "tokenType": "ApiKey"}),
        json!({"username": ["acme"], "tokenType": "ApiKey"}),
        json!({"username": "acme", "tokenType": "apikey"}),
        json!({"username": "acme", "tokenType": true}),
        json!({"username": "acme", "tokenType": null}),
    ] {
        refused(&post(&[JSON, &bearer], &body.to_string()).await, 400, "bad-request");
    }
    let stranger = json!({"username": "mallory", "tokenType": "ApiKey"}).to_string();
    let answer = post(&["Content-Type: application/json; charset=utf-8", &bearer], &stranger).await;
    assert_eq!(verdict(&service, &client.issued(&answer), "Acme.Core").await, "allowed", "nobody asks who that is");
}

#[actix_web::test]
async fn an_extension_is_a_namespace_and_a_name_and_each_is_exchanged_for_once() {
    let client = Client::named("open-vsx");
    let service = speaking("open-vsx", "/base/", "\"acme.*\"", &[]).await;
    let token = client.job(&service, &json!({}));
    let ask = async |namespace: &Value, extension: &Value| {
        let body = json!({"namespace": namespace, "extension": extension, "token": token}).to_string();
        wire::post(&service, client.path, &[JSON.to_owned()], &body).await
    };
    for (namespace, extension) in [
        (json!(""), json!("tools")),
        (json!("acme"), json!("")),
        (json!("acme.tools"), json!("")),
        (json!(""), json!("acme.tools")),
        (json!("acme.tools"), json!("x")),
        (json!("acme"), json!("tools.x")),
        (json!("acme/tools"), json!("x")),
        (json!("acme"), json!("../x")),
        (json!("acme"), json!("tools*")),
        (json!("acme"), json!("*")),
        (json!("acme "), json!("tools")),
        (json!("acme"), json!("tools\n")),
        (json!("acme"), json!(1)),
        (json!(null), json!("tools")),
        (json!(["acme"]), json!("tools")),
    ] {
        refused(&ask(&namespace, &extension).await, 400, "bad-request");
    }
    refused(&ask(&json!("evil"), &json!("tools")).await, 403, "package-not-granted");
    let tools = client.issued(&ask(&json!("Acme"), &json!("Tools")).await);
    for (package, expected) in
        [("acme.tools", "allowed"), ("ACME.tools", "allowed"), ("acme.other", "package-not-covered")]
    {
        assert_eq!(verdict(&service, &tools, package).await, expected, "{package}");
    }
    refused(&ask(&json!("acme"), &json!("tools")).await, 400, "token-replayed");
    client.issued(&ask(&json!("acme"), &json!("other")).await);
    let native = async |scope: Option<&str>| service.exchange(&token, &json!({"scope": scope})).await;
    for scope in [None, Some("upload:acme.*"), Some("upload:acme.a upload:acme.b")] {
        assert_eq!(native(scope).await.code(), "invalid-scope", "{scope:?}");
    }
    assert_eq!(native(Some("upload:Acme.Other")).await.code(), "token-replayed");
    assert_eq!(native(Some("upload:acme.third")).await.status, 200);
}
