//! `/stops` on the operations listener: the switch for an emergency.

use std::future::poll_fn;
use std::io::Write as _;
use std::pin::pin;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_web::App;
use actix_web::dev::Service as _;
use actix_web::test;
use actix_web::web;
use serde_json::Value;
use serde_json::json;
use trustmint::app::Caller as Asking;
use trustmint::http;
use trustmint::http::operations::Operators;
use trustmint::policy::caller::Caller;
use trustmint::secret::sha256;
use trustmint::state::SealKeys;
use trustmint::state::State;
use trustmint::state::stops::Scope;
use trustmint::state::stops::Stop as StopMade;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::said;
use crate::support::service::Answer;
use crate::support::tenants::tenants;

async fn stop(operations: &Operations, body: &Value) -> Answer {
    let request = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY);
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

async fn list(operations: &Operations) -> Answer {
    Answer::of(operations.client.get(format!("{}/stops", operations.base)).bearer_auth(KEY).send().await.unwrap()).await
}

async fn lift(operations: &Operations, id: &str) -> Answer {
    let request = operations.client.delete(format!("{}/stops/{id}", operations.base)).bearer_auth(KEY);
    Answer::of(request.send().await.unwrap()).await
}

async fn verdict(service: &Service, token: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

fn until(service: &Service, time: Duration) -> String {
    service.app.now().plus(time).to_string()
}

const HOUR: Duration = Duration::from_secs(3600);

#[actix_web::test]
async fn a_stop_ends_exchanges_and_live_tokens_of_what_it_names_until_it_is_lifted() {
    let service = Service::with_policy(tenants).await;
    let operations = Operations::of(Arc::clone(&service.app));
    let token = service.upload_token().await;
    for scope in [
        json!({"issuer": "github"}),
        json!({"issuer": service.provider.issuer().replace("http:", "https:"), "repository_id": "701234567"}),
        json!({"registry": "acme-pypi"}),
        json!({"rule": "widgets-release"}),
        json!({"repository_id": "701234567"}),
        json!({"registry": "acme-pypi", "rule": "widgets-release", "repository_id": "701234567"}),
    ] {
        let hits = scope["issuer"].as_str().is_none_or(|issuer| issuer == "github");
        let mut body = scope.clone();
        body["reason"] = json!("stolen credentials");
        body["until"] = json!(until(&service, HOUR));
        let stopped = stop(&operations, &body).await;
        assert_eq!(stopped.status, 201, "{}", stopped.text);
        let expected = if hits { "stopped" } else { "allowed" };
        assert_eq!(verdict(&service, &token).await, expected, "{scope}");
        let refused = service.mint(&json!({"token": service.id_token(&json!({}))})).await;
        assert_eq!(refused.status == 200, !hits, "{scope}: {}", refused.text);
        if hits {
            assert_eq!((refused.status, refused.code()), (422, "stopped"), "{}", refused.text);
            assert!(!refused.text.contains("stolen credentials"), "why is the operators' business");
        }
        let listed = list(&operations).await;
        assert_eq!(listed.body["stops"].as_array().unwrap().len(), 1, "{}", listed.text);
        assert_eq!(listed.body["stops"][0]["by"], "oncall");
        let id = stopped.body["id"].as_str().unwrap();
        assert_eq!(lift(&operations, id).await.status, 200);
        assert_eq!(verdict(&service, &token).await, "allowed", "{scope}");
        let gone = lift(&operations, id).await;
        assert_eq!((gone.status, gone.code()), (404, "no-such-stop"));
        let kinds: Vec<Value> = service.audit().iter().map(|event| event["event"].clone()).collect();
        assert!(kinds.contains(&json!("stop")) && kinds.contains(&json!("lift")), "{kinds:?}");
    }
}

#[actix_web::test]
async fn a_stop_touches_nothing_else_and_ends_by_itself() {
    let service = Service::with_policy(tenants).await;
    let operations = Operations::of(Arc::clone(&service.app));
    let token = service.upload_token().await;
    for scope in [
        json!({"registry": "tools"}),
        json!({"rule": "tools-release"}),
        json!({"repository_id": "701234568"}),
        json!({"issuer": "github", "registry": "tools"}),
    ] {
        let mut body = scope.clone();
        body["reason"] = json!("r");
        body["until"] = json!(until(&service, HOUR));
        assert_eq!(stop(&operations, &body).await.status, 201);
        assert_eq!(verdict(&service, &token).await, "allowed", "{scope}");
        assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.status, 200, "{scope}");
    }
    let soon = until(&service, Duration::from_secs(60));
    let body = json!({"issuer": "github", "reason": "r", "until": soon});
    assert_eq!(stop(&operations, &body).await.status, 201);
    assert_eq!(verdict(&service, &token).await, "stopped");
    service.pass(Duration::from_secs(60)).await;
    assert_eq!(verdict(&service, &token).await, "allowed");
}

