//! HTML pages, and the OpenAPI document.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use crunch_common::telemetry::LogLimit;

use super::Answer;
use crate::etag;
use crate::problem::{BURST, INTERNAL, KINDS, NOT_FOUND, Problem};
use crate::state::App;

static UNWRITTEN: LogLimit = LogLimit::new(BURST);

/// Returns this document: OpenAPI 3.1, with every declared task.
#[utoipa::path(get, path = "/openapi.json", tag = "pages", operation_id = "getOpenapi",
    responses(
        (status = 200, description = "This document", body = serde_json::Value, headers(("ETag" = String, description = "The version of the document"))),
        (status = 304, description = "Unchanged since the ETag of If-None-Match"),
    ))]
pub(crate) async fn openapi(app: web::Data<App>, request: HttpRequest) -> Answer {
    let server = app.public_url.to_string();
    let document = app.openapi.get(&app.catalog, &app.task_routes, &server).map_err(|error| {
        if let Some(left_out) = UNWRITTEN.admit() {
            tracing::error!(%error, left_out, "cannot write the OpenAPI document");
        }
        Problem::new(INTERNAL, "the document cannot be written")
    })?;
    let unchanged = etag::is_known(&request, &document.tag);
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, document.tag))
        .insert_header((header::CACHE_CONTROL, "no-cache"));
    if unchanged {
        return Ok(response.finish());
    }
    Ok(response.content_type("application/json").body(document.text))
}

/// Explains a problem type.
#[utoipa::path(get, path = "/problems/{slug}", tag = "pages", operation_id = "getProblemPage",
    params(("slug" = String, Path, description = "The last part of a problem's `type`")),
    responses(
        (status = 200, description = "An HTML page", content_type = "text/html", body = String),
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

/// Returns a short page to start from.
#[utoipa::path(get, path = "/", tag = "pages", operation_id = "getHomePage",
    responses((status = 200, description = "An HTML page", content_type = "text/html", body = String)))]
pub(crate) async fn home() -> HttpResponse {
    page(
        "Crunch",
        "<p>Submit a job with <code>POST /jobs</code>, read its state with <code>GET /jobs/{id}</code>.</p>\n\
         <p><a href=\"dashboard\">The dashboard</a> · <a href=\"docs\">All routes, to read and to try</a> · <a href=\"openapi.json\">the OpenAPI document</a></p>\n\
         <p><a href=\"tasks\">tasks</a> · \
         <a href=\"queues\">queues</a> · <a href=\"workers\">workers</a> · <a href=\"jobs\">jobs</a></p>",
    )
}

/// Builds a page from fixed text only: it never contains input of a client.
fn page(title: &str, body: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n{body}\n</html>\n"
    );
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"))
        .body(html)
}
