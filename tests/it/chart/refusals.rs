//! What is refused before anything is installed, and what is said about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use serde_json::json;
use tempfile::NamedTempFile;

use super::CHART;
use super::helms;
use super::list;
use super::named;
use super::objects;
use super::of_kind;
use super::pods;
use super::read;
use super::template;
use super::template_as;
use super::text;

/// A set of values, what is set besides, and a part of what is said.
const CHECKS: &[(&str, &[&str], &str)] = &[
    ("redis", &["image.repository="], "image.repository is empty: name the image"),
    ("redis", &["keys.existingSecret="], "trustmint keys new --directory keys"),
    ("redis", &["keys.volume.emptyDir.medium=Memory"], "keys.existingSecret and keys.volume are both set"),
    ("redis", &["keys.existingSecret=", "keys.volume.configMap.name=a"], "a ConfigMap is no place for master keys"),
    (
        "redis",
        &["keys.existingSecret=", "keys.volume.projected.sources[0].configMap.name=a"],
        "a ConfigMap is no place for master keys",
    ),
    ("redis", &["keys.existingSecret=", "keys.volume.hostPath.path=/keys"], "a node's folder is no place"),
    ("existing-policy", &["policy.existingConfigMap="], "there is no policy: put its files into policy.files"),
    ("existing-policy", &["policy.checkBeforeUpgrade=true"], "looks at policy.files, which is empty"),
    (
        "redis",
        &["policy.existingConfigMap=other"],
        "policy.files, policy.existingConfigMap and policy.volume: keep one",
    ),
    (
        "existing-policy",
        &["policy.existingConfigMap=", "policy.files.a\\.yaml=rules: {}"],
        "policy.files has no registry",
    ),
    (
        "existing-policy",
        &["policy.existingConfigMap=", "policy.files.a\\.yaml=registries: {}"],
        "policy.files has no registry",
    ),
    ("existing-policy", &["policy.existingConfigMap=", "policy.files.a\\.yaml=a: b: c"], "a.yaml is not YAML"),
    ("redis", &["policy.files.ca\\.pem.a=b"], "ca.pem is a map"),
    ("redis", &["policy.files.key\\.pem=-----BEGIN PRIVATE KEY-----"], "key.pem holds a private key"),
    ("trial", &["replicaCount=2"], "Set replicaCount=1, or store.type=redis and store.redis.url"),
    ("trial", &["autoscaling.enabled=true"], "autoscaling.enabled needs the store in Redis"),
    ("trial", &["store.redis.url=rediss://redis.acme.svc:6379"], "store.type is memory: set store.type=redis"),
    ("trial", &["store.redis.sentinel.name=a"], "store.redis.sentinel.name is set, and store.type is memory"),
    ("trial", &["store.redis.ca.existingSecret=a"], "store.redis.ca.existingSecret is set, and store.type is memory"),
    ("trial", &["store.memory.capacity=1GiB"], "Set the limit 64Mi above it at least"),
    ("trial", &["store.memory.capacity=449MiB"], "a full store would end the pod"),
    ("trial", &["resources.limits.memory=335M"], "a full store would end the pod"),
    ("trial", &["resources.limits.memory=0.3Gi"], "a full store would end the pod"),
    ("trial", &["resources.limits.memory=335000000"], "a full store would end the pod"),
    ("redis", &["store.redis.url="], "--set store.type=memory,replicaCount=1"),
    (
        "redis",
        &["store.redis.cluster[0]=rediss://a:1"],
        "store.redis.url, store.redis.sentinel and store.redis.cluster: keep one",
    ),
    ("sentinel", &["store.redis.sentinel.name="], "set store.redis.sentinel.name"),
    ("sentinel", &["store.redis.sentinel.urls=null"], "has no Sentinels"),
    ("redis", &["store.redis.url=rediss://u:secret@redis.acme.svc:6379"], "holds a user or a password"),
    ("redis", &["store.redis.url=redis://redis.acme.svc:6379"], "redis:// is only for a server in the same pod"),
    ("redis", &["store.redis.url=http://redis.acme.svc"], "write rediss://HOST:PORT"),
    ("cluster", &["store.redis.cluster[1]=redis"], "write rediss://HOST:PORT"),
    ("redis", &["store.redis.existingSecret="], "store.redis.username has no password"),
    ("cluster", &["store.redis.ca.existingConfigMap=a"], "store.redis.ca.existingConfigMap: keep one"),
    ("redis", &["tls.existingSecret="], "set tls.existingSecret, or name the proxies"),
    ("trial", &["trustedProxies[0]=0.0.0.0/0"], "is everybody"),
    ("trial", &["networkPolicy.from=null"], "name the proxies' pods there"),
    ("watched", &["operations.existingSecret=a"], "operations.callers and operations.existingSecret: keep one"),
    ("redis", &["settings.audit.sink=file"], "names no file: set settings.audit.file"),
    ("redis", &["settings.audit.sink=file", "settings.audit.file=/var/log/a"], "/var/log/a lies on no volume"),
    ("extras", &["settings.audit.file=/var/log/trustmint-2/a.jsonl"], "lies on no volume"),
    ("extras", &["settings.audit.file=/var/log/trustmint/../a.jsonl"], "lies on no volume"),
    ("extras", &["settings.audit.file=/var/log/trustmint"], "lies on no volume"),
    ("extras", &["extraVolumeMounts[0].readOnly=true"], "lies on no volume that can be written"),
    ("extras", &["extraVolumes[0].persistentVolumeClaim.readOnly=true"], "lies on no volume that can be written"),
    (
        "extras",
        &["extraVolumes[0].persistentVolumeClaim=null", "extraVolumes[0].configMap.name=a"],
        "lies on no volume that can be written",
    ),
    // Of two mounts above it the nearest counts.
    (
        "extras",
        &[
            "extraVolumes[1].name=closed",
            "extraVolumes[1].secret.secretName=a",
            "extraVolumeMounts[1].name=closed",
            "extraVolumeMounts[1].mountPath=/var/log/trustmint/closed/",
            "settings.audit.file=/var/log/trustmint/closed/audit.jsonl",
        ],
        "lies on no volume that can be written",
    ),
    (
        "redis",
        &["terminationGracePeriodSeconds=35"],
        "must be at least drainSeconds + shutdownSeconds + 11, which is 36",
    ),
    ("redis", &["settings.audit.sink=otlp"], "names no collector: set otlp.endpoint"),
    ("redis", &["otlp.existingSecret=a"], "not used without a collector"),
    (
        "otlp",
        &["otlp.endpoint=http://otel-collector.observability.svc:4318"],
        "http:// is only for one in the same pod",
    ),
    ("otlp", &["otlp.ca.existingSecret=a"], "otlp.ca.existingSecret and otlp.ca.existingConfigMap: keep one"),
    ("otlp", &["otlp.signals=null", "settings.audit.sink=stdout"], "leaves nothing to be sent"),
    ("autoscaled", &["autoscaling.maxReplicas=1"], "autoscaling.minReplicas is greater"),
    (
        "autoscaled",
        &["autoscaling.targetCPUUtilizationPercentage=null", "autoscaling.metrics=null"],
        "nothing to look at",
    ),
    ("autoscaled", &["resources.requests.cpu=null"], "resources.requests.cpu"),
    ("redis", &["rollingUpdate.maxSurge=0"], "no pod could ever be exchanged"),
    ("redis", &["ingress.enabled=true"], "ingress.hosts"),
    ("gateway", &["httpRoute.hosts=null"], "httpRoute.hosts"),
    ("gateway", &["httpRoute.parentRefs=null"], "httpRoute.parentRefs"),
    ("watched", &["podMonitor.enabled=true"], "would count everything twice"),
    ("redis", &["ingress.enabled=true", "ingress.hosts[0].host=a.example"], "{host: a.example, dialect: pypi}"),
    ("redis", &["serviceMonitor.enabled=true"], "name its pods in networkPolicy.operationsFrom"),
    ("redis", &["podMonitor.enabled=true"], "name its pods in networkPolicy.operationsFrom"),
    ("redis", &["operations.service=true"], "name its pods in networkPolicy.operationsFrom"),
    ("git-sync", &["tests.enabled=true"], "set tests.enabled=false and prober.enabled=false"),
    ("redis", &["networkPolicy.dnsPort=null"], "networkPolicy.dnsPort is empty, which would be every port"),
    ("redis", &["podDisruptionBudget.maxUnavailable=null"], "podDisruptionBudget.maxUnavailable is empty"),
    ("redis", &["tests.exchange.registry=a"], "set both registry and audience"),
    ("redis", &["extraVolumes[0].name=keys"], "extraVolumes: the chart has a volume named keys"),
    (
        "redis",
        &["extraVolumeMounts[0].name=a", "extraVolumeMounts[0].mountPath=/etc/trustmint/keys"],
        "choose a path outside",
    ),
    (
        "redis",
        &["extraVolumeMounts[0].name=a", "extraVolumeMounts[0].mountPath=/etc/x/../trustmint"],
        "choose a path outside",
    ),
    ("watched", &["prometheusRule.disabled[0]=TrustmintNone"], "there is no alert TrustmintNone"),
];