#[actix_web::test]
async fn a_denied_job_is_told_its_own_fault_and_a_stopped_one_keeps_its_token() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let body = json!({"rule": "widgets-release", "reason": "r", "until": until(&service, HOUR)});
    let stopped = stop(&operations, &body).await;
    let token = json!({"token": service.id_token(&json!({}))});
    assert_eq!(service.mint(&token).await.code(), "stopped");
    let event = service.last_event();
    assert_eq!((&event["code"], &event["rules"]), (&json!("stopped"), &json!(["widgets-release"])));
    lift(&operations, stopped.body["id"].as_str().unwrap()).await;
    assert_eq!(service.mint(&token).await.status, 200, "its first use was not claimed");
}

#[actix_web::test]
async fn an_exchange_fails_closed_when_the_list_of_stops_is_old_and_cannot_be_had() {
    let mut kept = None;
    let service = Service::with_store(tenants, |inner| {
        let store = Arc::new(FaultyStore::new(inner));
        kept = Some(Arc::clone(&store));
        store
    })
    .await;
    let store = kept.unwrap();
    service.upload_token().await;
    service.clock.pass(Duration::from_secs(31));
    let token = json!({"token": service.id_token(&json!({}))});
    for fault in [Fault::Refused, Fault::Silent] {
        store.fail(Some(fault));
        let answer = service.mint(&token).await;
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{fault:?}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
    }
    store.fail(None);
    assert_eq!(service.mint(&token).await.status, 200, "it asks for the list itself");
}

#[actix_web::test]
async fn a_clock_that_ran_ahead_makes_no_old_list_young() {
    let mut kept = None;
    let service = Service::with_store(tenants, |inner| {
        kept = Some(State::new(Arc::clone(&inner), SealKeys::new(Vec::new())));
        inner
    })
    .await;
    let (elsewhere, token) = (kept.unwrap(), service.upload_token().await);
    service.pass(HOUR).await;
    service.clock.go_back(HOUR);
    let scope = Scope { registry: Some("acme-pypi".to_owned()), ..Scope::default() };
    let (at, by, reason) = (service.app.now(), "oncall".to_owned(), "r".to_owned());
    elsewhere.stop(&StopMade { scope, reason, by, at, until: at.plus(HOUR) }).await.unwrap();
    // Nobody has told this replica, and it does not take itself for well informed.
    assert_eq!(verdict(&service, &token).await, "store-unavailable");
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.code(), "stopped");
}

#[actix_web::test]
async fn a_stop_is_read_strictly_and_only_from_operators() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let soon = until(&service, HOUR);
    for (body, status, words) in [
        (json!({"reason": "r", "until": soon}), 400, "say what to stop"),
        (json!({"issuer": "github", "until": soon}), 400, "`reason` is missing"),
        (json!({"issuer": "github", "reason": "r"}), 400, "`until` is missing"),
        (json!({"issuer": "github", "reason": "r", "until": "tomorrow"}), 400, "a time like"),
        (json!({"issuer": "github", "reason": "r", "until": until(&service, Duration::ZERO)}), 400, "after now"),
        (json!({"issuer": "github", "reason": "r", "until": until(&service, 25 * HOUR)}), 400, "at most a day"),
        (json!({"issuer": "gitbub", "reason": "r", "until": soon}), 404, "no issuer"),
        (json!({"registry": "acme", "reason": "r", "until": soon}), 400, "no registry"),
        (json!({"rules": "a", "reason": "r", "until": soon}), 400, "`rules` is not a member"),
        (json!({"rule": "", "reason": "r", "until": soon}), 400, "`rule`"),
    ] {
        let answer = stop(&operations, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.body["message"].as_str().unwrap().contains(words), "{words}: {}", answer.text);
    }
    for id in ["x", "1-0", "18446744073709551615-0"] {
        assert_eq!(lift(&operations, id).await.code(), "no-such-stop", "{id}");
    }
    let url = format!("{}/stops", operations.base);
    let body = json!({"issuer": "github", "reason": "r", "until": soon}).to_string();
    for request in [
        operations.client.post(&url).body(body.clone()),
        operations.client.post(&url).bearer_auth("another").body(body),
        operations.client.get(&url),
        operations.client.delete(format!("{url}/1-0")),
    ] {
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code()), (401, "bad-api-key"), "{}", answer.text);
    }
    assert_eq!(list(&operations).await.body["stops"], json!([]));
    assert_eq!(service.get("/stops").await.status, 404, "not on the public side");
}

