//! The endpoints as an OpenAPI 3.1 document.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::code::Code;
use crate::http::ENDPOINTS;
use crate::http::body;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Body;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::error;
use crate::http::error::Spelling;
use crate::http::rate;
use crate::secret::sha256;

/// What the document says of the whole.
pub const ABOUT: &str = "A CI job hands over the ID token that its CI system signed and gets an upload token that \
    expires in minutes; the registry asks whether an upload token may do what its client wants. Which registry a request \
    is about is said by its host or its API key; an unknown host is answered 421. A host whose registry does not speak a \
    protocol answers 404 at its paths. Every failure has a stable `code`; statuses follow from it. Every answer has \
    `X-Request-Id`. `HEAD` asks for what `GET` does, without the body. Any other method is answered 405 with `Allow`. \
    Bodies have at most 32 KiB, headers and request line together 16 KiB, and nothing that is sent may be compressed.";

static REST: LazyLock<String> = LazyLock::new(|| rest().to_string());
static DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| sha256(REST.as_bytes()));

/// The document of the host whose URL is that.
pub fn of(origin: &str) -> String {
    let servers = json!([{"url": origin}]);
    let rest = REST.strip_prefix('{').unwrap_or_default();
    format!("{{\"openapi\":\"3.1.1\",\"servers\":{servers},{rest}")
}

/// The digest of all of it but the URL.
pub fn digest() -> &'static [u8] {
    &*DIGEST
}

/// All that does not depend on the host.
fn rest() -> Value {
    let paths: Map<String, Value> =
        ENDPOINTS.iter().map(|endpoint| (endpoint.shown_path(), path_item(endpoint))).collect();
    let tags = Access::ALL.map(|access| json!({"name": access.title(), "description": access.credential()}));
    let refused = |code| {
        let shown = move |spelling: Spelling| Some((component(code, spelling)?, failure(spelling, &[code])));
        Spelling::ALL.into_iter().filter_map(shown)
    };
    let responses: Map<String, Value> = refused(Code::MethodNotAllowed).chain(refused(Code::NotFound)).collect();
    let schema = |spelling: Spelling| Some((spelling.schema_name()?.to_owned(), error::body_schema(spelling)));
    let schemas: Map<String, Value> = Spelling::ALL.into_iter().filter_map(schema).collect();
    json!({
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "trustmint",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Trusted publishing for package registries",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": {
                "X-Request-Id": {
                    "description": "The request's id, by which operators find it in their records.",
                    "required": true,
                    "schema": {"type": "string"},
                },
                "Retry-After": {
                    "description": "After how many seconds to try again.",
                    "required": true,
                    "schema": {"type": "integer", "minimum": 1},
                },
            },
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": Access::Registry.credential()},
                "idToken": {"type": "http", "scheme": "bearer", "description": Access::JobHeader.credential()},
                "proxyKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Trustmint-Key",
                    "description": Access::Proxy.credential(),
                },
                "uploadToken": {"type": "http", "scheme": "bearer", "description": "The client's upload token."},
                "uploadTokenAsPassword": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The client's upload token, with any user name.",
                },
            },
        },
    })
}

fn path_item(endpoint: &Endpoint) -> Value {
    let mut item = Map::new();
    for operation in endpoint.operations {
        for method in methods(operation.method) {
            item.insert(method.clone(), shown(endpoint, operation, &method));
        }
    }
    if endpoint.methods().is_some()
        && let Some(component) = component(Code::MethodNotAllowed, endpoint.spelling)
    {
        let reference = json!({"$ref": format!("#/components/responses/{component}")});
        item.insert("x-other-methods".to_owned(), reference);
    }
    Value::Object(item)
}

/// The methods under which an operation is shown, as OpenAPI spells them. HEAD is not: it is GET's.
fn methods(verb: Verb) -> Vec<String> {
    let shown = verb.names().iter().filter(|name| verb == Verb::Any || **name != "HEAD");
    shown.map(|name| name.to_ascii_lowercase()).collect()
}

fn shown(endpoint: &Endpoint, operation: &Operation, method: &str) -> Value {
    let id = match operation.method {
        Verb::Any => format!("{}-{method}", operation.id),
        Verb::Get | Verb::Post | Verb::Put | Verb::Delete => operation.id.to_owned(),
    };
    let mut responses: Map<String, Value> =
        operation.answers.iter().map(|it| (it.status.as_u16().to_string(), answer(it, operation.access))).collect();
    for (status, codes) in by_status(endpoint, operation) {
        responses.insert(status.to_string(), failure(endpoint.spelling, &codes));
    }
    let mut shown = json!({
        "operationId": id,
        "summary": operation.summary,
        "description": operation.about,
        "tags": [operation.access.title()],
        "security": security(operation.access),
        "responses": responses,
    });
    if let Some(shown) = shown.as_object_mut() {
        if !operation.parameters.is_empty() {
            let parameters: Vec<Value> = operation.parameters.iter().map(parameter).collect();
            shown.insert("parameters".to_owned(), Value::Array(parameters));
        }
        if let Some(body) = &operation.body {
            shown.insert("requestBody".to_owned(), request_body(body));
        }
    }
    shown
}

