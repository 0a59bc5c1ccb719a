//! The metrics of this API.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::Answer;
use crate::auth::Caller;
use crate::problem::{FORBIDDEN, Problem};
use crate::state::App;

/// Returns the metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "getMetrics", responses(
    (status = 200, description = "Metrics in Prometheus' text format", content_type = "text/plain", body = String),
))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller) -> Answer {
    if caller.queues().is_some() {
        let detail = "metrics cover all queues, and this key is limited to some";
        return Err(Problem::new(FORBIDDEN, detail));
    }
    let response = HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(app.metrics.render().await);
    Ok(response)
}
