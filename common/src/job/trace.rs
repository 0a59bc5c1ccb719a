//! Trace context of a submission (W3C Trace Context, level 1): stored with the job and passed to the worker that runs
//! it and to receivers of its webhooks, so that their spans belong to the same trace.

use serde::{Deserialize, Serialize};

/// The headers `traceparent` and `tracestate` of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    parent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// A longer `tracestate` need not be propagated (section 3.3.1.5).
const MAX_STATE_BYTES: usize = 512;

impl TraceContext {
    /// Accepts the two headers as received; `None` if `traceparent` is not valid for version 00. A `tracestate` that is
    /// too long or not text is dropped, as the recommendation specifies: the trace continues without it.
    #[must_use]
    pub fn new(parent: &str, state: Option<&str>) -> Option<Self> {
        let fits = |state: &&str| {
            (1..=MAX_STATE_BYTES).contains(&state.len())
                && state.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        };
        is_parent(parent).then(|| Self {
            parent: parent.to_owned(),
            state: state.map(str::trim).filter(fits).map(str::to_owned),
        })
    }

    /// The same trace with a new span of Crunch as the parent, for propagation from within that span (section 3.4).
    #[must_use]
    pub fn child(&self) -> Self {
        let mut parts = self.parent.split('-');
        let (version, trace) = (parts.next().unwrap_or("00"), parts.next().unwrap_or_default());
        let flags = parts.nth(1).unwrap_or("00");
        let span = rand::random_range(1..=u64::MAX);
        Self { parent: format!("{version}-{trace}-{span:016x}-{flags}"), state: self.state.clone() }
    }

    /// Id of the parent span, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.parent.split('-').nth(2).unwrap_or_default()
    }

    /// `00-<trace id>-<parent id>-<flags>`
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// Data that other tracing systems added.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Size of both headers, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parent.len() + self.state.as_ref().map_or(0, String::len)
    }

    /// Id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.parent.split('-').nth(1).unwrap_or_default()
    }
}

/// Section 3.2: lower case only, and neither id is all zeros.
fn is_parent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let id = |part: &str, digits| hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<_> = text.split('-').collect();
    matches!(parts[..], ["00", trace, parent, flags]
        if id(trace, 32) && id(parent, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_taken_as_it_came() {
        let trace = TraceContext::new(PARENT, Some(" a=1,b=2 ")).unwrap();
        assert_eq!((trace.traceparent(), trace.tracestate()), (PARENT, Some("a=1,b=2")));
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        for dropped in ["", "\u{e4}=1", &"a".repeat(513)] {
            assert_eq!(TraceContext::new(PARENT, Some(dropped)).unwrap().tracestate(), None);
        }
    }

    #[test]
    fn a_child_goes_on_with_the_trace_under_a_span_of_its_own() {
        let trace = TraceContext::new(PARENT, Some("a=1")).unwrap();
        let child = trace.child();
        assert_eq!((child.trace_id(), child.tracestate()), (trace.trace_id(), Some("a=1")));
        assert_ne!(child.span_id(), trace.span_id());
        assert_eq!(TraceContext::new(child.traceparent(), Some("a=1")), Some(child));
    }

    #[test]
    fn what_is_no_parent_is_no_trace() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(TraceContext::new(bad, None), None, "{bad}");
        }
    }
}