#[test]
fn every_check_of_the_templates_fires_and_says_what_to_do() {
    let [three, four] = helms();
    let mut all_said = Vec::new();
    for (set, values, words) in CHECKS {
        let settings: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
        for helm in [&three, &four] {
            let output = template(helm, set, &settings);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(words), "{set} {values:?}: {words}: {said}");
            assert!(output.stdout.is_empty(), "{set} {values:?}");
            all_said.push(said.into_owned());
        }
    }
    // What takes more than values: a name of the release, and a large file.
    let output = template_as("1st", &three, "redis", &["--set", "nameOverride=mint"]);
    all_said.push(String::from_utf8_lossy(&output.stderr).into_owned());
    let large = NamedTempFile::new().unwrap();
    fs::write(large.path(), "a".repeat(900_000)).unwrap();
    let large = format!("policy.files.large\\.txt={}", large.path().display());
    let output = template(&three, "redis", &["--set-file", &large]);
    all_said.push(String::from_utf8_lossy(&output.stderr).into_owned());

    let messages = messages();
    assert!(messages.len() > 45, "{messages:?}");
    for message in messages {
        assert!(all_said.iter().any(|said| says(said, &message)), "nothing here makes a template say {message:?}");
    }
    assert!(!says("policy.files: a is YAML", &["policy.files: ".to_owned(), " is not YAML: ".to_owned()]));
}

