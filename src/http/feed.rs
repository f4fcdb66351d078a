//! Lists that are read in parts: `?since=` with the `next` of the answer before.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use serde_json::Value;
use serde_json::json;

use crate::code::Code;
use crate::http::body;
use crate::http::body::printable;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::state::Cursor;

/// Where to go on.
pub const SINCE: Parameter = Parameter {
    name: "since",
    place: Place::Query,
    required: false,
    shape: Shape::Pattern(r"^(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})$"),
    about: "The `next` of an earlier answer; without it the list begins with the oldest entry that is kept.",
};

/// The place after the part.
pub const NEXT: Member = Member::must(
    "next",
    Shape::OrNull(&Shape::AnyText),
    "What to send as `since` next time; null where there has never been anything.",
);

/// Whether there is another part already.
pub const MORE: Member = Member::must("more", Shape::Flag, "Whether to ask again at once.");

/// From where the request wants the list: after the cursor, or from the oldest that is kept.
pub fn since(request: &HttpRequest) -> Result<Option<Cursor>, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    let mut cursor = None;
    for (name, value) in body::form(request.query_string().as_bytes())? {
        if name != "since" {
            return Err(bad(format!("`{}` is not a parameter of this list; known is `since`", printable(&name))));
        }
        cursor = Some(value.parse().map_err(|_| bad("`since` must be the `next` of an earlier answer".to_owned()))?);
    }
    Ok(cursor)
}

/// A part of a list, under its name. `next` is null only where there has never been anything; `more` says whether
/// to ask again at once.
pub fn part(name: &str, entries: Vec<Value>, next: Option<Cursor>, more: bool) -> HttpResponse {
    let next = next.map(|cursor| cursor.to_string());
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({name: entries, "next": next, "more": more}))
}