#[actix_web::test]
async fn a_stop_or_lift_whose_answer_was_lost_is_recorded_as_one_that_may_hold() {
    let (service, store) = faulty::service().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let body = json!({"rule": "widgets-release", "reason": "INC-9", "until": until(&service, HOUR)});
    let held = async || {
        store.fail(None);
        service.app.sync().await.unwrap();
        list(&operations).await.body["stops"].as_array().unwrap().clone()
    };
    let unanswered = |answer: &Answer, kind: &str| {
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
        assert!(answer.body["message"].as_str().unwrap().contains(&format!("the {kind} may hold")), "{}", answer.text);
        let event = service.last_event();
        assert_eq!((&event["event"], &event["decision"]), (&json!(kind), &json!("fault")), "{event}");
        assert_eq!((&event["code"], &event["class"]), (&json!("store-unavailable"), &json!("unavailable")));
        let why = &event["explanation"];
        assert_eq!((&why["caller"], &why["reason"]), (&json!("oncall"), &json!("INC-9")));
        assert_eq!(why["scope"], json!({"rule": "widgets-release"}));
        why["stop"].clone()
    };
    store.fail(Some(Fault::Refused));
    assert_eq!(unanswered(&stop(&operations, &body).await, "stop"), Value::Null);
    assert_eq!(held().await, Vec::<Value>::new());
    store.fail(Some(Fault::AnswerLost));
    unanswered(&stop(&operations, &body).await, "stop");
    let stops = held().await;
    assert_eq!(stops.len(), 1, "it holds: {stops:?}");
    let id = stops[0]["id"].as_str().unwrap();

    store.fail(Some(Fault::Refused));
    assert_eq!(unanswered(&lift(&operations, id).await, "lift"), id);
    assert_eq!(held().await.len(), 1);
    store.fail(Some(Fault::AnswerLost));
    assert_eq!(unanswered(&lift(&operations, id).await, "lift"), id);
    assert_eq!(held().await, Vec::<Value>::new());
    // What is not there was not lifted by whoever asks.
    let before = service.audit().len();
    store.fail(Some(Fault::Refused));
    assert_eq!(lift(&operations, id).await.code(), "no-such-stop");
    assert_eq!(service.audit().len(), before);
}

#[actix_web::test]
async fn a_stop_or_lift_that_surely_does_not_hold_is_told_so_and_not_recorded() {
    let (service, store) = faulty::service().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let body = json!({"rule": "another", "reason": "INC-9", "until": until(&service, HOUR)});
    let id = stop(&operations, &body).await.body["id"].as_str().unwrap().to_owned();
    let events = service.audit().len();
    for (fault, words) in [(Fault::Full, "has no room"), (Fault::NotAsked, "was not asked")] {
        for kind in ["stop", "lift"] {
            store.fail(Some(fault));
            let answer = if kind == "stop" { stop(&operations, &body).await } else { lift(&operations, &id).await };
            assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
            let said = answer.body["message"].as_str().unwrap();
            assert!(said.contains(&format!("the {kind} does not hold")) && said.contains(words), "{said}");
            assert_eq!(service.audit().len(), events, "{kind}: {fault:?}");
            store.fail(None);
            service.app.sync().await.unwrap();
            assert_eq!(list(&operations).await.body["stops"].as_array().unwrap().len(), 1, "{kind}: {fault:?}");
        }
    }
}

