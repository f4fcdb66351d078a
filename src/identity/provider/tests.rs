use super::*;
use crate::identity::claims::Claims;
use crate::identity::issuer::IssuerUrl;

/// The claims of an example, for the tests of its preset.
pub(super) fn claims(provider: &Provider, name: &str, overrides: &serde_json::Value) -> Claims {
    let overrides = Json::parse(overrides.to_string().as_bytes()).unwrap();
    let raw = (provider.example(name).unwrap().claims)(overrides.as_object().unwrap());
    let derived = provider.derive(&raw);
    Claims::new(raw, derived)
}

/// What an example's claims are to be, `None` for those that it does not have.
#[track_caller]
pub(super) fn check(
    provider: &Provider,
    example: &str,
    overrides: &serde_json::Value,
    expected: &[(&str, Option<&str>)],
) {
    let claims = claims(provider, example, overrides);
    for (name, text) in expected {
        assert_eq!(claims.string(name), *text, "{example} {overrides}: {name}");
    }
}

/// Whether the preset knows the claim; one that knows none takes any.
fn knows(provider: &Provider, name: &str) -> bool {
    provider.claims.is_empty() || provider.claim(name).is_some()
}

fn is_of(kind: Kind, value: &Json) -> bool {
    match kind {
        Kind::String => matches!(value, Json::String(_)),
        Kind::Integer => matches!(value, Json::Int(_)),
        Kind::Bool => matches!(value, Json::Bool(_)),
        Kind::List => matches!(value, Json::Array(_)),
        Kind::Any => true,
    }
}

#[test]
fn presets_and_examples_are_found_by_name() {
    for provider in ALL {
        assert!(std::ptr::eq(by_name(provider.name).unwrap(), *provider));
        for example in provider.examples {
            assert_eq!(provider.example(example.name).unwrap().name, example.name);
        }
    }
    assert!(by_name("GitHub").is_none());
    assert!(github::PROVIDER.example("github/tag-push").is_none());
}

#[test]
fn a_record_names_only_claims_that_it_knows() {
    for provider in ALL {
        let implied = provider.implied.iter().map(|implied| &implied.claim);
        let from = provider.derived.iter().flat_map(|derived| derived.from);
        let aliased = provider.aliases.iter().map(|(_, claim)| claim);
        let freed = provider.spans.iter().flat_map(|span| span.frees);
        let named = [provider.pins, provider.narrows, provider.required, provider.public, provider.provenance].concat();
        for name in named.iter().chain(implied).chain(from).chain(aliased).chain(freed) {
            assert!(knows(provider, name), "{}: {name}", provider.name);
        }
        for implied in provider.implied {
            if let ImpliedTest::SameAs(other) | ImpliedTest::AbsentOrSameAs(other) = implied.test {
                assert!(knows(provider, other), "{}: {other}", provider.name);
            }
        }
    }
}

#[test]
fn a_wider_scope_frees_pins_and_leaves_the_owners() {
    for provider in ALL {
        for span in provider.spans {
            let place = format!("{}: {}", provider.name, span.name);
            assert!(std::ptr::eq(provider.span(span.name).unwrap(), span), "{place} is there twice");
            assert!(!span.frees.is_empty(), "{place} frees nothing");
            for name in span.names {
                assert!(provider.claim(name).is_some() && !provider.pins.contains(name), "{place}: {name}");
            }
            for freed in span.frees {
                assert!(provider.pins.contains(freed), "{place}: {freed} is no pin");
            }
            // The owner comes first, and what is left of it has to be an identifier, which no name is.
            let left: Vec<_> = provider.pins.iter().filter(|pin| !span.frees.contains(pin)).collect();
            let is_id = |pin: &str| pin.ends_with("_id") || pin.ends_with("-id") || pin.ends_with("Uuid");
            assert!(left.first().is_some_and(|pin| *pin == &provider.pins[0] && is_id(pin)), "{place} leaves {left:?}");
        }
        assert!(provider.span("").is_none());
    }
    assert_eq!(github::PROVIDER.span("owner").unwrap().frees, ["repository_id"]);
    assert!(github::PROVIDER.span("namespace").is_none());
    // Where owner and project are names, or one claim, there is nothing to leave out.
    for provider in [&google::PROVIDER, &kubernetes::PROVIDER, &spacelift::PROVIDER, &jenkins::PROVIDER] {
        assert!(provider.spans.is_empty(), "{}", provider.name);
    }
}

#[test]
fn what_narrows_a_project_is_no_pin_and_some_job_has_it() {
    for provider in ALL {
        for name in provider.narrows {
            assert!(!provider.pins.contains(name), "{}: {name}", provider.name);
            let has = |example: &Example| claims(provider, example.name, &serde_json::json!({})).get(name).is_some();
            assert!(provider.examples.iter().any(has), "{}: {name}", provider.name);
        }
    }
    let narrows = |name: &str| by_name(name).unwrap().narrows;
    assert_eq!(narrows("buildkite"), ["tag", "build_tag", "branch", "build_branch"]);
    for name in ["forgejo", "depot"] {
        assert_eq!(narrows(name), ["workflow_file", "workflow_ref"]);
    }
}

