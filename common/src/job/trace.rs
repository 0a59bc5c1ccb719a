//! Trace context of a submission (W3C Trace Context, level 1): stored with the job and passed to the worker that runs
//! it and to receivers of its webhooks, so that their spans belong to the same trace.

mod state;

use serde::{Deserialize, Serialize};

/// The headers `traceparent` and `tracestate` of a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    parent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// The flag of traces whose spans are exported.
const SAMPLED: u8 = 1;
/// The flags that a new span passes on: the one above, and that of random trace ids, which level 2 added. All others
/// are reserved, and zero in a header that this version writes.
const KNOWN_FLAGS: u8 = SAMPLED | 2;

impl TraceContext {
    /// Accepts the two headers as received; `None` if `traceparent` is invalid. A `tracestate` that is invalid is
    /// dropped, as the recommendation specifies: the trace continues without it.
    #[must_use]
    pub fn new(parent: &str, state: Option<&str>) -> Option<Self> {
        Some(Self { parent: read_parent(parent)?, state: state.and_then(state::read) })
    }

    /// Starts a new trace with a sampled span.
    #[must_use]
    pub fn root() -> Self {
        let trace = rand::random_range(1..=u128::MAX);
        Self { parent: header(&format!("{trace:032x}"), &new_span(), SAMPLED), state: None }
    }

    /// The same trace with a new span of Crunch as the parent, for propagation from within that span (section 3.4).
    #[must_use]
    pub fn child(&self) -> Self {
        let parent = header(self.trace_id(), &new_span(), self.flags() & KNOWN_FLAGS);
        Self { parent, state: self.state.clone() }
    }

    /// The same span, sampled or not.
    #[must_use]
    pub fn with_sampled(&self, sampled: bool) -> Self {
        let flags = if sampled { self.flags() | SAMPLED } else { self.flags() & !SAMPLED };
        let parent = header(self.trace_id(), self.span_id(), flags);
        Self { parent, state: self.state.clone() }
    }

    /// Whether spans of this trace are exported.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags() & SAMPLED != 0
    }

    /// Id of the parent span, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        self.part(2)
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
        self.part(1)
    }

    fn flags(&self) -> u8 {
        u8::from_str_radix(self.part(3), 16).unwrap_or_default()
    }

    fn part(&self, index: usize) -> &str {
        self.parent.split('-').nth(index).unwrap_or_default()
    }
}

fn header(trace: &str, span: &str, flags: u8) -> String {
    format!("00-{trace}-{span}-{flags:02x}")
}

fn new_span() -> String {
    format!("{:016x}", rand::random_range(1..=u64::MAX))
}

/// Section 3.2: lower case only, and neither id is all zeros. Of a later version, the part that version 00 has is read,
/// and continues as version 00 (section 4.3).
fn read_parent(text: &str) -> Option<String> {
    let parts: Vec<_> = text.splitn(5, '-').collect();
    let ([version, trace, span, flags] | [version, trace, span, flags, _]) = parts[..] else {
        return None;
    };
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.len() == 4)
        && is_id(trace, 32)
        && is_id(span, 16)
        && is_hex(flags, 2);
    if !is_valid {
        return None;
    }
    match version {
        "00" => Some(text.to_owned()),
        _ => Some(header(trace, span, u8::from_str_radix(flags, 16).ok()? & SAMPLED)),
    }
}

fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    // Which headers are valid is tested through the whole queue: `tests/it/traces/headers.rs`.

    #[test]
    fn a_parent_is_taken_as_it_came() {
        let trace = TraceContext::new(PARENT, Some(" a=1,b=2 ")).unwrap();
        assert_eq!((trace.traceparent(), trace.tracestate()), (PARENT, Some("a=1,b=2")));
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.span_id(), "b7ad6b7169203331");
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
    fn flags_that_are_not_known_end_with_the_span() {
        let flags = |flags: &str| {
            let parent = format!("{}{flags}", PARENT.strip_suffix("01").unwrap());
            TraceContext::new(&parent, None).unwrap()
        };
        for (given, passed_on) in [("00", "00"), ("01", "01"), ("03", "03"), ("ff", "03")] {
            assert!(flags(given).child().traceparent().ends_with(passed_on), "{given}");
        }
        assert!(flags("ff").is_sampled() && !flags("fe").is_sampled());
        assert_eq!(flags("01").with_sampled(false), flags("00"));
        assert_eq!(flags("02").with_sampled(true), flags("03"));
    }

    #[test]
    fn a_root_is_a_trace_of_its_own_and_sampled() {
        let (one, other) = (TraceContext::root(), TraceContext::root());
        assert_eq!(TraceContext::new(one.traceparent(), None).as_ref(), Some(&one));
        assert!(one.is_sampled() && one.trace_id() != other.trace_id());
    }
}
