//! The rendered configuration, put together as the pods see it, and judged by the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use trustmint::config::DEFAULTS;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::secret::hex;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::all;
use super::deployment;
use super::list;
use super::objects;

use crate::support::said::SecretKind;

use crate::support::said::Folder;

use crate::support::said;

/// What is mounted in the service's container, with Secrets of our own: what is mounted at `/etc/trustmint` in the folder itself,
/// and each other volume, empty, in the folder of its name.
pub struct Mounted(Folder);

impl Mounted {
    pub fn new(objects: &[Value]) -> Self {
        let mounted = Self(Folder::new());
        let spec = &deployment(objects)["spec"]["template"]["spec"];
        let mounts = list(&spec["containers"][0]["volumeMounts"]);
        let path = |mount: &Value| mount["mountPath"].as_str().unwrap().to_owned();
        let others = mounts.iter().filter(|mount| !path(mount).starts_with("/etc/trustmint/"));
        let others: Vec<(String, PathBuf)> =
            others.map(|mount| (path(mount), mounted.0.path().join(mount["name"].as_str().unwrap()))).collect();
        for (_, here) in &others {
            fs::create_dir(here).unwrap();
        }
        for volume in list(&spec["volumes"]) {
            let name = volume["name"].as_str().unwrap();
            // What it does not mount is another container's.
            let Some(mount) = mounts.iter().find(|mount| mount["name"] == name) else { continue };
            let Some(folder) = mount["mountPath"].as_str().unwrap().strip_prefix("/etc/trustmint/") else { continue };
            let folder = mounted.0.path().join(folder);
            fs::create_dir(&folder).unwrap();
            let map = volume["configMap"]["name"].as_str();
            let map = map
                .and_then(|name| objects.iter().find(|it| it["kind"] == "ConfigMap" && it["metadata"]["name"] == name));
            match map {
                Some(map) => {
                    for (name, text) in map["data"].as_object().unwrap() {
                        let text = text.as_str().unwrap().to_owned();
                        let text =
                            others.iter().fold(text, |text, (there, here)| text.replace(there, here.to_str().unwrap()));
                        fs::write(folder.join(name), text).unwrap();
                    }
                }
                None => fill(&folder, volume),
            }
        }
        mounted
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path or URL of the pod as one of this machine.
    pub fn here(&self, argument: &str) -> String {
        argument.replace("/etc/trustmint", self.0.path().to_str().unwrap())
    }

    /// Runs the binary with a container's arguments.
    pub fn run(&self, arguments: &[Value]) -> Output {
        let arguments = arguments.iter().map(|argument| self.here(argument.as_str().unwrap()));
        said::run(Command::new(env!("CARGO_BIN_EXE_trustmint")).args(arguments).env_clear()).unwrap()
    }
}

/// What is not the chart's: Secrets, and maps and volumes that are there already.
fn fill(folder: &Path, volume: &Value) {
    let secret = |name: &str, text: &[u8]| {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o440)).unwrap();
    };
    let item = volume["secret"]["items"][0]["path"].as_str();
    let certificate = || LoopbackCertificate::generate(SystemClock.now()).unwrap();
    match volume["name"].as_str().unwrap() {
        "keys" => {
            let mut new = Command::new(env!("CARGO_BIN_EXE_trustmint"));
            assert!(said::run(new.args(["keys", "new", "--directory"]).arg(folder)).unwrap().status.success());
        }
        "tls" => {
            let certificate = certificate();
            fs::write(folder.join("tls.crt"), certificate.certificate_pem()).unwrap();
            certificate.write_key(&folder.join("tls.key")).unwrap();
            // For whoever is to trust it; a Secret has none.
            fs::write(folder.join("authority.pem"), certificate.authority_pem()).unwrap();
        }
        "redis" => {
            said::secret(SecretKind::Password, "a password");
            secret(item.unwrap(), b"a password\n");
        }
        "otlp" => {
            said::secret(SecretKind::Password, "a-credential");
            secret(item.unwrap(), b"authorization: Bearer a-credential\n");
        }
        "redis-ca" | "otlp-ca" => {
            fs::write(folder.join(item.unwrap_or("ca.crt")), certificate().authority_pem()).unwrap();
        }
        "operators" => {
            let text = format!("operations: {{callers: {{oncall: {{key_sha256: \"{}\"}}}}}}\n", hex(&[7; 32]));
            secret(item.unwrap(), text.as_bytes());
        }
        "policy" => {
            let folder =
                if volume.get("emptyDir").is_some() { folder.join("current/policy") } else { folder.to_owned() };
            fs::create_dir_all(&folder).unwrap();
            let (_, redis) = all().iter().find(|(set, _)| set == "redis").unwrap();
            let ours = super::named(redis, "ConfigMap", "-policy")["data"]["acme.yaml"].as_str().unwrap();
            fs::write(folder.join("acme.yaml"), ours).unwrap();
        }
        other => panic!("a volume {other} that nobody fills"),
    }
}

/// `trustmint check` of what is mounted, by the arguments with which the service is started.
fn check(mounted: &Mounted, objects: &[Value]) -> Output {
    let arguments = list(&deployment(objects)["spec"]["template"]["spec"]["containers"][0]["args"]);
    assert_eq!(arguments[0], "serve");
    let mut arguments = arguments.to_vec();
    arguments[0] = "check".into();
    arguments.push("--json".into());
    mounted.run(&arguments)
}

