//! Describes API keys in the OpenAPI document: the scheme, and the scope that each operation requires, from the table
//! of routes.

use actix_web::http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, ResponseBuilder};

use super::problem;
use crate::auth::Scope;
use crate::config::TaskRoute;
use crate::routes;

const SCHEME: &str = "key";

/// The additional errors of every operation that requires a key.
const ERRORS: [(&str, &str); 3] = [
    ("401", "No key was sent, or an invalid one"),
    ("403", "The key lacks the scope or the queue, or a page of another site sent the request"),
    ("429", "The caller exceeds its request rate; `Retry-After` is the time to wait"),
];

pub(super) fn describe(document: &mut OpenApi, task_routes: &[TaskRoute]) {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.bearer_format = Some("crk_<id>_<secret>".to_owned());
    scheme.description = Some(
        "An API key. The deployment decides whether keys are required. The roles of an operation are the scopes that a key \
         must have; `admin` includes all of them."
            .to_owned(),
    );
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    for (method, path, access) in routes::offered(task_routes) {
        let item = document.paths.paths.get_mut(&path);
        let operation = item.and_then(|item| operation(item, &method));
        if let Some((operation, scope)) = operation.zip(access.scope()) {
            require_scope(operation, scope);
        }
    }
}

fn operation<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match *method {
        Method::GET => item.get.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}

fn require_scope(operation: &mut Operation, scope: Scope) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [scope.as_str()])]);
    for (code, description) in ERRORS {
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", problem())
            .build();
        operation.responses.responses.entry(code.to_owned()).or_insert(RefOr::T(response));
    }
}