/// Every message with which a template refuses values, as its parts around what is put in.
fn messages() -> Vec<Vec<String>> {
    let mut messages = Vec::new();
    for file in fs::read_dir(Path::new(CHART).join("templates")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let before = messages.len();
        for call in ["fail \"", "fail (printf \"", "required \""] {
            for rest in source.split(call).skip(1) {
                let message = rest.split('"').next().unwrap().replace("\\\\", "\\").replace("%d", "%s");
                messages.push(message.split("%s").map(ToOwned::to_owned).collect());
            }
        }
        let calls = ["{ fail ", "{- fail ", " required "].map(|call| source.matches(call).count());
        assert_eq!(
            messages.len() - before,
            calls.iter().sum::<usize>(),
            "a message that is not read: {}",
            path.display()
        );
    }
    messages
}

/// Whether a text has all parts of a message, in their order.
fn says(said: &str, message: &[String]) -> bool {
    let mut rest = said;
    message.iter().all(|part| {
        let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
        rest = after;
        true
    })
}

/// Every map of the schema that takes no other keys than its own.
fn closed(schema: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolved(schema);
    if schema["additionalProperties"] == false {
        found.push(at.to_owned());
        for (name, below) in schema["properties"].as_object().unwrap() {
            closed(below, &if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, found);
        }
    }
}

/// What a schema refers to.
fn resolved(schema: &Value) -> Value {
    let Some(name) = schema["$ref"].as_str() else { return schema.clone() };
    whole()["definitions"][name.rsplit('/').next().unwrap()].clone()
}

