//! The operations listener: health and metrics, on a port of its own that is never public.

use actix_web::HttpResponse;
use actix_web::web;

use crate::app::App;
use crate::telemetry::metrics::CONTENT_TYPE;

/// `GET /livez`: the process answers.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// `GET /readyz`: requests can be served. Ready does not depend on any one identity provider: one that is down must
/// not take the others' releases with it.
pub async fn readyz(app: web::Data<App>) -> HttpResponse {
    if app.is_ready() {
        HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n")
    } else {
        let reason = "not ready: no key of the ring may mint now; see `trustmint keys list`\n";
        HttpResponse::ServiceUnavailable().content_type("text/plain; charset=utf-8").body(reason)
    }
}

/// `GET /metrics`: what is counted, in Prometheus' text format.
pub async fn metrics(app: web::Data<App>) -> HttpResponse {
    match app.metrics().render() {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}
