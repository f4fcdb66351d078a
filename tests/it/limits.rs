//! What one caller can make the service do, and what stays out of its records.

use std::fmt::Write as _;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use actix_web::web;
use serde_json::Value;
use serde_json::json;
use trustmint::code::Code;
use trustmint::http::Public;

use crate::support::Service;
use crate::support::service::Answer;
use crate::support::tenants::narrowed;
use crate::support::wire::raw;

#[actix_web::test]
async fn headers_and_request_line_have_sixteen_kibibytes_together() {
    let service = Service::start().await;
    let get = async |path: &str, headers: usize| {
        let mut sent = service.client.get(format!("{}{path}", service.base));
        for number in 0..headers {
            sent = sent.header(format!("x-padding-{number}"), "x".repeat(1000));
        }
        Answer::of(sent.send().await.unwrap()).await
    };
    assert_eq!(get("/_/oidc/audience", 15).await.status, 200);
    for answer in [
        get("/_/oidc/audience", 17).await,
        get("/_/oidc/audience", 60).await,
        get(&format!("/_/oidc/audience?{}", "x".repeat(17_000)), 0).await,
        get(&format!("/{}", "x/".repeat(9000)), 0).await,
        get(&format!("/_/oidc/audience?{}", "x".repeat(8000)), 9).await,
    ] {
        assert_eq!((answer.status, answer.code()), (431, "headers-too-large"), "{}", answer.text);
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[actix_web::test]
async fn a_body_without_a_length_has_the_same_bound() {
    let service = Service::start().await;
    for path in ["/v1/token", "/v1/revoke", "/_/oidc/mint-token", "/_/oidc/burn-token"] {
        let length = service.post(path, "application/x-www-form-urlencoded", vec![b'x'; 40_000]).await;
        assert_eq!((length.status, length.code()), (413, "too-large"), "{path}: {}", length.text);
        let host = service.base.strip_prefix("https://").unwrap();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        for _ in 0..33 {
            write!(request, "400\r\n{}\r\n", "x".repeat(1024)).unwrap();
        }
        request.push_str("0\r\n\r\n");
        let chunked = raw(&service, request.into_bytes()).await;
        assert!(chunked.starts_with("HTTP/1.1 413 "), "{path}: {chunked}");
    }
}

#[actix_web::test]
async fn a_flood_of_exchanges_is_shed_and_does_not_touch_registries() {
    let service = Service::start().await;
    let public = Public::new(service.app.clone(), Vec::new());
    let mut held = Vec::new();
    let refusal = loop {
        match public.admit_exchange().await {
            Ok(place) => held.push(place),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code(), Code::Overloaded);
    assert!(public.admit_registry_call().await.is_ok());
    let ends = async {
        tokio::task::yield_now().await;
        held.pop();
    };
    let (patient, ()) = tokio::join!(public.admit_exchange(), ends);
    assert!(patient.is_ok(), "in a burst one waits for another's place");
}

#[actix_web::test]
async fn plain_http_gets_nothing_from_a_tls_listener() {
    let service = Service::start().await;
    let address = service.base.strip_prefix("https://").unwrap().to_owned();
    let answer = web::block(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"POST /_/oidc/mint-token HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The end of the stream or a reset: both say no.
        drop(stream.read_to_end(&mut answer));
        answer
    })
    .await
    .unwrap();
    assert!(!answer.starts_with(b"HTTP"));
}

#[actix_web::test]
async fn one_event_records_each_proven_outcome_and_none_an_unproven_one() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    assert_eq!(service.audit().len(), 1);
    let mut total = 1;
    let id_token = service.id_token(&json!({}));
    let mut forged = id_token.clone();
    forged.truncate(id_token.len() - 8);
    forged.push_str("AAAAAAAA");
    for body in [
        json!({}),
        json!({"token": "garbage"}),
        json!({"token": forged}),
        json!({"token": service.id_token(&json!({"iss": "https://evil.example"}))}),
        json!({"token": service.id_token(&json!({"exp": 1}))}),
        json!({"token": service.id_token(&json!({"aud": "other"}))}),
        json!({"token": id_token, "features": ["unknown"]}),
    ] {
        let answer = service.mint(&body).await;
        assert_ne!(answer.status, 200);
        assert_eq!(service.audit().len(), total, "{}: {:?}", answer.text, service.audit().last());
    }
    for (claims, code) in [(json!({"environment": "x"}), "environment-mismatch"), (json!({}), "ok")] {
        let answer = service.mint(&json!({"token": service.id_token(&claims)})).await;
        total += 1;
        assert_eq!(service.audit().len(), total);
        let event = service.last_event();
        assert_eq!((&event["code"], &event["event"]), (&json!(code), &json!("exchange")));
        assert_eq!(event["request_id"], answer.headers["x-request-id"].to_str().unwrap());
        assert_eq!(event["client"], "127.0.0.1");
    }
    assert_eq!(service.last_event()["granted"], json!(["create:widgets-*", "upload:widgets"]));
    let question = json!({"token": token, "package": "widgets", "exists": true});
    service.verify(&question).await;
    service.verify(&json!({"token": token, "package": "gadgets", "exists": true})).await;
    assert_eq!(service.audit().len(), total + 2);
    assert_eq!(service.last_event()["requested"], json!(["upload:gadgets"]));
    service.verify(&json!({"token": "pypi-garbage", "package": "gadgets", "exists": true})).await;
    service.verify(&json!({"token": token})).await;
    assert_eq!(service.audit().len(), total + 2);
    service.post_json("/_/oidc/burn-token", &json!({"token": token})).await;
    service.post_json("/_/oidc/burn-token", &json!({"token": "garbage"})).await;
    assert_eq!(service.audit().len(), total + 3);
    service.verify(&question).await;
    assert_eq!(service.audit().len(), total + 4);
    let (denied, revoked) = (&service.last_event()["decision"], &service.last_event()["code"]);
    assert_eq!((denied, revoked), (&json!("deny"), &json!("upload-token-revoked")));
}

#[actix_web::test]
async fn no_record_and_no_refusal_has_a_token() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let id_token = service.id_token(&json!({"environment": "x"}));
    let mut answers = Vec::new();
    let tail = |token: &str| token.chars().skip(token.len() / 2).take(24).collect::<String>();
    for body in [
        json!({"token": id_token}),
        json!({"token": format!("{id_token}.x")}),
        json!({"token": token}),
        json!({"token": [id_token]}),
        json!({"token": id_token, "features": [id_token]}),
        json!({(id_token.clone()): 1, (token.clone()): 1}),
    ] {
        answers.push(service.mint(&body).await);
        answers.push(service.post_json("/v1/token", &body).await);
        let form = format!("token={token}&{id_token}=1&{id_token}=1");
        answers.push(service.post("/v1/token", "application/x-www-form-urlencoded", form.clone()).await);
        answers.push(service.post("/v1/revoke", "application/x-www-form-urlencoded", form).await);
    }
    let copy = narrowed(&token, "color red");
    for token in [&token, &copy, &id_token] {
        for package in ["gadgets", "widgets", token.as_str()] {
            answers.push(service.verify(&json!({"token": token, "package": package, "exists": true})).await);
            answers.push(service.verify(&json!({"token": token, "package": "widgets", "version": token})).await);
        }
    }
    let secrets = [tail(&id_token), tail(&token), tail(&copy)];
    let says_none = |text: &str| {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
    };
    for answer in &answers {
        says_none(&answer.text);
    }
    let audit = Value::Array(service.audit()).to_string();
    says_none(&audit);
    assert!(!audit.contains("eyJ") && !audit.contains("pypi-Ag"), "{audit}");
    says_none(&service.app.metrics().render().unwrap());
}

#[actix_web::test]
async fn what_is_not_http_is_refused_without_a_word_about_the_service() {
    let service = Service::start().await;
    let host = service.base.strip_prefix("https://").unwrap();
    for request in [
        format!("GET /_/oidc/audience HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        "GET /_/oidc/audience HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /_/oidc/audience HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET http://evil.example/_/oidc/audience HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        format!(
            "POST /_/oidc/mint-token HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: \
             2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}"
        ),
        format!("GET /_/oidc/audience HTTP/1.1\r\nHost : {host}\r\nConnection: close\r\n\r\n"),
        "\0\r\n\r\n".to_owned(),
    ] {
        let answer = raw(&service, request.clone().into_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or("400");
        assert!(["400", "422"].contains(&status), "{request:?}: {answer}");
        let head = answer.to_ascii_lowercase();
        assert!(!head.contains("server:") && !head.contains("actix"), "{answer}");
    }
}
