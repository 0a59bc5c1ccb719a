//! Pages for people, and the OpenAPI document.

use actix_web::{HttpResponse, web};

use super::Answer;
use crate::problem::{KINDS, NOT_FOUND, Problem};
use crate::state::App;
use crate::{document, openapi};

/// This document: OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "pages", operation_id = "getOpenapi",
    responses((status = 200, description = "This document", body = serde_json::Value)))]
pub(crate) async fn openapi(app: web::Data<App>) -> HttpResponse {
    document::ok(&openapi::document(&app.task_routes))
}

/// What a problem type means.
#[utoipa::path(get, path = "/problems/{slug}", tag = "pages", operation_id = "getProblemPage",
    params(("slug" = String, Path, description = "The last part of a problem's `type`")),
    responses(
        (status = 200, description = "A page for people", content_type = "text/html", body = String),
        (status = 404, description = "There is no such problem type"),
    ))]
pub(crate) async fn problem(slug: web::Path<String>) -> Answer {
    let kind = KINDS.iter().find(|kind| kind.slug == slug.as_str());
    let kind = kind.ok_or_else(|| Problem::new(NOT_FOUND, "there is no such problem type"))?;
    Ok(page(
        kind.title,
        &format!("<p>Status {}.</p>\n<p>{}</p>", kind.status.as_u16(), kind.explanation),
    ))
}

/// A short page to start from.
#[utoipa::path(get, path = "/", tag = "pages", operation_id = "getHomePage",
    responses((status = 200, description = "A page for people", content_type = "text/html", body = String)))]
pub(crate) async fn home() -> HttpResponse {
    page(
        "Crunch",
        "<p>Submit a job with <code>POST /jobs</code>, read how it stands with <code>GET /jobs/{id}</code>.</p>\n\
         <p><a href=\"/openapi.json\">All routes (OpenAPI)</a> · <a href=\"/tasks\">tasks</a> · \
         <a href=\"/queues\">queues</a> · <a href=\"/workers\">workers</a> · <a href=\"/jobs\">jobs</a></p>",
    )
}

/// A page of our own words only: nothing a client sent is ever in it.
fn page(title: &str, body: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n{body}\n</html>\n"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"))
        .body(html)
}
