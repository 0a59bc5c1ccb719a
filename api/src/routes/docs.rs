//! The OpenAPI document for people: Swagger UI, served from this process. Nothing is loaded from elsewhere, and no script
//! stands in the page.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use crunch_common::telemetry::LogLimit;
use utoipa_swagger_ui::{Config, serve};

use super::Answer;
use crate::problem::{BURST, INTERNAL, NOT_FOUND, Problem};

/// The files of the library that the page uses. It brings more, which nobody needs to reach.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];
/// Our own file beside them.
const START: &str = "start.js";
/// Requests go to where the page came from, wherever the document says the API is: only there the browser lets them.
const START_JS: &str = include_str!("docs/start.js");
const PAGE: &str = include_str!("docs/page.html");
/// The page may load from here and ask here, and nothing else, and nothing that stands in it is run. The library draws with
/// `data:` pictures.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Anybody may ask for a file.
static MISSING: LogLimit = LogLimit::new(BURST);

/// Files change with the version of this process only.
const AN_HOUR: &str = "public, max-age=3600";

/// All routes, to read and to try.
#[utoipa::path(get, path = "/docs", tag = "pages", operation_id = "getDocs",
    responses((status = 200, description = "A page for people", content_type = "text/html", body = String)))]
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}

/// What the page is made of.
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
                    "a file of the page is not there"
                );
            }
            Err(Problem::new(INTERNAL, "a file of the page is not there"))
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
