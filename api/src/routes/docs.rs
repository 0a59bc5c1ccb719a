//! The OpenAPI document for humans: Swagger UI, served by this process. Nothing is loaded from other hosts, and the
//! page contains no inline script.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use crunch_common::telemetry::LogLimit;
use utoipa_swagger_ui::{Config, serve};

use super::Answer;
use crate::problem::{BURST, INTERNAL, NOT_FOUND, Problem};

/// The files of the library that the page uses. It has others, which are not served.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/// The file of the API besides them.
const START: &str = "start.js";
/// Sends requests to the origin of the page, whatever server the document contains: the browser allows only that one.
const START_JS: &str = include_str!("docs/start.js");
const PAGE: &str = include_str!("docs/page.html");
/// The page may load from and connect to its own origin only, and inline scripts are not run. The library uses `data:`
/// images.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Any client may request a file.
static MISSING: LogLimit = LogLimit::new(BURST);

/// Files change only with the version of this process.
const AN_HOUR: &str = "public, max-age=3600";

/// Returns a page with all routes, to read and to try.
#[utoipa::path(get, path = "/docs", tag = "pages", operation_id = "getDocs",
    responses((status = 200, description = "An HTML page", content_type = "text/html", body = String)))]
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}

/// Returns a file of the page.
#[utoipa::path(get, path = "/docs/{file}", tag = "pages", operation_id = "getDocsFile",
    params(("file" = String, Path, description = "The file's name")),
    responses(
        (status = 200, description = "The file", content_type = "text/css", body = String),
        (status = 404, description = "The page has no such file"),
    ))]
pub(crate) async fn file(name: web::Path<String>) -> Answer {
    if name.as_str() == START {
        return Ok(of("text/javascript; charset=utf-8", START_JS));
    }
    let known = FILES.iter().find(|file| **file == name.as_str());
    let known = known.ok_or_else(|| Problem::new(NOT_FOUND, "there is nothing here"))?;
    match serve(known, Arc::new(Config::from("/openapi.json"))) {
        Ok(Some(file)) => Ok(of(&file.content_type, file.bytes.into_owned())),
        missing => {
            if let Some(left_out) = MISSING.admit() {
                tracing::error!(
                    file = known,
                    broken = missing.is_err(),
                    left_out,
                    "a file of the page is missing"
                );
            }
            Err(Problem::new(INTERNAL, "a file of the page is missing"))
        }
    }
}

fn of(content_type: &str, body: impl Into<web::Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CACHE_CONTROL, AN_HOUR))
        .body(body.into())
}