/// The codes that an operation can fail with, by the status that says them.
pub fn by_status(endpoint: &Endpoint, operation: &Operation) -> BTreeMap<u16, Vec<Code>> {
    let mut statuses: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in operation.codes() {
        statuses.entry(error::status_of(code, endpoint.spelling).as_u16()).or_default().push(code);
    }
    statuses
}

/// SECURITY: the credential of most jobs and holders is in the body, where OpenAPI has no name for one.
fn security(access: Access) -> Value {
    match access {
        Access::Anyone | Access::Job | Access::Holder => json!([]),
        Access::JobHeader => json!([{"idToken": []}]),
        Access::HolderHeader => json!([{"uploadToken": []}]),
        Access::Registry | Access::RegistryAlways => json!([{"apiKey": []}]),
        Access::Proxy => {
            json!([{"proxyKey": [], "uploadToken": []}, {"proxyKey": [], "uploadTokenAsPassword": []}])
        }
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        Place::Query => "query",
        Place::Header => "header",
        Place::Path => "path",
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.required,
        "description": parameter.about,
        "schema": parameter.shape.schema(),
    })
}

fn request_body(body: &Body) -> Value {
    let content: Map<String, Value> = body
        .media
        .iter()
        .map(|media| {
            let mut schema = body.shape.schema();
            if let (true, Some(schema)) = (*media == body::FORM, schema.as_object_mut()) {
                // Of a list a form makes a parameter that occurs twice, which is refused.
                schema.insert("additionalProperties".to_owned(), json!({"type": "string"}));
            }
            ((*media).to_owned(), json!({"schema": schema, "example": example(body.example)}))
        })
        .collect();
    json!({"required": true, "description": format!("At most {} bytes.", body::MAX_BODY), "content": content})
}

fn answer(answer: &Answer, access: Access) -> Value {
    let mut headers = common_headers();
    let counted = if access.is_counted() { rate::HEADERS.as_slice() } else { &[] };
    for (name, about) in answer.headers.iter().chain(counted) {
        headers.insert((*name).to_owned(), json!({"description": about, "schema": {"type": "string"}}));
    }
    let mut shown = json!({"description": answer.about, "headers": headers});
    if let (Some(content), Some(shown)) = (&answer.content, shown.as_object_mut()) {
        let media = json!({"schema": content.shape.schema(), "example": example(content.example)});
        shown.insert("content".to_owned(), json!({content.media: media}));
    }
    shown
}

/// What an endpoint of that spelling answers with one of those codes.
fn failure(spelling: Spelling, codes: &[Code]) -> Value {
    let listed: Vec<String> = codes.iter().map(|code| format!("- `{code}`: {}", code.mend())).collect();
    let mut headers = common_headers();
    if codes.iter().any(|code| error::is_retried(*code)) {
        headers.insert("Retry-After".to_owned(), json!({"$ref": "#/components/headers/Retry-After"}));
    }
    if codes.contains(&Code::RateLimited) {
        for (name, about) in rate::HEADERS {
            headers.insert(name.to_owned(), json!({"description": about, "schema": {"type": "string"}}));
        }
    }
    if codes.contains(&Code::MethodNotAllowed) {
        headers.insert("Allow".to_owned(), json!({"description": "The methods.", "schema": {"type": "string"}}));
    }
    let one_of = json!({"type": "string", "enum": codes});
    let mut content = Value::Null;
    if let (Some(media), Some(name)) = (spelling.media_type(), spelling.schema_name()) {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        let code = json!({"type": "object", "properties": {"code": one_of}});
        content = json!({media: {"schema": {"allOf": [schema, code]}}});
    } else {
        headers.insert("X-Trustmint-Code".to_owned(), json!({"description": "The code.", "schema": one_of}));
        let detail = json!({"description": "What happened.", "schema": {"type": "string"}});
        headers.insert("X-Trustmint-Detail".to_owned(), detail);
    }
    let mut shown = json!({"description": listed.join("\n"), "headers": headers});
    if let (false, Some(shown)) = (content.is_null(), shown.as_object_mut()) {
        shown.insert("content".to_owned(), content);
    }
    shown
}

fn common_headers() -> Map<String, Value> {
    Map::from_iter([("X-Request-Id".to_owned(), json!({"$ref": "#/components/headers/X-Request-Id"}))])
}

/// The name under which a failure that any endpoint can have is listed once.
fn component(code: Code, spelling: Spelling) -> Option<String> {
    Some(format!("{code}.{}", spelling.schema_name()?))
}

fn example(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