#[actix_web::test]
async fn a_stop_or_lift_that_is_cut_off_while_it_waits_for_the_store_is_recorded() {
    let (service, store) = faulty::service().await;
    let now = service.app.now();
    let caller = Asking { request_id: "019ac0de-0000-7000-8000-000000000000".to_owned(), client: None };
    let stop = StopMade {
        scope: Scope { rule: Some("widgets-release".to_owned()), ..Scope::default() },
        reason: "INC-9".to_owned(),
        by: "oncall".to_owned(),
        at: now,
        until: now.plus(HOUR),
    };
    let name = service.app.stop(&stop, &caller).await.unwrap();
    let events = service.audit().len();
    store.fail(Some(Fault::Held));
    {
        // What a thread of the server does that ends.
        let mut stopped = pin!(service.app.stop(&stop, &caller));
        let mut lifted = pin!(service.app.lift(name, "another", &caller, now));
        poll_fn(|context| {
            assert!(stopped.as_mut().poll(context).is_pending() && lifted.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(service.audit().len(), events, "they may still be answered");
    }
    let [lifted, stopped] = &service.audit()[events..] else { panic!("{:?}", service.audit()) };
    for (event, kind, by, id) in
        [(stopped, "stop", "oncall", Value::Null), (lifted, "lift", "another", json!(name.to_string()))]
    {
        assert_eq!([&event["event"], &event["decision"], &event["code"]], [kind, "fault", "store-unavailable"]);
        let why = &event["explanation"];
        assert_eq!((&why["caller"], &why["stop"], &why["reason"]), (&json!(by), &id, &json!("INC-9")));
        assert_eq!(why["scope"], json!({"rule": "widgets-release"}));
    }
}

#[actix_web::test]
async fn the_verb_stops_lists_and_lifts() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let token = service.upload_token().await;
    let run = async |arguments: &[&str], key: &'static str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
        command.args(["stop", "--url", &operations.base]).args(arguments).stdin(Stdio::piped());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.as_ref().unwrap().write_all(key.as_bytes()).unwrap();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
        said::printed(&command, &output);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let stopping = ["--rule", "widgets-release", "--reason", "INC-7", "--for", "8h", "--json"];
    let (code, text) = run(&stopping, KEY).await;
    assert_eq!(code, 0, "{text}");
    let stopped: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&stopped["rule"], &stopped["by"]), (&json!("widgets-release"), &json!("oncall")));
    assert_eq!(verdict(&service, &token).await, "stopped");
    let id = stopped["id"].as_str().unwrap();
    let (code, text) = run(&["--list"], KEY).await;
    assert!(code == 0 && text.contains(id) && text.contains("by oncall: INC-7"), "{text}");
    let (code, text) = run(&["--lift", id], KEY).await;
    assert!(code == 0 && text.starts_with("Lifted: "), "{text}");
    assert_eq!(verdict(&service, &token).await, "allowed");
    let (code, text) = run(&["--lift", id], KEY).await;
    assert!(code == 1 && text.contains("no stop of that name"), "{text}");
    let (code, text) = run(&stopping, "another key").await;
    assert!(code == 1 && text.contains("bad-api-key"), "{text}");
    for wrong in [&["--reason", "r"][..], &["--rule", "r"], &["--list", "--rule", "r"], &["--rule", "r", "--for", "8"]]
    {
        assert_eq!(run(wrong, KEY).await.0, 2, "{wrong:?}");
    }
}

#[actix_web::test]
async fn a_stop_whose_operator_has_gone_is_recorded_all_the_same() {
    let mut faulty = None;
    let service = Service::with_store(tenants, |store| {
        let store = Arc::new(FaultyStore::new(store));
        faulty = Some(Arc::clone(&store));
        store
    });
    let (service, store) = (service.await, faulty.unwrap());
    let oncall = Caller { name: "oncall".into(), key_sha256: sha256(KEY.as_bytes()) };
    let operators = web::Data::new(Operators::new(Arc::clone(&service.app), vec![oncall]));
    let server = test::init_service(App::new().configure(http::operations_routes(operators))).await;
    let body = json!({"rule": "widgets-release", "reason": "INC-9", "until": until(&service, HOUR)});
    let request = test::TestRequest::post().uri("/stops").insert_header(("authorization", format!("Bearer {KEY}")));
    store.fail(Some(Fault::Held));
    {
        // What the server does when a connection is reset.
        let mut call = std::pin::pin!(server.call(request.set_payload(body.to_string()).to_request()));
        tokio::select! {
            _ = &mut call => panic!("the store holds the stop"),
            () = store.held(1) => {}
        }
    }
    store.fail(None);
    let recorded = async {
        while service.audit().iter().all(|event| event["event"] != "stop") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recorded).await.expect("the stop is recorded");
}
