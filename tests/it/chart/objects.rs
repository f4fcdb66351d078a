//! What every set of values must render: pods that may nothing, an operations port that is not public, networks that are
//! closed but for what is needed.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use trustmint::http::ENDPOINTS;
use trustmint::http::endpoint::Access;
use trustmint::policy::dialect::Dialect;

use super::all;
use super::deployment;
use super::list;
use super::named;
use super::objects;
use super::of_kind;
use super::pod;
use super::pods;
use super::settings;

#[test]
fn no_pod_may_anything_whatever_the_values() {
    let mut seen = 0;
    for (set, objects) in all() {
        for (pod, spec) in pods(objects) {
            assert_eq!(spec["automountServiceAccountToken"], false, "{set} {pod}");
            assert_eq!(spec["enableServiceLinks"], false, "{set} {pod}");
            for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
                assert_eq!(spec[namespace], Value::Null, "{set} {pod}");
            }
            let context = &spec["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{set} {pod}");
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{set} {pod}");
            let user = context["runAsUser"].as_u64();
            assert!(if set == "openshift" { user.is_none() } else { user.is_some_and(|user| user > 0) }, "{set} {pod}");
            let containers = list(&spec["containers"]).iter().chain(list(&spec["initContainers"]));
            for container in containers {
                seen += 1;
                let expected = json!({
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": false,
                    "readOnlyRootFilesystem": true,
                });
                assert_eq!(container["securityContext"], expected, "{set} {pod}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{set} {pod}: memory has a limit");
                for mount in list(&container["volumeMounts"]) {
                    assert_eq!(mount["subPath"], Value::Null, "{set} {pod}: a `subPath` does not follow its volume");
                    let ours = mount["mountPath"].as_str().unwrap().starts_with("/etc/trustmint/");
                    assert_eq!(ours, mount["readOnly"] == true, "{set} {pod}: {mount}");
                }
            }
            for volume in list(&spec["volumes"]).iter().filter(|volume| volume.get("secret").is_some()) {
                assert_eq!(volume["secret"]["defaultMode"], 0o440, "{set} {pod}: the service refuses others' modes");
            }
        }
    }
    assert!(seen > 40, "{seen} containers");
}

