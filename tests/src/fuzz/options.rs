//! Known options, parameters and headers, with nearly valid values: purely random inputs seldom get that far.

use super::draw::Draw;
use super::request::Ids;

/// Options of an envelope, and values for them as JSON.
const OPTIONS: &[(&str, &[&str])] = &[
    ("queue", &["\"default\"", "\"a\"", "\"A\"", "\"crunch.webhooks\"", "\"a..b\"", "7"]),
    ("group", &["\"a\"", "\"a/b\"", "\"\"", "\"\\u0000\"", "\"\\ud800\"", "7", "{}"]),
    (
        "unique",
        &[
            "{}",
            "{\"key\":\"a\",\"on_conflict\":\"reject\"}",
            "{\"key\":\"a\",\"on_conflict\":\"replace\",\"max_wait_ms\":5000}",
            "{\"key\":\"\\u0000\"}",
            "{\"fields\":[\"/a\",\"\"],\"for_ms\":1}",
            "{\"fields\":[\"~\"]}",
            "{\"on_conflict\":\"keep_latest\"}",
            "{\"until\":\"start\",\"until\":\"end\"}",
            "[]",
        ],
    ),
    ("priority", &["\"low\"", "\"urgent\"", "\"Urgent\"", "3"]),
    ("delay_ms", &["0", "1", "31536000001", "18446744073709551615", "1.0", "\"5\""]),
    (
        "run_at",
        &["\"2026-01-01T00:00:00Z\"", "\"9999-12-31T23:59:60Z\"", "\"-9999-01-01T00:00:00Z\"", "0"],
    ),
    ("timeout_ms", &["0", "1", "86400000", "9007199254740993"]),
    ("deadline_ms", &["0", "1", "5000", "18446744073709551615"]),
    ("start_within_ms", &["0", "1", "5000", "18446744073709551615"]),
    ("max_attempts", &["0", "1", "100", "101", "4294967296"]),
    ("retention_ms", &["0", "1", "9007199254740993"]),
    ("durability", &["\"memory\"", "\"fsync\"", "\"replica,fsync\"", "\"replica\"", "[\"fsync\"]"]),
    ("idempotency_key", &["\"k\"", "\"\"", "\"a b\"", "\"\\u00e9\"", "\"\\u0000\""]),
    (
        "metadata",
        &["{}", "{\"a\":\"b\",\"a\":1}", "{\"\":1}", "{\"k\":1e999}", "{\"k\":\"\\ud800\"}", "[1]"],
    ),
    (
        "webhook",
        &[
            "{\"url\":\"http://127.0.0.1:1/\"}",
            "{\"url\":\"http://[::1%25eth0]/\"}",
            "{\"url\":\"https://user:pass@localhost:99999/\"}",
            "{\"url\":\"http://xn--/\"}",
            "{\"url\":\"http://0x7f.1/\"}",
            "{\"url\":\"file:///etc/passwd\"}",
            "{\"url\":\"http://a.invalid/\\u0000\"}",
            "{\"url\":\"http://a.invalid/\",\"events\":[\"succeeded\",\"x\"]}",
            "{\"url\":\"http://a.invalid/\",\"url\":\"http://b.invalid/\"}",
        ],
    ),
];
/// Query parameters, and values for them.
const PARAMETERS: &[(&str, &[&str])] = &[
    ("limit", &["1", "0", "100", "1001", "18446744073709551616"]),
    ("status", &["succeeded", "queued,failed", "queued&status=failed", "x"]),
    ("code", &["timeout", "x", "%00"]),
    ("created_after", &["2026-01-01T00:00:00Z", "0", "%2B"]),
    ("finished_before", &["2026-01-01T00:00:00Z", "0", "%2B"]),
    ("finished_before", &["2026-01-01T00:00:00Z", "9999-99-99T00:00:00Z"]),
    ("from", &["2026-01-01T00:00:00Z", "9999-99-99T00:00:00Z"]),
    ("by", &["customer", "%00", "127.0.0.1"]),
    ("action", &["pause", "retry", "x"]),
    ("queue", &["default", "A", "%ff"]),
    ("group", &["a", "a%2Fb", "%00", "%ff"]),
    ("priority", &["urgent", "x"]),
    ("unique.key", &["a", "", "%00"]),
    ("unique.fields", &["/a", "/a,/b", "a", "%ff"]),
    ("unique.on_conflict", &["reject", "replace", "x"]),
    ("unique.for_ms", &["1", "0", "x"]),
    ("metadata.k", &["v", "%00", "%F0%9F%98%80"]),
    ("webhook.url", &["http%3A%2F%2F127.0.0.1%3A1%2F", "http%3A%2F%2F%5B%3A%3A1%5D", "%00"]),
    ("webhook.events", &["succeeded", "x"]),
    ("idempotency_key", &["k", "%20", "%C3%A9"]),
    ("wait", &["0", "1"]),
];
/// Headers that are read, and values for them.
const HEADERS: &[(&str, &[&str])] = &[
    ("Idempotency-Key", &["k", "\"k\"", "\"k", "k\"", "\"\"", "a b", "\u{e9}"]),
    ("Prefer", &["wait=1", "wait=-1", "respond-async", "wait=1, wait=0", "wait=\"1\""]),
    ("Last-Event-ID", &["0", "12", "-1", "18446744073709551616", "x"]),
    (
        "traceparent",
        &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0", "ff-x"],
    ),
    ("Content-Encoding", &["gzip", "identity", "gzip, gzip", "br"]),
    ("If-None-Match", &["*", "\"1\"", "W/\"1\", \"2\""]),
    ("Accept", &["application/json;q=0", "text/event-stream", "*/*;q=x"]),
];
/// Cursors that no page returned.
const CURSORS: &[&str] =
    &["", "0", "-1", "AAAA", "====", "1-1", "%00", "9999999999999-18446744073709551615"];

