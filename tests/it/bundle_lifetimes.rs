//! How long a registry's own rules count: until their own end, whatever its server does, and never behind newer ones.

use std::sync::Arc;
use std::sync::Mutex;

use serde_json::json;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::bundles::BUNDLE;
use crate::support::bundles::Bench;
use crate::support::bundles::HOUR;
use crate::support::bundles::MINUTE;
use crate::support::bundles::Servers;
use crate::support::bundles::Text;
use crate::support::bundles::directory;
use crate::support::bundles::usual;
use crate::support::service::WIDGETS;

#[actix_web::test]
async fn an_older_bundle_and_another_one_of_the_same_serial_are_refused() {
    let bench = Bench::start().await;
    let first = Text::new(&bench.service, 5);
    bench.serve(&first).await;
    let words = "one with the serial 5 was in force";
    for serial in [0, 4, 5] {
        let text = Text { rules: "  {}".into(), ..Text::new(&bench.service, serial) };
        bench.refuses(text.write(), "old-serial", words).await;
    }
    assert_eq!(bench.exchange().await, "upload:gadgets");
    // The very same bytes are no other bundle.
    bench.serve(&first).await;
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!(bench.refusal(), "");
}

#[actix_web::test]
async fn when_the_server_is_gone_the_last_good_bundle_serves_until_its_own_end() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.servers.goes_down();
    bench.poll().await;
    assert!(bench.refusal().starts_with("not-fetched: "), "{}", bench.refusal());
    assert_eq!(bench.exchange().await, "upload:gadgets");
    bench.service.pass(11 * HOUR + 57 * MINUTE).await;
    assert_eq!(bench.exchange().await, "upload:gadgets", "a minute before its end");
    bench.service.pass(2 * MINUTE).await;
    assert_eq!(bench.exchange().await, "bundle-expired");
    assert_eq!(bench.explained().await, "bundle-expired", "a dry run says what an exchange says");
    // A server that says that nothing has changed does not lengthen it.
    bench.servers.publish(BUNDLE, Text { not_after: bench.service.app.now(), ..Text::new(&bench.service, 1) }.write());
    bench.poll().await;
    assert_eq!(bench.exchange().await, "bundle-expired");
    bench.service.clock.pass(5 * MINUTE);
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 2).write());
    bench.poll_now().await;
    assert_eq!(bench.exchange().await, "upload:gadgets");
}

#[actix_web::test]
async fn an_unchanged_answer_after_its_end_leaves_a_bundle_expired() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.service.pass(13 * HOUR).await;
    bench.servers.asked();
    bench.poll_now().await;
    assert!(bench.servers.asked().iter().any(|(url, etag)| url == BUNDLE && etag.is_some()));
    assert_eq!(bench.refusal(), "");
    assert_eq!(bench.exchange().await, "bundle-expired");
}

#[actix_web::test]
async fn the_directorys_rules_go_on_while_a_bundle_is_missing_or_expired() {
    let servers = Arc::new(Servers::default());
    let start = |base: &str, issuer: &str| directory(base, issuer, &usual(), WIDGETS);
    let service = Service::with_parts(start, |store| store, servers.clone()).await;
    let bench = Bench { service, servers };
    assert_eq!(bench.exchange().await, "create:widgets-*upload:widgets");
    bench.serve(&Text::new(&bench.service, 1)).await;
    assert_eq!(bench.exchange().await, "create:widgets-*upload:gadgetsupload:widgets", "they add up");
    bench.service.pass(13 * HOUR).await;
    assert_eq!(bench.exchange().await, "create:widgets-*upload:widgets");
    let other = bench.service.id_token(&json!({"repository_id": "1"}));
    assert_eq!(bench.service.mint(&json!({"token": other})).await.code(), "bundle-expired");
}

#[actix_web::test]
async fn another_directory_keeps_a_bundle_that_it_still_allows() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let activate = |bundle: &str, rules: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, rules));
    };
    activate(&usual(), WIDGETS);
    assert_eq!(bench.exchange().await, "create:widgets-*upload:gadgetsupload:widgets");
    activate(&usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]"), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing", "it grants what it may not any more");
    activate(&usual(), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing");
    bench.poll().await;
    assert_eq!(bench.exchange().await, "upload:gadgets", "the same bundle is read anew");
    activate(&usual().replace("trust/bundle.yaml", "elsewhere.yaml"), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing", "what came from there is not believed here");
}

#[actix_web::test]
async fn tokens_of_a_registrys_own_rules_are_withdrawn_with_them_and_unavailable_where_they_are_not_known() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let token = bench.service.upload_token().await;
    let question = json!({"token": token, "package": "gadgets", "exists": true});
    assert_eq!(bench.service.verify(&question).await.body["allowed"], true);
    bench.service.pass(MINUTE).await;
    let activate = |bundle: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, "  {}"));
    };
    activate(&usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]"));
    let answer = bench.service.verify(&question).await;
    assert_eq!((answer.status, answer.code()), (503, "bundle-missing"), "{}", answer.text);
    bench.serve(&Text { rules: "  {}".into(), ..Text::new(&bench.service, 2) }).await;
    let answer = bench.service.verify(&question).await;
    assert_eq!((answer.status, answer.code()), (200, "rule-withdrawn"), "{}", answer.text);
}