fn whole() -> Value {
    serde_json::from_str(&fs::read_to_string(Path::new(CHART).join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn a_value_that_does_not_exist_is_refused_wherever_it_stands() {
    let mut places = Vec::new();
    closed(&whole(), "", &mut places);
    assert!(places.len() > 40, "{places:?}");
    let [three, four] = helms();
    for place in &places {
        let unknown = if place.is_empty() { "unknwon=1".to_owned() } else { format!("{place}.unknwon=1") };
        let output = template(&three, "redis", &["--set", &unknown]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("unknwon"), "{unknown}: {said}");
    }
    let output = template(&four, "redis", &["--set", "image.unknwon=1"]);
    assert!(!output.status.success());
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    let wrong = [
        "replicaCount=two",
        "replicaCount=-1",
        "security.runAsUser=0",
        "security.fsGroup=0",
        "image.tag=a b",
        "image.digest=sha256:abc",
        "image.repository=a\"b",
        "fullnameOverride=Upper",
        "fullnameOverride=a\nb",
        "keys.existingSecret=../other",
        "store.type=sqlite",
        "bindAddress=127.0.0.1",
        "service.type=ExternalName",
        "ingress.hosts[0].paths[0]=/",
        "ingress.hosts[0].host=a b",
        "publicPaths[0]=v1",
        "operations.callers.oncall.key_sha256=short",
        "policy.files.\\.hidden=a",
        "policy.files.a/b=a",
        "policy.subdirectory=../keys",
        "commonLabels.a=b c",
        "commonLabels.a b=c",
        "settings.listen.address=0.0.0.0:1",
        "settings.policy.directory=/tmp",
        "settings.state.store=memory",
        "settings.limits.shutdown_timeout=1h",
        "prometheusRule.enabled=maybe",
        "prometheusRule.runbookUrl=docs/operations.md",
        "networkPolicy.identityProviders.cidrs[0]=everywhere",
        "security.appArmorProfile.type=Unconfined",
        "security.seLinuxOptions.type=spc_t",
    ];
    let [helm, _] = helms();
    for value in wrong {
        let output = template(&helm, "redis", &["--set-string", value]);
        assert!(!output.status.success(), "{value} is taken");
        let typed = template(&helm, "redis", &["--set", value]);
        let said = String::from_utf8_lossy(&typed.stderr);
        assert!(
            !typed.status.success() && said.contains("don't meet the specifications of the schema"),
            "{value}: {said}"
        );
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_stay_names() {
    let [helm, _] = helms();
    let values = file(&json!({
        "ingress": {"enabled": true, "className": "0x1", "hosts": [{"host": "a.example", "tlsSecret": "123", "dialect": "npm"}]},
        "httpRoute": {"enabled": true, "hosts": [{"host": "a.example", "dialect": "pypi"}], "parentRefs": [{"name": "a"}]},
        "autoscaling": {"enabled": true},
        "priorityClassName": "1e3",
        "runtimeClassName": "null",
        "tls": {"existingSecret": "1.0"},
        "store": {"redis": {"existingSecret": "0x7", "existingSecretKey": "on", "ca": {"existingConfigMap": "1-0", "key": "no"}}},
        "operations": {"existingSecret": "1", "existingSecretKey": "2"},
        "serviceMonitor": {"enabled": true},
        "prometheusRule": {"enabled": true},
        "prober": {"enabled": true},
        "policy": {"checkBeforeUpgrade": true},
        "networkPolicy": {"operationsFrom": [{"podSelector": {}}]},
        "image": {"tag": "1"},
    }));
    let longest = "a2345678901234567890123456789012345678901234567890123";
    for release in ["true", "null", "on", "no", "y", "e1", "x.y.z", "trustmint", longest] {
        let rendered = text(template_as(release, &helm, "redis", &["--values", values.path().to_str().unwrap()]));
        let objects = read(&rendered, &["1.30"]);
        let mut names = BTreeSet::new();
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let most = if object["kind"] == "CronJob" { 52 } else { 63 };
            assert!(name.len() <= most && !name.contains('.'), "{release}: {name}");
            assert!(names.insert(format!("{} {name}", object["kind"])), "{release}: two {} {name}", object["kind"]);
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], release);
        }
    }
    // As short as they get: `true` is the whole name.
    let more = ["--set-string", "fullnameOverride=true", "--values", values.path().to_str().unwrap()];
    let objects = read(&text(template(&helm, "redis", &more)), &["1.30"]);
    assert_eq!(of_kind(&objects, "HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"]["name"], "true");
}

/// A file with these values.
fn file(values: &Value) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), values.to_string()).unwrap();
    file
}