/// Draws a member of an envelope.
pub(super) fn member(draw: &mut Draw) -> String {
    let (name, values) = chosen(draw, OPTIONS);
    let value = match name {
        "idempotency_key" | "queue" if draw.once_in(6) => {
            format!("\"{}\"", "a".repeat(draw.below(600)))
        }
        "metadata" if draw.once_in(3) => labels(draw),
        _ => draw.one(values).to_owned(),
    };
    format!("\"{name}\":{value}")
}

fn labels(draw: &mut Draw) -> String {
    let labels: Vec<_> = (0..draw.below(70))
        .map(|at| {
            format!(
                "\"k{at}\":\"{}\"",
                draw.one(&["v", "\\u0001", "\u{1f600}"]).repeat(draw.below(1100))
            )
        })
        .collect();
    format!("{{{}}}", labels.join(","))
}

/// Draws a pair of a query.
pub(super) fn parameter(draw: &mut Draw, ids: &Ids) -> String {
    if draw.once_in(4) {
        return format!("cursor={}", cursor(draw, ids));
    }
    let (name, values) = chosen(draw, PARAMETERS);
    format!("{name}={}", draw.one(values))
}

/// Draws a cursor that a page returned, often for another page, and sometimes damaged.
fn cursor(draw: &mut Draw, ids: &Ids) -> String {
    let Some(known) = ids.cursor(draw) else { return draw.one(CURSORS).to_owned() };
    match draw.below(4) {
        0 => draw.one(CURSORS).to_owned(),
        1 => {
            let bytes = draw.damaged(known.into_bytes());
            let percent = bytes.iter().map(|byte| format!("%{byte:02X}"));
            percent.collect()
        }
        _ => known,
    }
}

/// Draws a header line.
pub(super) fn header(draw: &mut Draw) -> String {
    let (name, values) = chosen(draw, HEADERS);
    let long = name == "Idempotency-Key" && draw.once_in(6);
    let value = if long { "k".repeat(draw.below(600)) } else { draw.one(values).to_owned() };
    format!("{name}: {value}\r\n")
}

fn chosen<'a>(draw: &mut Draw, of: &[(&'a str, &'a [&'a str])]) -> (&'a str, &'a [&'a str]) {
    of[draw.below(of.len())]
}