#[actix_web::test]
async fn a_registry_that_was_switched_off_and_on_again_goes_back_behind_nothing() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 7)).await;
    let activate = |bundle: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, "  {}"));
    };
    activate(&format!("{}\n    enabled: false", usual()));
    bench.poll().await;
    activate(&usual());
    let older = Text { rules: "  {}".into(), ..Text::new(&bench.service, 6) };
    bench.refuses(older.write(), "old-serial", "one with the serial 7 was in force").await;
    assert_eq!(bench.exchange().await, "upload:gadgets");
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 8).write());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(8)));
    // And what is in force is asked for by its entity tag, once that was seen again.
    activate(&format!("{}\n    enabled: false", usual()));
    bench.poll().await;
    activate(&usual());
    bench.servers.asked();
    for known in [false, true] {
        bench.poll().await;
        let asked = bench.servers.asked().into_iter().find(|(url, _)| url == BUNDLE).unwrap();
        assert_eq!(asked.1.is_some(), known);
    }
}

#[actix_web::test]
async fn of_two_polls_that_overlap_the_slower_brings_nothing_older_into_force() {
    let (servers, down) = (Arc::new(Servers::default()), Mutex::new(None));
    let fetch = Arc::clone(&servers);
    let behind = |store| {
        let store = Arc::new(FaultyStore::new(store));
        *down.lock().unwrap() = Some(Arc::clone(&store));
        store as Arc<dyn trustmint::state::Store>
    };
    let start = |base: &str, issuer: &str| directory(base, issuer, &usual(), "  {}");
    let bench = Bench { service: Service::with_parts(start, behind, fetch).await, servers };
    bench.serve(&Text::new(&bench.service, 7)).await;
    // The store, which would tell what else was accepted, does not answer.
    down.lock().unwrap().as_ref().unwrap().fail(Some(Fault::Refused));
    let app = &bench.service.app;
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 8) }.write());
    bench.service.clock.pass(MINUTE);
    let held = bench.servers.holds_next();
    bench.servers.goes_down_but(BUNDLE);
    let first = app.poll_bundles();
    bench.servers.are_waited_for().await;
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 9).write());
    let oftener = usual().replace("max_bytes", "poll: 10s, max_bytes");
    app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &oftener, "  {}"));
    for poll in app.poll_bundles() {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), Some(9));
    held.notify_one();
    for poll in first {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), Some(9));
}

#[actix_web::test]
async fn what_was_on_its_way_from_where_the_policy_no_longer_looks_is_not_believed() {
    let bench = Bench::start().await;
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 1).write());
    let held = bench.servers.holds_next();
    let polls = bench.service.app.poll_bundles();
    bench.servers.are_waited_for().await;
    let elsewhere = usual().replace("trust/bundle.yaml", "elsewhere.yaml");
    bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &elsewhere, "  {}"));
    held.notify_one();
    for poll in polls {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), None);
    assert_eq!(bench.exchange().await, "bundle-missing");
}

/// Two replicas, one after the other, over one store.
mod copies {
    use super::*;

    use trustmint::app::App;
    use trustmint::app::Parts;
    use trustmint::audit::AuditLog;
    use trustmint::audit::AuditSink;
    use trustmint::macaroon::Keyring;
    use trustmint::macaroon::MasterKey;
    use trustmint::policy::bundle::Lapse;
    use trustmint::state::CopyKind;
    use trustmint::state::MemoryStore;
    use trustmint::telemetry::Metrics;
    use trustmint::time::Timestamp;

    use crate::support::SetClock;
    use crate::support::bundles::GADGETS;
    use crate::support::said::Channel;
    use crate::support::said::Record;

    struct Fleet {
        clock: Arc<SetClock>,
        store: Arc<MemoryStore>,
        servers: Arc<Servers>,
    }

