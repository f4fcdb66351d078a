//! How one ecosystem's clients spell the exchange on the wire: thin codecs, one file each.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::http::header::HeaderValue;

use crate::code::Code;
use crate::exchange;
use crate::exchange::IssuedToken;
use crate::http::arrival::Arrival;
use crate::http::error::Refusal;
use crate::http::rate;
use crate::json::Json;
use crate::json::Object;
use crate::package::PackageName;
use crate::policy::evaluate::Requested;
use crate::policy::registry::Registry;
use crate::secret::Presented;
use crate::yielding::Yielding;

pub mod conda;
pub mod crates_io;
pub mod npm;
pub mod nuget;
pub mod open_vsx;
pub mod pypi;
pub mod rubygems;

/// Exchanges an ID token for an upload token that is for all that the rules grant, or for that of one package.
async fn exchanged(
    arrival: &Arrival<'_>,
    registry: &Registry,
    subject_token: &str,
    package: Option<PackageName>,
) -> Result<IssuedToken, Refusal> {
    let requested = Requested { package, narrow: None };
    let place = &arrival.place;
    let give_back = || place.give_back();
    let asked = exchange::Request {
        registry,
        subject_token: Presented::new(subject_token),
        requested,
        single_use: false,
        yielding: Yielding::new(&give_back),
    };
    Ok(arrival.public.app.exchange(&arrival.policy, asked, &arrival.caller, arrival.now).await?)
}

/// An answer with an upload token in it.
fn answer(mut response: HttpResponse, issued: &IssuedToken) -> HttpResponse {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    rate::tell(response.headers_mut(), issued.standing());
    response
}

/// The token that a body has under that name.
fn token<'b>(body: &'b Object, name: &str) -> Result<&'b str, Refusal> {
    if body.get(name).is_none() {
        return Err(Refusal::new(Code::TokenMissing, format!("the body has no `{name}`")));
    }
    let empty = || Refusal::new(Code::TokenMissing, format!("`{name}` is empty"));
    Some(text(body, name)?).filter(|token| !token.is_empty()).ok_or_else(empty)
}

/// The text that a body has under that name; the empty one if there is none.
fn text<'b>(body: &'b Object, name: &str) -> Result<&'b str, Refusal> {
    match body.get(name) {
        None => Ok(""),
        Some(Json::String(text)) => Ok(text),
        Some(other) => {
            let detail = format!("`{name}` must be a string; it is {}", other.type_name());
            Err(Refusal::new(Code::BadRequest, detail))
        }
    }
}