#[test]
fn a_name_means_one_thing() {
    for provider in ALL {
        let claims = provider.claims.iter().chain(provider.derived.iter().map(|derived| &derived.claim));
        let names: Vec<_> =
            claims.map(|claim| claim.name).chain(provider.aliases.iter().map(|(alias, _)| *alias)).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{}", provider.name);
    }
}

#[test]
fn short_names_steer_the_examples() {
    for provider in ALL {
        for (alias, claim) in provider.aliases {
            let overrides = serde_json::json!({*alias: "mine"});
            for example in provider.examples {
                let claims = claims(provider, example.name, &overrides);
                assert!(claims.raw().get(alias).is_none(), "{}/{}: {alias}", provider.name, example.name);
                // A claim deep in one that the job lacks is not there either.
                let lacks = provider.name == "google" && claims.raw().get("google").is_none();
                let expected = Some("mine").filter(|_| !lacks);
                assert_eq!(claims.string(claim), expected, "{}/{}: {alias}", provider.name, example.name);
            }
        }
    }
}

#[test]
fn every_host_and_name_belongs_to_one_preset() {
    for (position, provider) in ALL.iter().enumerate() {
        for other in ALL.iter().skip(position + 1) {
            assert_ne!(provider.name, other.name);
            assert!(provider.hosts.iter().all(|host| !other.hosts.contains(host)));
        }
        if let Some(url) = provider.site.owned_url() {
            let url = IssuerUrl::parse(url).unwrap();
            assert_eq!(owner(url.host()).map(|owner| owner.name), Some(provider.name));
            assert!(!provider.pins.is_empty(), "{} is shared and pins nothing", provider.name);
        }
    }
}

#[test]
fn a_host_that_many_share_is_known_as_such_or_has_a_preset() {
    for host in [
        "federation.namespaceapis.com",
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "oidc.vercel.com",
        "oidc.cirrus-ci.com",
        "oidc.fly.io",
        "eu-oidc.buddyusercontent.com",
        "oidc.buddyusercontent.com",
        "app3.harness.io",
    ] {
        assert!(is_shared(host) && owner(host).is_none(), "{host}");
    }
    for host in ["oidc.vercel.com.acme.example", "jenkins.acme.example", "notharness.io", "harness.io.acme.example"] {
        assert!(!is_shared(host), "{host}");
    }
    for (host, preset) in [
        ("oidc.circleci.com", "circleci"),
        ("agent.buildkite.com", "buildkite"),
        ("api.bitbucket.org", "bitbucket"),
        ("vstoken.dev.azure.com", "azure-devops"),
        ("oidc.codefresh.io", "codefresh"),
        ("acme.semaphoreci.com", "semaphore"),
        ("app.terraform.io", "hcp-terraform"),
        ("app.eu.terraform.io", "hcp-terraform"),
        ("acme.app.spacelift.io", "spacelift"),
        ("acme.app.us.spacelift.io", "spacelift"),
        ("identity.depot.dev", "depot"),
        ("container.googleapis.com", "kubernetes"),
        ("westeurope.oic.prod-aks.azure.com", "kubernetes"),
        ("oidc.eks.eu-west-1.amazonaws.com", "kubernetes"),
        ("oidc.eks.cn-north-1.amazonaws.com.cn", "kubernetes"),
        ("oidc-eks.eu-west-1.api.aws", "kubernetes"),
        ("3f1e.tokens.sts.global.api.aws", "aws"),
    ] {
        assert_eq!(owner(host).map(|owner| owner.name), Some(preset), "{host}");
    }
}

#[test]
fn a_domain_covers_what_is_below_it() {
    let below = HostName::Below("ghe.com");
    assert!(below.covers("acme.ghe.com") && below.covers("token.actions.acme.ghe.com"));
    for host in ["ghe.com", "notghe.com", "ghe.com.evil.example", "acme-ghe.com"] {
        assert!(!below.covers(host), "{host}");
    }
    assert!(HostName::Is("gitlab.com").covers("gitlab.com") && !HostName::Is("gitlab.com").covers("x.gitlab.com"));
}

#[test]
fn a_region_is_one_label_between_two_parts() {
    let region = HostName::Between("oidc.eks.", ".amazonaws.com");
    assert!(region.covers("oidc.eks.eu-west-1.amazonaws.com") && region.covers("oidc.eks.x.amazonaws.com"));
    for host in [
        "oidc.eks.amazonaws.com",
        "oidc.eks..amazonaws.com",
        "oidc.eks.a.b.amazonaws.com",
        "oidc.eks.eu-west-1.amazonaws.com.evil.example",
        "x.oidc.eks.eu-west-1.amazonaws.com",
        "oidc.eks.eu-west-1.evilamazonaws.com",
    ] {
        assert!(!region.covers(host), "{host}");
    }
}

