//! Whether the process lives, and whether it can serve.

use actix_web::{HttpResponse, web};

use super::Answer;
use crate::document::ok;
use crate::problem::{Problem, UNAVAILABLE};
use crate::state::App;

/// The process answers; says nothing about Redis.
#[utoipa::path(get, path = "/livez", tag = "health", operation_id = "getLiveness", responses((status = 200, description = "The process lives")))]
pub(crate) async fn live() -> HttpResponse {
    ok(&serde_json::json!({ "status": "ok" }))
}

/// Redis can be reached and used, and the process is not about to stop.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "getReadiness", responses(
    (status = 200, description = "Requests are served"),
    (status = 503, description = "Send them elsewhere for now"),
))]
pub(crate) async fn ready(app: web::Data<App>) -> Answer {
    match app.readiness.check() {
        Ok(()) => Ok(ok(&serde_json::json!({ "status": "ok" }))),
        Err(reason) => {
            tracing::debug!(reason, "not ready");
            Err(Problem::new(UNAVAILABLE, "this instance cannot serve right now")
                .header(actix_web::http::header::CACHE_CONTROL, "no-store"))
        }
    }
}
