//! The loopback registry: it asks about the file as it will be stored, and stores nothing without a clear yes.

use std::sync::{Arc, Mutex};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trustmint::demo::registry::{LoopbackRegistry, MAX_UPLOAD, Verifier};
use trustmint::demo::wheel::Wheel;
use trustmint::demo::{Serving, bind};
use trustmint::package::{Ecosystem, PackageName};
use trustmint::secret::Secret;

/// What stands in for trustmint: an answer, and the questions that it was asked.
#[derive(Debug)]
struct Oracle {
    answer: Mutex<(u16, String)>,
    questions: Mutex<Vec<Value>>,
}

async fn verify(oracle: Data<Oracle>, request: actix_web::HttpRequest, body: Bytes) -> HttpResponse {
    assert_eq!(request.headers().get("authorization").unwrap(), "Bearer api-key");
    oracle.questions.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    let (status, body) = oracle.answer.lock().unwrap().clone();
    HttpResponse::build(status.try_into().unwrap()).body(body)
}

struct World {
    oracle: Data<Oracle>,
    registry: Arc<LoopbackRegistry>,
    url: String,
    _servers: [Serving; 2],
}

impl World {
    fn start() -> Self {
        let yes = json!({"allowed": true, "publisher": {"rules": ["widgets-release"]}}).to_string();
        let oracle = Data::new(Oracle { answer: Mutex::new((200, yes)), questions: Mutex::default() });
        let data = oracle.clone();
        let trustmint = Serving::start(bind().unwrap(), None, move |routes| {
            routes.app_data(data.clone()).route("/v1/verify", web::post().to(verify));
        })
        .unwrap();
        let registry = LoopbackRegistry::new(Verifier {
            endpoint: format!("http://{}/v1/verify", trustmint.address()).parse().unwrap(),
            key: Secret::new("api-key".into()),
            client: client(),
        });
        let routes = Arc::clone(&registry);
        let server = Serving::start(bind().unwrap(), None, move |config| routes.routes(config)).unwrap();
        let url = format!("http://{}/legacy/", server.address());
        Self { oracle, registry, url, _servers: [trustmint, server] }
    }