#[test]
fn the_binary_accepts_every_rendered_configuration() {
    for (set, objects) in all() {
        let mounted = Mounted::new(objects);
        let output = check(&mounted, objects);
        let told = String::from_utf8_lossy(&output.stderr);
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{set}: {told}"));
        assert_eq!(facts["policy"]["registries"], serde_json::json!(["acme-pypi"]), "{set}");
        assert!(facts["keys"]["minting"].is_string(), "{set}");
        let store = &facts["store"];
        if set == "trial" {
            assert_eq!((output.status.code(), &store["kind"]), (Some(0), &"memory".into()), "{set}");
        } else {
            // Of all that is looked at only Redis is not there.
            assert_eq!((output.status.code(), &store["kind"]), (Some(1), &"redis".into()), "{set}");
            let error = store["error"].as_str().unwrap();
            assert!(error.contains("cannot be reached") || error.contains("does not answer"), "{set}: {error}");
        }
        let callers = &facts["settings"]["operations"]["callers"];
        let named = ["watched", "git-sync"].contains(&set.as_str());
        assert_eq!(!list(callers).is_empty(), named, "{set}: {callers}");
    }
}

#[test]
fn what_the_binary_does_not_accept_is_seen() {
    let objects = objects("trial", &["--set", "settings.telemetry.level=loud"]);
    let output = check(&Mounted::new(&objects), &objects);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("telemetry.level"));

    // Nor is a file of the audit log on a volume that is not mounted.
    let (_, objects) = all().iter().find(|(set, _)| set == "extras").unwrap();
    let mounted = Mounted::new(objects);
    fs::remove_dir(mounted.path().join("audit")).unwrap();
    let output = check(&mounted, objects);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("audit.file: cannot be opened: there is no folder "), "{told}");
}

/// The paths of all values of a section of settings, by the indentation of the file.
fn settings_keys() -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let mut at: Vec<&str> = Vec::new();
    for line in DEFAULTS.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let (key, value) = line.trim().split_once(':').unwrap();
        at.truncate(depth);
        at.push(key);
        if !value.trim().is_empty() {
            keys.push(at.join("."));
        }
    }
    keys
}

#[test]
fn every_setting_is_a_value_or_follows_from_others() {
    // From which value each setting of the chart's own comes.
    let own = [
        ("listen.address", "bindAddress"),
        ("listen.tls.certificate_file", "tls.certificateKey"),
        ("listen.tls.key_file", "tls.privateKeyKey"),
        ("listen.trusted_proxies", "trustedProxies"),
        ("operations.address", "bindAddress"),
        ("operations.callers", "operations.callers"),
        ("policy.directory", "policy.subdirectory"),
        ("keys.directory", "keys.existingSecret"),
        ("state.store", "store.type"),
        ("state.capacity", "store.memory.capacity"),
        ("state.redis.url", "store.redis.url"),
        ("state.redis.sentinel.name", "store.redis.sentinel.name"),
        ("state.redis.sentinel.urls", "store.redis.sentinel.urls"),
        ("state.redis.cluster", "store.redis.cluster"),
        ("state.redis.username", "store.redis.username"),
        ("state.redis.password_file", "store.redis.existingSecretKey"),
        ("state.redis.ca_file", "store.redis.ca.key"),
        ("state.redis.prefix", "store.redis.prefix"),
        ("state.redis.timeout", "store.redis.timeout"),
        ("state.redis.wait_for_replicas", "store.redis.waitForReplicas"),
        ("limits.drain", "drainSeconds"),
        ("limits.shutdown_timeout", "shutdownSeconds"),
        ("telemetry.otlp.endpoint", "otlp.endpoint"),
        ("telemetry.otlp.headers_file", "otlp.existingSecretKey"),
        ("telemetry.otlp.ca_file", "otlp.ca.key"),
        ("telemetry.otlp.signals", "otlp.signals"),
        ("telemetry.otlp.sample_one_in", "otlp.sampleOneIn"),
        ("telemetry.otlp.interval", "otlp.interval"),
        ("telemetry.otlp.service_name", "otlp.serviceName"),
    ];
    let schema = fs::read_to_string("charts/trustmint/values.schema.json").unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let has = |path: &str| path.split('.').try_fold(&schema, |at, name| at["properties"].get(name)).is_some();
    let keys = settings_keys();
    assert!(keys.len() > 30, "{keys:?}");
    for key in &keys {
        match own.iter().find(|(setting, _)| setting == key) {
            Some((_, value)) => {
                assert!(has(value), "`{key}` is to come from `{value}`, which is not in values.schema.json");
                assert!(!has(&format!("settings.{key}")), "`settings.{key}` would be overwritten by `{value}`");
            }
            None => assert!(
                has(&format!("settings.{key}")),
                "values.schema.json: add `settings.{key}`, or name the value that it comes from"
            ),
        }
    }
    for (setting, _) in own {
        assert!(keys.iter().any(|key| key == setting), "there is no setting `{setting}` any more");
    }
}