#[test]
fn the_operations_port_is_reached_by_probes_and_by_those_who_are_named() {
    for (set, objects) in all() {
        let spec = &deployment(objects)["spec"]["template"]["spec"]["containers"][0];
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(spec[probe]["httpGet"]["port"], "operations", "{set}");
        }
        for service in of_kind(objects, "Service") {
            let ports: Vec<&Value> = list(&service["spec"]["ports"]).iter().map(|port| &port["targetPort"]).collect();
            let expected = if service["metadata"]["name"].as_str().unwrap().ends_with("-operations") {
                assert_eq!(
                    service["spec"]["clusterIP"], "None",
                    "{set}: it is for finding replicas, not for reaching them"
                );
                "operations"
            } else {
                "public"
            };
            assert_eq!(ports, [expected], "{set}");
        }
        for policy in of_kind(objects, "NetworkPolicy") {
            for rule in list(&policy["spec"]["ingress"]) {
                if list(&rule["ports"]).iter().any(|port| port["port"] == 8081) {
                    assert!(!list(&rule["from"]).is_empty(), "{set}: a rule without peers is for everybody");
                }
            }
        }
    }
    let ingress = |set: &str| {
        let (_, objects) = all().iter().find(|(name, _)| name == set).unwrap();
        let policy = named(objects, "NetworkPolicy", "trustmint");
        list(&policy["spec"]["ingress"]).iter().map(|rule| rule["ports"][0]["port"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ingress("redis"), [8080], "nobody is named, so nobody comes in");
    assert_eq!(ingress("watched"), [8080, 8081]);
}

#[test]
fn a_network_policy_lets_out_what_is_needed_and_no_more() {
    for (set, objects) in all() {
        for policy in of_kind(objects, "NetworkPolicy") {
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{set}");
            for rule in list(&policy["spec"]["egress"]) {
                assert!(!list(&rule["ports"]).is_empty(), "{set}: a rule without ports is for all of them");
                let dns = list(&rule["ports"]).iter().any(|port| port["port"] == 53);
                let node = json!({"ipBlock": {"cidr": "169.254.20.10/32"}});
                assert!(!dns || list(&rule["to"]).contains(&node), "{set}: nodes may have a DNS cache of their own");
                for peer in list(&rule["to"]) {
                    let cidr = peer["ipBlock"]["cidr"].as_str().unwrap_or_default();
                    let except = list(&peer["ipBlock"]["except"]);
                    if cidr == "0.0.0.0/0" {
                        for private in ["10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "127.0.0.0/8"] {
                            assert!(except.contains(&private.into()), "{set}: {private}");
                        }
                    }
                    let six = cidr.contains(':');
                    let mixed = except.iter().any(|inside| inside.as_str().unwrap().contains(':') != six);
                    assert!(!mixed, "{set}: Kubernetes refuses an exception that is not within: {peer}");
                }
            }
        }
    }
    let (_, objects) = all().iter().find(|(set, _)| set == "sentinel").unwrap();
    let policy = named(objects, "NetworkPolicy", "trustmint");
    let redis = &list(&policy["spec"]["egress"])[1];
    let ports: Vec<&Value> = list(&redis["ports"]).iter().map(|port| &port["port"]).collect();
    assert_eq!(ports, [6379, 26379], "the masters' port and the Sentinels'");
    assert_eq!(list(&redis["to"]).len(), 1);
    // The probe goes to the service, and nobody comes to the probe.
    let tests = named(objects, "NetworkPolicy", "-test");
    assert_eq!(tests["spec"]["ingress"], Value::Null);
    assert_eq!(list(&tests["spec"]["egress"]).len(), 2);
}

#[test]
fn a_named_ingress_controller_is_the_only_way_in() {
    let (_, objects) = all().iter().find(|(set, _)| set == "ingress").unwrap();
    let policy = named(objects, "NetworkPolicy", "trustmint");
    let from = list(&policy["spec"]["ingress"][0]["from"]);
    assert_eq!(from.len(), 2, "the controller, and the probe of `helm test`");
    assert_eq!(from[1]["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "test");
}

#[test]
fn pods_of_helm_test_are_no_replicas() {
    for (set, objects) in all() {
        let selector = deployment(objects)["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let replicas = &deployment(objects)["spec"]["template"]["metadata"]["labels"];
        let selects = |labels: &Value| selector.iter().all(|(name, value)| labels[name] == *value);
        assert!(selects(replicas), "{set}");
        for object in objects.iter().filter(|object| object["kind"] != "Deployment") {
            if let Some(pod) = pod(object) {
                assert!(
                    !selects(&pod["metadata"]["labels"]),
                    "{set}: requests would be sent to {}",
                    object["metadata"]["name"]
                );
            }
        }
        for pod in of_kind(objects, "Pod") {
            assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test", "{set}");
        }
        for service in of_kind(objects, "Service") {
            assert_eq!(service["spec"]["selector"].as_object().unwrap(), selector, "{set}");
        }
    }
}

#[test]
fn what_is_read_at_start_restarts_the_pods_and_nothing_else_does() {
    let checksum = |more: &[&str]| {
        let objects = objects("redis", more);
        deployment(&objects)["spec"]["template"].clone()
    };
    let before = checksum(&[]);
    for other in ["settings.telemetry.level=debug", "drainSeconds=20", "store.redis.prefix=acme:", "bindAddress=::"] {
        assert_ne!(checksum(&["--set", other]), before, "{other}");
    }
    let same = [
        "policy.files.more\\.yaml=rules: {}",
        "operations.callers.oncall.key_sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "replicaCount=5",
        "service.annotations.a=b",
        "dashboard.enabled=true",
        "networkPolicy.enabled=false",
    ];
    for other in same {
        assert_eq!(checksum(&["--set", other]), before, "{other}");
    }
}

#[test]
fn the_selector_is_one_that_no_upgrade_changes() {
    let selector = |more: &[&str]| deployment(&objects("redis", more))["spec"]["selector"].clone();
    let expected = json!({"matchLabels": {
        "app.kubernetes.io/name": "trustmint",
        "app.kubernetes.io/instance": "trial",
        "app.kubernetes.io/component": "server",
    }});
    let attempts = [
        "commonLabels.app\\.kubernetes\\.io/name=other",
        "podLabels.app\\.kubernetes\\.io/component=other",
        "image.tag=v9",
    ];
    for attempt in attempts {
        assert_eq!(selector(&["--set", attempt]), expected, "{attempt}");
        let objects = objects("redis", &["--set", attempt]);
        let labels = &deployment(&objects)["spec"]["template"]["metadata"]["labels"];
        for (name, value) in expected["matchLabels"].as_object().unwrap() {
            assert_eq!(labels[name], *value, "{attempt}");
        }
    }
}

#[test]
fn with_the_memory_store_one_replica_ends_before_the_next_begins() {
    let objects = objects("trial", &["--set", "rollingUpdate.maxSurge=2"]);
    let spec = &deployment(&objects)["spec"];
    assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
    assert_eq!(spec["replicas"], 1);
    assert!(of_kind(&objects, "PodDisruptionBudget").is_empty(), "its node could never be drained");
    assert!(settings(&objects).contains("store: memory"));
}

#[test]
fn replicas_that_write_the_audit_log_to_a_volume_write_files_of_their_own() {
    let mut seen = 0;
    for (set, objects) in all().iter().filter(|(_, objects)| settings(objects).contains("sink: file")) {
        let container = &deployment(objects)["spec"]["template"]["spec"]["containers"][0];
        let audit = list(&container["volumeMounts"]).iter().find(|mount| mount["name"] == "audit").unwrap();
        assert_eq!(audit["subPathExpr"], "$(POD_NAME)", "{set}");
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn the_audit_log_may_go_to_any_volume_that_can_be_written() {
    let of = |volume: &str, mount: &str| {
        let file = "settings.audit.sink=file,settings.audit.file=/srv/audit/log/audit.jsonl";
        let objects = objects("redis", &["--set", file, "--set", volume, "--set", mount]);
        assert!(settings(&objects).contains("/srv/audit/log/audit.jsonl"));
    };
    let mount = "extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=";
    for path in ["/srv/audit/log", "/srv/audit/log/", "/srv"] {
        of("extraVolumes[0].name=a,extraVolumes[0].emptyDir.medium=Memory", &format!("{mount}{path}"));
    }
    // One that can be written, below one that cannot.
    of(
        "extraVolumes[0].name=a,extraVolumes[0].configMap.name=a,extraVolumes[1].name=b,extraVolumes[1].hostPath.path=/b",
        &format!("{mount}/srv,extraVolumeMounts[1].name=b,extraVolumeMounts[1].mountPath=/srv/audit"),
    );
}

#[test]
fn an_autoscaler_that_may_go_down_to_one_replica_has_a_budget_for_the_others() {
    let budgets = |values: &str| of_kind(&objects("redis", &["--set", values]), "PodDisruptionBudget").len();
    assert_eq!(budgets("autoscaling.enabled=true,autoscaling.minReplicas=1"), 1);
    assert_eq!(budgets("autoscaling.enabled=true,autoscaling.minReplicas=1,autoscaling.maxReplicas=1"), 0);
}

#[test]
fn a_pod_has_time_to_end() {
    for (set, objects) in all() {
        let spec = &deployment(objects)["spec"]["template"]["spec"];
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let seconds = |key: &str| {
            let value = settings(objects).lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
            value.strip_suffix('s').unwrap().parse::<u64>().unwrap()
        };
        let (drain, shutdown) = (seconds("drain: "), seconds("shutdown_timeout: "));
        // What is left after the requests has eleven seconds of its own.
        assert!(grace >= drain + shutdown + 11, "{set}: {grace} < {drain} + {shutdown} + 11");
    }
}

#[test]
fn hosts_are_sent_the_paths_of_ci_jobs_and_not_those_of_registries() {
    let (_, of_ingress) = all().iter().find(|(set, _)| set == "ingress").unwrap();
    let (_, of_gateway) = all().iter().find(|(set, _)| set == "gateway").unwrap();
    let ingress = of_kind(of_ingress, "Ingress")[0];
    let paths = |rule: &Value| -> BTreeSet<String> {
        list(&rule["http"]["paths"]).iter().map(|path| path["path"].as_str().unwrap().to_owned()).collect()
    };
    let rules = list(&ingress["spec"]["rules"]);
    assert!(paths(&rules[0]).contains("/v1/token") && !paths(&rules[0]).contains("/v1/verify"));
    assert!(paths(&rules[1]).contains("/v1/verify"), "as its values say");
    let tls = list(&ingress["spec"]["tls"]);
    assert_eq!(tls, [json!({"secretName": "acme-wildcard", "hosts": ["pypi.acme.example", "npm.acme.example"]})]);

    let routes = of_kind(of_gateway, "HTTPRoute");
    assert_eq!(routes.len(), 2, "one a host");
    let rules: Vec<usize> = list(&routes[1]["spec"]["rules"]).iter().map(|rule| list(&rule["matches"]).len()).collect();
    assert_eq!(rules, [8, 1], "the Gateway API takes eight matches a rule");
    assert_ne!(routes[0]["metadata"]["name"], routes[1]["metadata"]["name"]);
}

#[test]
fn a_host_of_each_dialect_is_sent_what_its_clients_call_and_nothing_of_registries() {
    let paths = |dialect: Dialect| {
        let host =
            format!("ingress.enabled=true,ingress.hosts[0].host=a.example,ingress.hosts[0].dialect={}", dialect.name());
        let objects = objects("redis", &["--set", &host]);
        let ingress = of_kind(&objects, "Ingress")[0];
        let paths = list(&ingress["spec"]["rules"][0]["http"]["paths"]).iter();
        paths.map(|path| path["path"].as_str().unwrap().to_owned()).collect::<BTreeSet<String>>()
    };
    let of_dialects: Vec<BTreeSet<String>> = Dialect::ALL.into_iter().map(paths).collect();
    let generic = paths(Dialect::Generic);
    let sent = |to: &BTreeSet<String>, path: &str| {
        to.iter().any(|prefix| path == prefix || path.starts_with(&format!("{prefix}/")))
    };
    for endpoint in ENDPOINTS {
        let path = endpoint.path.split('{').next().unwrap().trim_end_matches('/');
        for operation in endpoint.operations {
            let hosts = of_dialects.iter().filter(|paths| sent(paths, path)).count();
            match operation.access {
                Access::Registry | Access::RegistryAlways | Access::Proxy => {
                    assert_eq!(hosts, 0, "{path} is called by registries");
                }
                Access::Anyone | Access::Job | Access::JobHeader | Access::Holder | Access::HolderHeader
                    if sent(&generic, path) =>
                {
                    assert_eq!(hosts, of_dialects.len(), "{path}");
                }
                Access::Anyone | Access::Job | Access::JobHeader | Access::Holder | Access::HolderHeader => {
                    assert_eq!(hosts, 1, "{path} is of one dialect: see files/paths.yaml");
                }
            }
        }
    }
    for (dialect, paths) in Dialect::ALL.iter().zip(&of_dialects) {
        assert_eq!(paths == &generic, *dialect == Dialect::Generic, "{}", dialect.name());
        for prefix in paths {
            let known = ENDPOINTS.iter().any(|endpoint| endpoint.path.starts_with(prefix.as_str()));
            assert!(known, "{}: there is no {prefix}", dialect.name());
        }
    }
}