    fn answers(&self, status: u16, body: &str) {
        *self.oracle.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn questions(&self) -> usize {
        self.oracle.questions.lock().unwrap().len()
    }

    /// Uploads a form and returns status and text.
    async fn upload(&self, form: &Form) -> (u16, String) {
        self.send(Some("__token__:pypi-token"), "multipart/form-data; boundary=b", form.encode()).await
    }

    async fn send(&self, credentials: Option<&str>, media_type: &str, body: Vec<u8>) -> (u16, String) {
        let mut request = client().post(&self.url).header("content-type", media_type).body(body);
        if let Some(credentials) = credentials {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(credentials)));
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An upload's form, honest until a test changes a field.
#[derive(Clone)]
struct Form {
    fields: Vec<(&'static str, String)>,
    file_name: String,
    bytes: Vec<u8>,
}

impl Form {
    fn of(package: &str, version: &str) -> Self {
        let wheel = Wheel::new(&PackageName::parse(Ecosystem::Pypi, package).unwrap(), version);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &wheel.bytes);
        let sha256 = digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let fields = vec![
            (":action", "file_upload".into()),
            ("name", package.into()),
            ("version", version.into()),
            ("sha256_digest", sha256),
            ("classifiers", "A".into()),
            ("classifiers", "B".into()),
        ];
        Self { fields, file_name: wheel.file_name, bytes: wheel.bytes }
    }

    fn with(mut self, field: &str, value: &str) -> Self {
        self.fields.iter_mut().filter(|(name, _)| *name == field).for_each(|(_, old)| *old = value.into());
        self
    }

    fn without(mut self, field: &str) -> Self {
        self.fields.retain(|(name, _)| *name != field);
        self
    }

    fn named(mut self, file_name: &str) -> Self {
        self.file_name = file_name.into();
        self
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            body.extend(format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
        }
        let disposition = format!("form-data; name=\"content\"; filename=\"{}\"", self.file_name);
        body.extend(format!("--b\r\nContent-Disposition: {disposition}\r\n\r\n").bytes());
        body.extend(&self.bytes);
        body.extend(b"\r\n--b--\r\n");
        body
    }
}

#[actix_web::test]
async fn it_asks_about_the_file_as_it_will_be_stored() {
    let world = World::start();
    let form = Form::of("Acme.Widgets", "1.0.0");
    let sha256 = &form.fields[3].1;
    assert_eq!(world.upload(&form).await, (200, String::new()));
    assert_eq!(
        world.oracle.questions.lock().unwrap()[0],
        json!({
            "token": "pypi-token", "package": "acme-widgets", "exists": false, "version": "1.0.0", "sha256": sha256,
            "size": form.bytes.len(), "client_ip": "127.0.0.1", "consume": sha256,
        })
    );
    let files = world.registry.files().await;
    let file = &files["acme_widgets-1.0.0-py3-none-any.whl"];
    assert_eq!((file.package.as_str(), file.version.as_str(), &file.sha256), ("acme-widgets", "1.0.0", sha256));
    assert_eq!((&file.bytes[..], &file.publisher), (&form.bytes[..], &json!({"rules": ["widgets-release"]})));

    assert_eq!(world.upload(&Form::of("acme-widgets", "1.1.0")).await.0, 200);
    assert_eq!(world.oracle.questions.lock().unwrap()[1]["exists"], true);
}

#[actix_web::test]
async fn a_refusal_reaches_the_client_in_trustmints_words() {
    let world = World::start();
    world.answers(
        200,
        r#"{"allowed":false,"code":"package-not-granted","reasons":["the token is for `widgets`","and old"]}"#,
    );
    assert_eq!(world.upload(&Form::of("gadgets", "1.0")).await, (403, "the token is for `widgets`; and old".into()));
    assert!(world.registry.files().await.is_empty());
}

#[actix_web::test]
async fn without_a_clear_yes_nothing_is_stored() {
    let world = World::start();
    for (status, body) in
        [(200, "{}"), (200, ""), (200, r#"{"allowed":"true"}"#), (401, r#"{"allowed":true}"#), (503, ""), (302, "")]
    {
        world.answers(status, body);
        let (status, text) = world.upload(&Form::of("widgets", "1.0")).await;
        assert_eq!((status, text.as_str()), (503, "uploads cannot be verified now, try again later"), "{body}");
    }
    assert!(world.registry.files().await.is_empty());
}

#[actix_web::test]
async fn an_upload_that_says_two_things_is_refused_unasked() {
    let world = World::start();
    let honest = Form::of("widgets", "1.0");
    for (what, form) in [
        ("another name", honest.clone().named("requests-9-py3-none-any.whl")),
        ("another version", honest.clone().named("widgets-9-py3-none-any.whl")),
        ("another digest", honest.clone().with("sha256_digest", "00")),
        ("another action", honest.clone().with(":action", "remove_pkg")),
        ("no action", honest.clone().without(":action")),
        ("no name", honest.clone().without("name")),
        ("no version", honest.clone().without("version")),
        ("no digest", honest.clone().without("sha256_digest")),
        ("no wheel", honest.clone().named("widgets-1.0.tar.gz")),
        ("a path", honest.clone().named("../widgets-1.0-py3-none-any.whl")),
    ] {
        let (status, text) = world.upload(&form).await;
        assert_eq!(status, 400, "{what}: {text}");
    }
    let differing = world.upload(&honest.clone().named("requests-9-py3-none-any.whl")).await.1;
    assert_eq!(differing, "the form says name `widgets`, but the file's is `requests`");
    assert_eq!(world.questions(), 0);
}

#[actix_web::test]
async fn a_file_is_stored_once() {
    let world = World::start();
    let form = Form::of("widgets", "1.0");
    assert_eq!(world.upload(&form).await.0, 200);
    assert_eq!(world.upload(&form).await.0, 409);
    assert_eq!(world.questions(), 1);
}

#[actix_web::test]
async fn a_request_that_is_no_upload_is_refused_unasked() {
    let world = World::start();
    let form = Form::of("widgets", "1.0").encode();
    let media_type = "multipart/form-data; boundary=b";
    for credentials in [None, Some("joe:pypi-token"), Some("__token__"), Some("")] {
        assert_eq!(world.send(credentials, media_type, form.clone()).await.0, 401, "{credentials:?}");
    }
    let token = Some("__token__:pypi-token");
    for media_type in
        ["multipart/form-data", "multipart/mixed; boundary=b", "text/plain", "multipart/form-data; boundary=c"]
    {
        assert_eq!(world.send(token, media_type, form.clone()).await.0, 400, "{media_type}");
    }
    assert_eq!(world.send(token, media_type, vec![b' '; MAX_UPLOAD + 1]).await.0, 413);
    assert_eq!(client().get(&world.url).send().await.unwrap().status(), 405);
    assert_eq!(world.questions(), 0);
}
