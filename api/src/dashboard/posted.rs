//! What a form of a page sent.

use actix_web::web;
use crunch_common::job::ContentType;

use super::Call;
use super::viewer::Viewer;
use crate::problem::{CROSS_SITE_REQUEST, Problem};
use crate::{body, query};

/// The type of the body of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// The fields of a form besides a payload.
const OTHER_FIELDS: u64 = 256 * 1024;
/// How much longer a byte of a payload becomes in a form.
const ENCODED: u64 = 3;
/// The hidden field that every form has.
pub(super) const TOKEN: &str = "token";

/// The fields of a form, in their order.
#[derive(Debug, Default)]
pub(super) struct Posted(Vec<(String, String)>);

/// Reads a form of a viewer's page; that of a new job has a payload.
///
/// # Errors
/// If it is no form, is too large, or was not made for the viewer's session.
pub(super) async fn read(
    call: &Call,
    body: web::Payload,
    viewer: &Viewer,
    is_job: bool,
) -> Result<Posted, Problem> {
    let payload = if is_job { ENCODED * call.app.catalog.largest_json_payload() } else { 0 };
    let limit = OTHER_FIELDS + payload;
    let posted = read_any(call, body, limit).await?;
    if !posted.get(TOKEN).is_some_and(|token| viewer.secret.made(token)) {
        let detail =
            "the form belongs to another session, or its session has ended: open the page again";
        return Err(Problem::new(CROSS_SITE_REQUEST, detail));
    }
    Ok(posted)
}

/// Reads a form without a token.
///
/// # Errors
/// If it is no form, or is too large.
pub(super) async fn read_any(
    call: &Call,
    body: web::Payload,
    limit: u64,
) -> Result<Posted, Problem> {
    let form: ContentType = FORM.parse().expect("it is a content type");
    body::content_type(&call.request, Some(&[form]))?;
    let bytes = body::read(&call.request, body, &call.app.budgets.requests, limit).await?;
    let text = std::str::from_utf8(&bytes);
    Ok(Posted(query::pairs(text.map_err(|_| query::invalid("form", "expected UTF-8"))?)?))
}

impl Posted {
    /// Returns the first field with a name, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields();
        fields.find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The fields that are not empty.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fields.filter(|(_, value)| !value.is_empty())
    }
}
