//! The cases of W3C Trace Context (level 1) through the queue: what a client sends in its headers, and what the command
//! that runs the job has in its environment.

use std::iter::repeat_n;

use crunch_tests::{Api, Stack, Worker};
use reqwest::Method;
use reqwest::header::HeaderValue;

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";
const VALID: &str = "00-12345678901234567890123456789012-1234567890123456-01";

/// Starts a worker with a task that returns its trace: `traceparent|tracestate`.
async fn start() -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    let command = r#"["sh", "-c", 'printf "%s|%s" "${TRACEPARENT-none}" "${TRACESTATE-none}"']"#;
    let task =
        format!("[[task]]\nname = \"trace\"\ncommand = {command}\ncontent_type = \"text/plain\"\n");
    std::fs::write(&path, task).unwrap();
    let worker = stack.worker_with(&api, 2, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    Stack::wait_for_task(&api, "trace").await;
    (stack, api, worker)
}

/// Submits a job with these headers; returns the two variables of its command.
async fn run(api: &Api, parents: &[&str], states: &[&str]) -> (String, String) {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
    let mut request = api.request(Method::POST, "/tasks/trace/jobs?wait=20");
    for parent in parents {
        request = request.header("traceparent", value(parent));
    }
    for state in states {
        request = request.header("tracestate", value(state));
    }
    let answer = api.send(request.json(&1)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = api.get(&format!("/jobs/{}/result", answer.id())).await;
    let text = String::from_utf8(result.body.to_vec()).unwrap();
    let (parent, state) = text.split_once('|').unwrap();
    (parent.to_owned(), state.to_owned())
}

/// What should become of a header `traceparent`.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The trace continues, with these flags and a span of Crunch.
    Continues(&'static str),
    /// The job belongs to no trace.
    Ends,
}
use Then::{Continues, Ends};

#[rustfmt::skip]
const PARENTS: &[(&str, &[&str], Then)] = &[
    ("no header", &[], Ends),
    ("an empty header", &[""], Ends),
    ("a sampled trace", &[VALID], Continues("01")),
    ("a trace that is not sampled", &["00-12345678901234567890123456789012-1234567890123456-00"], Continues("00")),
    ("flags that are not known", &["00-12345678901234567890123456789012-1234567890123456-fd"], Continues("01")),
    ("space around the value", &[" \t00-12345678901234567890123456789012-1234567890123456-01 "], Continues("01")),
    ("the same header twice", &[VALID, VALID], Ends),
    ("two headers", &[VALID, "00-12345678901234567890123456789012-1234567890123457-01"], Ends),
    ("a second header that is invalid", &[VALID, "x"], Ends),
    ("two values in one header", &["00-12345678901234567890123456789012-1234567890123456-01,00-12345678901234567890123456789012-1234567890123456-01"], Ends),

    ("version ff", &["ff-12345678901234567890123456789012-1234567890123456-01"], Ends),
    ("a later version", &["cc-12345678901234567890123456789012-1234567890123456-01"], Continues("01")),
    ("a later version with further fields", &["cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like"], Continues("01")),
    ("a later version with an empty field", &["cc-12345678901234567890123456789012-1234567890123456-01-"], Continues("01")),
    ("a later version with longer flags", &["cc-12345678901234567890123456789012-1234567890123456-01.what"], Ends),
    ("a later version with flags of its own", &["cc-12345678901234567890123456789012-1234567890123456-fe"], Continues("00")),
    ("a later version that is too short", &["cc-12345678901234567890123456789012-1234567890123456"], Ends),
    ("version 00 with a further field", &["00-12345678901234567890123456789012-1234567890123456-01-x"], Ends),
    ("version 00 with an empty field", &["00-12345678901234567890123456789012-1234567890123456-01-"], Ends),
    ("version 00 with longer flags", &["00-12345678901234567890123456789012-1234567890123456-01.x"], Ends),
    ("a version in upper case", &["CC-12345678901234567890123456789012-1234567890123456-01"], Ends),
    ("a version that is no number", &[".0-12345678901234567890123456789012-1234567890123456-01"], Ends),
    ("a version that is too long", &["000-12345678901234567890123456789012-1234567890123456-01"], Ends),
    ("a version that is too short", &["0-12345678901234567890123456789012-1234567890123456-01"], Ends),
    ("no version", &["12345678901234567890123456789012-1234567890123456-01"], Ends),

    ("a trace id of zeros", &["00-00000000000000000000000000000000-1234567890123456-01"], Ends),
    ("a trace id in upper case", &["00-1234567890123456789012345678901A-1234567890123456-01"], Ends),
    ("a trace id with a letter that is no digit", &["00-1234567890123456789012345678901g-1234567890123456-01"], Ends),
    ("a trace id with a dot", &["00-.2345678901234567890123456789012-1234567890123456-01"], Ends),
    ("a trace id that is too long", &["00-123456789012345678901234567890123-1234567890123456-01"], Ends),
    ("a trace id that is too short", &["00-1234567890123456789012345678901-1234567890123456-01"], Ends),

    ("a parent id of zeros", &["00-12345678901234567890123456789012-0000000000000000-01"], Ends),
    ("a parent id in upper case", &["00-12345678901234567890123456789012-123456789012345A-01"], Ends),
    ("a parent id with a letter that is no digit", &["00-12345678901234567890123456789012-123456789012345g-01"], Ends),
    ("a parent id with a dot", &["00-12345678901234567890123456789012-.234567890123456-01"], Ends),
    ("a parent id that is too long", &["00-12345678901234567890123456789012-12345678901234567-01"], Ends),
    ("a parent id that is too short", &["00-12345678901234567890123456789012-123456789012345-01"], Ends),

    ("flags in upper case", &["00-12345678901234567890123456789012-1234567890123456-0A"], Ends),
    ("flags that are no number", &["00-12345678901234567890123456789012-1234567890123456-.0"], Ends),
    ("flags that are too long", &["00-12345678901234567890123456789012-1234567890123456-001"], Ends),
    ("flags that are too short", &["00-12345678901234567890123456789012-1234567890123456-1"], Ends),
    ("no flags", &["00-12345678901234567890123456789012-1234567890123456-"], Ends),
    ("other separators", &["00_12345678901234567890123456789012_1234567890123456_01"], Ends),
    ("only separators", &["---"], Ends),
];

#[tokio::test]
async fn a_valid_traceparent_continues_in_the_command_and_an_invalid_one_does_not() {
    let (_stack, api, _worker) = start().await;
    for (what, parents, then) in PARENTS {
        let (parent, state) = run(&api, parents, &["foo=1"]).await;
        match then {
            Ends => assert_eq!((parent.as_str(), state.as_str()), ("none", "none"), "{what}"),
            Continues(flags) => {
                let parts: Vec<_> = parent.split('-').collect();
                let [version, trace, span, own_flags] = parts[..] else {
                    panic!("{what}: {parent}")
                };
                assert_eq!((version, trace, own_flags), ("00", TRACE, *flags), "{what}");
                assert!(span.len() == 16 && span != SPAN, "{what}: the attempt has its own span");
                assert_eq!(state, "foo=1", "{what}");
            }
        }
    }
}

/// Lists with members of certain sizes, which a table would not show.
fn sized_states() -> Vec<(String, String, Option<String>)> {
    let members =
        |count: usize| (1..=count).map(|at| format!("k{at}={at}")).collect::<Vec<_>>().join(",");
    let member = |key: usize, value: usize| format!("{}={}", "k".repeat(key), "v".repeat(value));
    let tenant =
        |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
    let characters = |set: &[u8]| String::from_utf8(set.to_vec()).unwrap();
    let key: Vec<u8> = (b'a'..=b'z').chain(b'0'..=b'9').chain(*b"_-*/").collect();
    let value: Vec<u8> = (0x20..0x7f).filter(|byte| !b",=".contains(byte)).collect();
    let every = format!("{}={}", characters(&key), characters(&value));
    let kept = |what: &str, text: String| (what.to_owned(), text.clone(), Some(text));
    let dropped = |what: &str, text: String| (what.to_owned(), text, None);
    let hundreds = |count: usize| repeat_n(member(1, 98), count).collect::<Vec<_>>().join(",");
    vec![
        kept("32 members", members(32)),
        dropped("33 members", members(33)),
        kept("every character of keys and values", every),
        kept("a key of 256 characters", member(256, 1)),
        dropped("a key of 257 characters", member(257, 1)),
        kept("a value of 256 characters", member(1, 256)),
        dropped("a value of 257 characters", member(1, 257)),
        kept("a tenant of 241 characters, a system of 14", tenant(241, 14)),
        dropped("a tenant of 242 characters", tenant(242, 1)),
        dropped("a system of 15 characters", tenant(1, 15)),
        kept("512 bytes", format!("{},{}", member(1, 254), member(1, 253))),
        ("too long: the last ones go".to_owned(), hundreds(7), Some(hundreds(5))),
        (
            "too long: large ones go first".to_owned(),
            format!("{},{},{}", hundreds(2), member(1, 250), hundreds(2)),
            Some(hundreds(4)),
        ),
    ]
}

#[rustfmt::skip]
const STATES: &[(&str, &[&str], Option<&str>)] = &[
    ("no header", &[], None),
    ("an empty header", &[""], None),
    ("one member", &["foo=1"], Some("foo=1")),
    ("several members", &["foo=1,bar=2"], Some("foo=1,bar=2")),
    ("several headers", &["foo=1,bar=2", "baz=3"], Some("foo=1,bar=2,baz=3")),
    ("an empty header among others", &["foo=1", "", "bar=2"], Some("foo=1,bar=2")),
    ("empty members", &[",foo=1,, ,bar=2,"], Some("foo=1,bar=2")),
    ("only empty members", &[", ,"], None),
    ("space around members", &["foo=1 \t , \t bar=2, \t baz=3 "], Some("foo=1,bar=2,baz=3")),
    ("space inside a value", &["foo=1  2"], Some("foo=1  2")),
    ("a key twice", &["foo=1,bar=2,foo=3"], Some("foo=1,bar=2,foo=3")),
    ("a key in two headers", &["foo=1", "foo=1"], Some("foo=1,foo=1")),
    ("a tenant that begins with a digit", &["0t@v=1"], Some("0t@v=1")),
    ("a member without a value", &["foo"], None),
    ("an empty value", &["foo=,bar=3"], None),
    ("an empty key", &["=1"], None),
    ("two values", &["foo=bar=baz"], None),
    ("space behind a key", &["foo =1"], None),
    ("a key in upper case", &["FOO=1"], None),
    ("a key with a dot", &["foo.bar=1"], None),
    ("a key that begins with a digit", &["1a=1"], None),
    ("a key that begins with a dash", &["-a=1"], None),
    ("no tenant", &["@foo=1,bar=2"], None),
    ("no system", &["foo@=1,bar=2"], None),
    ("two systems", &["foo@bar@baz=1"], None),
    ("an empty system", &["foo@@bar=1"], None),
    ("a system that begins with a digit", &["t@0v=1"], None),
    ("a tab inside a value", &["foo=1\t2"], None),
    ("a value that is not ASCII", &["foo=\u{e4}"], None),
    ("a header of several that is not ASCII", &["foo=1", "bar=\u{e4}"], None),
    ("one invalid member of several", &["foo=1,BAR=2"], None),
    ("one invalid header of several", &["foo=1", "BAR=2"], None),
];

#[tokio::test]
async fn a_valid_tracestate_goes_with_its_trace_and_an_invalid_one_is_dropped() {
    let (_stack, api, _worker) = start().await;
    let given = STATES.iter().map(|&(what, states, then)| (what, states.to_vec(), then));
    let sized = sized_states();
    let sized = sized
        .iter()
        .map(|(what, state, then)| (what.as_str(), vec![state.as_str()], then.as_deref()));
    for (what, states, then) in given.chain(sized) {
        let (parent, state) = run(&api, &[VALID], &states).await;
        assert!(parent.contains(TRACE), "{what}: the trace continues");
        assert_eq!(state, then.unwrap_or("none"), "{what}");
    }
}
