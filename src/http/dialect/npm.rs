//! npm's trusted publishing: what npm, pnpm and yarn call before they publish, once for each package.
//!
//! npm asks at the root of the host, whatever the registry's path; pnpm and yarn keep the path. The host has one such
//! registry. Clients that are refused go on with the credentials that they have, or with none: the registry stops those.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use serde_json::json;

use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body::printable;
use crate::http::credential;
use crate::http::dialect;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::policy::dialect::Dialect;
use crate::policy::registry::Registry;

/// What stands before the package's name.
const PATH: &str = "/-/npm/v1/oidc/token/exchange/package/";

/// npm's exchange.
pub static EXCHANGE: Endpoint = Endpoint {
    path: "/-/npm/v1/oidc/token/exchange/package/{name:.*}",
    base: Base::Registry,
    spelling: Spelling::Npm,
    operations: &[Operation {
        access: Access::JobHeader,
        method: Verb::Post,
        id: "exchangeNpmToken",
        summary: "Exchange an ID token for one package, as npm, pnpm and yarn do",
        about: "At the root of the host and at the path of the registry's URL. The token is for what the rules grant of this \
                package. An ID token is good for one exchange a package, unless the registry's policy says otherwise: CI \
                systems give a job one for its whole workspace.",
        parameters: &[Parameter {
            name: "name",
            place: Place::Path,
            required: true,
            shape: Shape::SomeText,
            about: "The package: `widgets`, or `@acme/widgets` with `@` and `/` as they are or as `%40` and `%2f`. No other \
                    escapes.",
        }],
        body: None,
        answers: &[Answer::json(
            StatusCode::CREATED,
            "The upload token.",
            Shape::Object(&[
                Member::must("token_type", Shape::Words(&[TOKEN_TYPE]), "How it came to be."),
                Member::must("token", Shape::Text(MAX_UPLOAD_TOKEN), "The upload token, sent as `Bearer`."),
                Member::must("created", Shape::Format("date-time"), "Since when it is good."),
                Member::must("expires", Shape::Format("date-time"), "Until when it is good."),
            ]),
            r#"{"token_type": "oidc", "token": "npm-AgEM…", "created": "2026-11-27T00:00:00Z", "expires": "2026-11-27T00:15:00Z"}"#,
        )],
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(exchange),
    }],
};

const TOKEN_TYPE: &str = "oidc";

/// `POST /-/npm/v1/oidc/token/exchange/package/{name}`, with the ID token as `Bearer` and no body.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::Npm, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let missing = "the request must have one `Authorization` header, with the ID token as `Bearer`; npm reads that from \
                   the variable `NPM_ID_TOKEN`, and at GitHub asks for it";
    let token = credential::bearer(request).ok_or_else(|| Refusal::new(Code::TokenMissing, missing))?;
    let registry = tenant::of_dialect(request, public, policy, Dialect::Npm)?;
    let package = package(raw_name(request, public, registry)?)?;
    // Some programs send `{}` where there is nothing to say. Anything else would be lost in silence, a restriction too.
    if !matches!(arrival.body.trim_ascii(), b"" | b"{}") {
        return Err(Refusal::new(
            Code::BadRequest,
            "the request must have no body: the path says all that it asks for",
        ));
    }
    let issued = dialect::exchanged(arrival, registry, token, Some(package)).await?;
    let minted = issued.minted();
    let body = json!({
        "token_type": TOKEN_TYPE,
        "token": minted.token.expose(),
        "created": now.to_string(),
        "expires": minted.expires_at.to_string(),
    });
    Ok(dialect::answer(HttpResponse::Created().json(body), &issued))
}

/// What the raw path has where the name stands: at the root of the host, or behind the path of the registry's URL.
fn raw_name<'q>(request: &'q HttpRequest, public: &Public, registry: &Registry) -> Result<&'q str, Refusal> {
    let behind = tenant::behind(request, public, registry)?;
    let mut names = [request.path()].into_iter().chain(behind).filter_map(|path| path.strip_prefix(PATH));
    names.next().ok_or_else(|| {
        let detail =
            format!("npm's exchange is at `{PATH}`, at the root of the host or at the path of the registry's URL");
        Refusal::new(Code::NotFound, detail)
    })
}

/// The package that a raw path names: `widgets`, or `@acme/widgets` whose `@` is `%40` or itself and whose one slash is
/// `%2f`, `%2F` or itself, as proxies make of it.
///
/// SECURITY: these spellings and no decoding beyond them. What is escaped without need, or twice, is a name to one program
/// and another, or a way out of the path, to the next.
fn package(raw: &str) -> Result<PackageName, Refusal> {
    let scoped = raw.strip_prefix('@').or_else(|| raw.strip_prefix("%40"));
    let apart = scoped.and_then(|scoped| ["/", "%2f", "%2F"].into_iter().find_map(|slash| scoped.split_once(slash)));
    let name = apart.map_or_else(|| raw.to_owned(), |(scope, name)| format!("@{scope}/{name}"));
    PackageName::parse(Ecosystem::Npm, &name)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("the package name `{}` {error}", printable(&name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_from_the_raw_path_in_the_spellings_that_clients_have() {
        for (raw, expected) in [
            ("widgets", "widgets"),
            ("acme.widgets_2-x", "acme.widgets_2-x"),
            ("@acme%2fwidgets", "@acme/widgets"),
            ("@acme%2Fwidgets", "@acme/widgets"),
            ("%40acme%2fwidgets", "@acme/widgets"),
            ("%40acme%2Fwidgets", "@acme/widgets"),
            ("@acme/widgets", "@acme/widgets"),
            ("%40acme/widgets", "@acme/widgets"),
        ] {
            assert_eq!(package(raw).map(|name| name.to_string()).ok().as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for raw in [
            "",
            "/",
            "@",
            "%40",
            "@acme",
            "@acme/",
            "@acme%2f",
            "@/widgets",
            "@%2fwidgets",
            "acme/widgets",
            "acme%2fwidgets",
            "widgets/",
            "/widgets",
            "widgets%2f",
            "@acme%252fwidgets",
            "@acme%25252fwidgets",
            "%2540acme%2fwidgets",
            "@acme%2f%2fwidgets",
            "@acme//widgets",
            "@acme/%2fwidgets",
            "@acme%2fwidgets/x",
            "@acme/widgets%2fx",
            "@acme%2fwidgets%2f..",
            "@acme/../widgets",
            "@acme%2f..",
            "@acme/..",
            "@../widgets",
            "..",
            ".",
            "%2e%2e",
            "@acme/%2e%2e",
            "%77idgets",
            "wid%67ets",
            "widgets%00",
            "widgets%0a",
            "widgets%20",
            "widgets+x",
            "widgets;x",
            "widgets@1.0.0",
            "@acme/widgets@1.0.0",
            "@@acme/widgets",
            "%40%40acme/widgets",
            "@%40acme/widgets",
            "@acme\\widgets",
            "@acme%5cwidgets",
            "Widgets",
            "@Acme/widgets",
            "@acme/W%69dgets",
            "_widgets",
            "@acme/_x",
            "@acme/.x",
            "w\u{ef}dgets",
            "w%c3%afdgets",
            "\u{ff05}40acme/widgets",
        ] {
            assert!(package(raw).is_err(), "{raw}");
        }
    }
}
