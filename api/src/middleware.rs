//! What happens around every request: its id, its problem document, its line in the log.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use uuid::Uuid;

use crate::problem::{INTERNAL, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes the client's request id or makes one, answers problems with path and id, logs failures of ours.
pub(crate) async fn around<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = request_id(&request);
    let path = request.path().to_owned();
    let method = request.method().clone();
    let mut response = match next.call(request).await {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => return Err(error),
    };
    if let Some(error) = response.response().error() {
        let answer = match error.as_error::<Problem>() {
            Some(problem) => problem.respond(&path),
            None if response.status().is_server_error() => {
                tracing::error!(request.id = %id_text(&id), %error, "a request failed");
                Problem::new(INTERNAL, "the request could not be served").respond(&path)
            }
            None => Problem::new(crate::problem::NOT_FOUND, "there is nothing here").respond(&path),
        };
        response = response.into_response(answer);
    }
    response.headers_mut().insert(REQUEST_ID, id.clone());
    tracing::debug!(request.id = %id_text(&id), %method, path, status = response.status().as_u16(), "answered");
    Ok(response)
}

/// The client's own id if it is 1 to 128 visible ASCII characters, else a fresh one.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

fn id_text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}
