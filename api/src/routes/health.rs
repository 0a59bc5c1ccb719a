//! Liveness and readiness.

use actix_web::{HttpResponse, web};

use super::Answer;
use crate::document::ok;
use crate::problem::{Problem, UNAVAILABLE};
use crate::state::App;

/// The process is alive; independent of Redis.
#[utoipa::path(get, path = "/livez", tag = "health", operation_id = "getLiveness", responses((status = 200, description = "The process is alive")))]
pub(crate) async fn live() -> HttpResponse {
    ok(&serde_json::json!({ "status": "ok" }))
}

/// Redis is reachable and usable, and the process is not shutting down.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "getReadiness", responses(
    (status = 200, description = "Requests are served"),
    (status = 503, description = "Requests should be sent to another instance"),
))]
pub(crate) async fn ready(app: web::Data<App>) -> Answer {
    match app.readiness.check() {
        Ok(()) => Ok(ok(&serde_json::json!({ "status": "ok" }))),
        Err(reason) => {
            tracing::debug!(reason, "not ready");
            Err(Problem::new(UNAVAILABLE, "this instance is not ready")
                .header(actix_web::http::header::CACHE_CONTROL, "no-store"))
        }
    }
}