    impl Fleet {
        fn new() -> Self {
            let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
            let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 24));
            Self { clock, store, servers: Arc::default() }
        }

        /// A replica with this master key.
        fn replica(&self, master: u8, bundle: &str) -> App {
            let now = Timestamp::from_unix_seconds(1_800_000_000);
            let key = MasterKey::generate("k1", std::array::from_fn(|n| master ^ u8::try_from(n).unwrap()), now);
            App::build(Parts {
                policy: directory("https://pypi.acme.example", "https://ci.acme.example", bundle, "  {}"),
                keyring: Keyring::new(vec![key.unwrap()]).unwrap(),
                fetch: self.servers.clone(),
                store: self.store.clone(),
                audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 16).unwrap(),
                metrics: Arc::new(Metrics::new().unwrap()),
                clock: self.clock.clone(),
                runtime: tokio::runtime::Handle::current(),
            })
        }

        fn publish(&self, app: &App, serial: i64) {
            let text = format!(
                "registry: acme-pypi\nserial: {serial}\nnot_after: {}\nrules:{GADGETS}",
                app.now().plus(12 * HOUR)
            );
            self.servers.publish(BUNDLE, text);
        }
    }

    async fn poll(app: &App) {
        for poll in app.poll_bundles() {
            poll.await.unwrap();
        }
    }

    fn serial(app: &App) -> Option<i64> {
        app.policy().bundle("acme-pypi").map(|bundle| bundle.serial())
    }

    #[actix_web::test]
    async fn a_replica_that_starts_while_the_server_is_down_has_the_stores_copy() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        assert_eq!(serial(&first), Some(7));
        fleet.servers.goes_down();
        let second = fleet.replica(1, &usual());
        assert_eq!(serial(&second), None);
        poll(&second).await;
        assert_eq!(serial(&second), Some(7));
        // And it remembers what it must not go back behind.
        fleet.publish(&second, 6);
        fleet.clock.pass(MINUTE);
        poll(&second).await;
        assert_eq!(serial(&second), Some(7));
    }

    #[actix_web::test]
    async fn one_that_another_directory_had_no_place_for_is_had_again_while_the_server_is_down() {
        let fleet = Fleet::new();
        let app = fleet.replica(1, &usual());
        let activate = |bundle: &str| {
            app.activate(directory("https://pypi.acme.example", "https://ci.acme.example", bundle, "  {}"));
        };
        fleet.publish(&app, 7);
        poll(&app).await;
        fleet.servers.goes_down();
        let narrow = usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]");
        activate(&narrow);
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), None, "it grants what it may not any more");
        activate(&usual());
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), Some(7));
        // Nothing older follows it all the same.
        fleet.publish(&app, 6);
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), Some(7));
    }

    #[actix_web::test]
    async fn a_copy_that_has_expired_serves_nobody_and_is_still_remembered() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        fleet.clock.pass(13 * HOUR);
        let second = fleet.replica(1, &usual());
        fleet.publish(&second, 6);
        poll(&second).await;
        assert_eq!(serial(&second), None, "6 came before 7");
        let policy = second.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        assert_eq!(policy.lapse(registry, second.now()), Some(Lapse::Missing));
        fleet.publish(&second, 8);
        fleet.clock.pass(MINUTE);
        poll(&second).await;
        assert_eq!(serial(&second), Some(8));
    }

    #[actix_web::test]
    async fn what_another_wrote_into_the_store_or_for_another_place_is_not_believed() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        fleet.servers.goes_down();
        let elsewhere = usual().replace("trust/bundle.yaml", "elsewhere.yaml");
        for (app, why) in
            [(fleet.replica(2, &usual()), "another master key"), (fleet.replica(1, &elsewhere), "another URL")]
        {
            poll(&app).await;
            assert_eq!(serial(&app), None, "{why}");
        }
        // A planted copy that is sealed for another owner is none for this one.
        let planted = fleet.replica(1, &elsewhere);
        let body = b"registry: acme-pypi\nserial: 99\nnot_after: 2027-01-15T12:00:00Z\nrules: {}\n";
        let until = planted.now().plus(HOUR);
        planted.state().put_copy(CopyKind::Bundle, "acme-pypi", planted.now(), "99", body, until).await.unwrap();
        poll(&planted).await;
        assert_eq!(serial(&planted), None);
        // Untouched, and from the same place, it is believed.
        let third = fleet.replica(1, &usual());
        poll(&third).await;
        assert_eq!(serial(&third), Some(7));
    }

    #[actix_web::test]
    async fn a_replica_accepts_nothing_older_than_what_another_has_accepted() {
        let fleet = Fleet::new();
        let (first, second) = (fleet.replica(1, &usual()), fleet.replica(1, &usual()));
        for (app, shown, expected) in [
            (&first, 7, 7),
            (&second, 7, 7),
            (&first, 9, 9),
            // To the second an older one is shown, which would be new to it.
            (&second, 8, 9),
            (&second, 10, 10),
            (&first, 10, 10),
        ] {
            fleet.publish(app, shown);
            fleet.clock.pass(MINUTE);
            poll(app).await;
            assert_eq!(serial(app), Some(expected), "{shown}");
        }
        // So the store's copy never goes back.
        fleet.servers.goes_down();
        let third = fleet.replica(1, &usual());
        poll(&third).await;
        assert_eq!(serial(&third), Some(10));
    }

    #[actix_web::test]
    async fn a_replica_whose_poll_fails_takes_what_another_has_fetched_since() {
        let fleet = Fleet::new();
        let (first, second) = (fleet.replica(1, &usual()), fleet.replica(1, &usual()));
        fleet.publish(&first, 7);
        poll(&first).await;
        poll(&second).await;
        fleet.clock.pass(MINUTE);
        fleet.publish(&first, 8);
        poll(&first).await;
        fleet.servers.goes_down();
        poll(&second).await;
        assert_eq!(serial(&second), Some(8));
    }
}
