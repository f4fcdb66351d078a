//! How one ecosystem's clients spell the exchange on the wire: thin codecs, one file each.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;

use crate::exchange;
use crate::exchange::IssuedToken;
use crate::http::arrival::Arrival;
use crate::http::error::Refusal;
use crate::http::rate;
use crate::package::PackageName;
use crate::policy::evaluate::Requested;
use crate::policy::registry::Registry;

pub mod npm;
pub mod pypi;

/// Exchanges an ID token for an upload token that is for all that the rules grant, or for that of one package.
async fn exchanged(
    arrival: &Arrival<'_>,
    registry: &Registry,
    subject_token: &str,
    package: Option<PackageName>,
) -> Result<IssuedToken, Refusal> {
    let requested = Requested { package, narrow: None };
    let asked = exchange::Request { registry, subject_token, requested, single_use: false };
    Ok(arrival.public.app.exchange(&arrival.policy, asked, &arrival.caller, arrival.now).await?)
}

/// An answer with an upload token in it.
fn answer(status: StatusCode, body: &serde_json::Value, issued: &IssuedToken) -> HttpResponse {
    let mut response = HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(body);
    rate::tell(response.headers_mut(), issued.standing());
    response
}
