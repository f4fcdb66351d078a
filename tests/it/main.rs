//! The one integration binary: a file per behaviour, a function per sentence.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    unreachable_pub,
    reason = "a helper that panics is a test that fails"
)]

mod attacks;
mod audit;
mod audit_verb;
mod authorize;
mod bundle_lifetimes;
mod bundles;
mod causes;
mod chart;
mod claim_attacks;
mod clients;
mod clients_cargo;
mod clients_conda;
mod clients_gem;
mod clients_nuget;
mod demo;
mod dialects;
mod disclosure;
mod docs;
mod draining;
mod ecosystems;
mod editor;
mod exchange;
mod exchange_attacks;
mod explain;
mod families;
mod fuzz_corpus;
mod hostile_tokens;
mod issuer_attacks;
mod issuer_probe;
mod js_clients;
mod key_attacks;
mod key_histories;
mod key_rotation;
mod limits;
mod loopback_provider;
mod loopback_registry;
mod macaroon_oracle;
mod macaroon_vectors;
mod master_keys;
mod measures;
mod npm;
mod offline;
mod openapi;
mod operations;
mod otlp;
mod pins;
mod plug_in;
mod policy_corpus;
mod policy_diff;
mod policy_explain;
mod policy_lint;
mod policy_properties;
mod presets_implied;
mod presets_traps;
mod prometheus;
mod providers;
mod pymacaroons;
mod pypi;
mod pypi_codec;
mod pypitoken;
mod rates;
mod redis_attacker;
mod redis_failover;
mod redis_service;
mod refused_clients;
mod registry_api;
mod registry_attacks;
mod reload;
mod reload_under_load;
mod replay;
mod replay_modes;
mod revocation;
mod rule_tests;
mod runbooks;
mod schemathesis;
mod serve;
mod settings_corpus;
mod shared_keys;
mod slow_clients;
mod state_loss;
mod stolen_token;
mod stops;
mod store_contract;
mod store_down;
mod store_drills;
mod support;
mod tidy;
mod token_attacks;
mod token_exchange;
mod token_verbs;
mod two_replicas;
mod verify;
mod walkthrough;
mod wycheproof;