#[test]
fn a_name_that_every_cluster_has_is_local() {
    for host in ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"] {
        assert!(is_local(host), "{host}");
    }
    for host in ["kubernetes.acme.example", "mykubernetes", "kubernetes.default.acme.example", "svc.acme.example"] {
        assert!(!is_local(host), "{host}");
    }
}

#[test]
fn only_a_service_accounts_address_is_one() {
    for text in [
        "releaser@acme-prod.iam.gserviceaccount.com",
        "739419398126-compute@developer.gserviceaccount.com",
        "acme-prod@appspot.gserviceaccount.com",
    ] {
        assert!(Form::ServiceAccount.fits(text), "{text}");
    }
    for text in [
        "",
        "sam@example.com",
        "releaser@gserviceaccount.com",
        "@acme.iam.gserviceaccount.com",
        "releaser@acme.iam.gserviceaccount.com.evil.example",
        "a@b@acme.iam.gserviceaccount.com",
        "acme.iam.gserviceaccount.com",
        "releaser@evilgserviceaccount.com",
    ] {
        assert!(!Form::ServiceAccount.fits(text), "{text}");
    }
    for form in [Form::Decimal, Form::Uuid, Form::BracedUuid, Form::ServiceAccount] {
        assert!(form.fits(form.example()), "{form:?}");
    }
    assert!(google::PROVIDER.claim("email").is_some_and(|claim| claim.form == Form::ServiceAccount));
}

#[test]
fn no_address_is_public() {
    for provider in ALL {
        for name in provider.public {
            assert!(!["email", "user_email", "user_identities", "hd"].contains(name), "{}", provider.name);
        }
        for name in provider.provenance {
            assert!(provider.public.contains(name), "{}: {name}", provider.name);
        }
        for example in provider.examples {
            let raw = (example.claims)(&Object::default());
            let derived = provider.derive(&raw);
            let claims = Claims::new(raw, derived);
            let shown = provider.public.iter().filter_map(|name| claims.string(name));
            assert!(shown.into_iter().all(|text| !text.contains("@example.com") && !text.contains("gserviceaccount")));
        }
    }
}

#[test]
fn examples_are_tokens_of_a_job() {
    for provider in ALL {
        assert!(!provider.examples.is_empty());
        for example in provider.examples {
            let claims = claims(provider, example.name, &serde_json::json!({}));
            let place = format!("{}/{}", provider.name, example.name);
            for name in provider.required.iter().chain(provider.pins) {
                assert!(claims.get(name).is_some(), "{place} lacks {name}");
            }
            for claim in provider.claims {
                let value = claims.get(claim.name);
                let text = value.and_then(Json::as_str).filter(|text| !text.is_empty());
                assert!(text.is_none_or(|text| claim.form.fits(text)), "{place}: {} has another form", claim.name);
                assert!(value.is_none_or(|value| is_of(claim.kind, value)), "{place}: the type of {}", claim.name);
            }
            let derived = provider.derive(claims.raw());
            let claims = claims.raw();
            for (name, value) in claims.iter() {
                assert!(knows(provider, name), "{place}: {name}");
                let kind = provider.claim(name).map_or(Kind::Any, |claim| claim.kind);
                assert!(is_of(kind, value), "{place}: {name} is {}", value.type_name());
            }
            for name in ["iss", "aud", "exp", "nbf", "iat", "jti"] {
                assert!(claims.get(name).is_none(), "{place}: {name}");
            }
            assert!(derived.iter().all(|(_, value)| value.as_ref().is_none_or(|v| *v != Json::Null)));
        }
    }
}

#[test]
fn overrides_replace_add_and_take_away() {
    for provider in ALL {
        for example in provider.examples {
            let overrides = Object::default()
                .with("sub", Json::String("mine".to_owned()))
                .with("further", Json::Int(7))
                .with("ref", Json::Null);
            let claims = (example.claims)(&overrides);
            assert_eq!(claims.get("sub"), Some(&Json::String("mine".to_owned())));
            assert_eq!(claims.get("further"), Some(&Json::Int(7)));
            assert_eq!(claims.get("ref"), None);
        }
    }
}

#[test]
fn identifiers_never_ignore_case() {
    for provider in ALL {
        for claim in provider.claims.iter().filter(|claim| claim.case == Case::AsciiInsensitive) {
            assert_eq!(claim.kind, Kind::String);
            let name = claim.name;
            assert!(!name.ends_with("_id") && !name.contains("ref") && name != "sub" && name != "sha", "{name}");
        }
    }
}

#[test]
fn limits_are_set() {
    for provider in ALL {
        assert!((300..=24 * 3600).contains(&provider.max_lifetime.as_secs()), "{}", provider.name);
        assert!(provider.jwks_hosts.iter().all(|host| !host.contains(['/', ':'])));
    }
}
