//! The trace a submission belongs to (W3C Trace Context).

use actix_web::HttpRequest;
use crunch_common::job::TraceContext;

/// Returns the trace in the request's headers, if there is one. A malformed one is ignored: a new trace begins.
pub(crate) fn of(request: &HttpRequest) -> Option<TraceContext> {
    let mut parents = request.headers().get_all("traceparent");
    let parent = parents.next().filter(|_| parents.next().is_none())?.to_str().ok()?;
    let states = request.headers().get_all("tracestate").map(|state| state.to_str());
    let state = states.collect::<Result<Vec<_>, _>>().ok().map(|states| states.join(","));
    TraceContext::new(parent.trim(), state.as_deref())
}