#[test]
fn what_stands_in_a_value_stays_in_its_place() {
    let evil = "x\n  injected: true\n---\nkind: Secret # \"'{{ .Values }} ${A} *a &b !!c";
    let values = file(&json!({
        "commonAnnotations": {"acme.example/evil": evil, "evil\nkey: x": "1"},
        "podAnnotations": {"acme.example/evil": evil},
        "deploymentAnnotations": {"acme.example/evil": evil},
        "service": {"annotations": {"acme.example/evil": evil}},
        "serviceAccount": {"annotations": {"acme.example/evil": evil}},
        "ingress": {"enabled": true, "annotations": {"acme.example/evil": evil}, "hosts": [{"host": "a.example", "dialect": "pypi"}]},
        "extraEnv": [{"name": "EVIL", "value": evil}],
        "nodeSelector": {"evil": evil},
        "tolerations": [{"key": evil}],
        "store": {"redis": {"username": evil}},
        "settings": {"telemetry": {"level": evil}},
        "prometheusRule": {"enabled": true, "selector": "job=\"a\"", "alertLabels": {"evil": evil}},
        "tests": {"exchange": {"registry": evil, "audience": evil}},
        "policy": {"files": {"evil.txt": evil, "map.yaml": {"rules": {evil: {"registry": evil}}}}},
    }));
    let more = ["--values", values.path().to_str().unwrap()];
    let before = objects(
        "redis",
        &[
            "--set",
            "ingress.enabled=true,ingress.hosts[0].host=a.example,ingress.hosts[0].dialect=pypi,prometheusRule.enabled=true",
        ],
    );
    let after = objects("redis", &more);
    let kinds = |objects: &[Value]| objects.iter().map(|object| object["kind"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&after), kinds(&before), "no object more");
    for object in &after {
        if object["kind"] != "Pod" || object["metadata"]["annotations"]["helm.sh/hook"] == "test" {
            assert_eq!(object["metadata"]["annotations"]["acme.example/evil"], evil, "{}", object["kind"]);
        }
    }
    let policy = named(&after, "ConfigMap", "-policy");
    assert_eq!(policy["data"]["evil.txt"], evil);
    let (_, probe) = pods(&after).into_iter().find(|(name, _)| name.ends_with("-test-probe")).unwrap();
    assert!(list(&probe["containers"][0]["args"]).contains(&evil.into()));
    assert!(!after.iter().any(|object| object.get("injected").is_some()));
}

#[test]
fn a_policy_written_as_a_map_keeps_its_numbers_and_words() {
    let [helm, _] = helms();
    let values = file(&json!({"policy": {"files": {"acme.yaml": {
        "registries": {"acme": {"limits": {"exchanges_per_minute": 12_345_678}}},
        "rules": {"a": {"when": {"repository_id": "0123", "on": "yes", "n": "1e3", "big": "9007199254740993"}, "single_use": true}},
    }}}}));
    let rendered = text(template(
        &helm,
        "existing-policy",
        &["--set", "policy.existingConfigMap=", "--values", values.path().to_str().unwrap()],
    ));
    let objects = read(&rendered, &[]);
    let written = named(&objects, "ConfigMap", "-policy")["data"]["acme.yaml"].as_str().unwrap();
    for words in ["12345678\n", "\"0123\"", "\"yes\"", "\"1e3\"", "\"9007199254740993\"", "single_use: true"] {
        assert!(written.contains(words), "{words}: {written}");
    }
}
