//! The way to the API: its address, the clocks, encryption, and what the key may do.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::Findings;
use crate::client::{Answer, Client, Request};
use crate::clock;
use crate::error::Error;
use crate::format::short_duration;

/// With a larger difference of clocks, deadlines, tickets and the times in logs are misleading; the header has whole
/// seconds.
const SKEW: std::time::Duration = std::time::Duration::from_secs(5);
/// An id that no job has.
const NO_JOB: &str = "00000000-0000-8000-8000-000000000000";

/// Whether an API answers at the address.
pub(super) fn answers(client: &Client, findings: &mut Findings) -> bool {
    let url = &client.target.url;
    match client.send(&Request::get(&["livez"])) {
        Ok(answer) if answer.json::<Value>(url).is_ok_and(|body| body["status"] == "ok") => {
            findings.ok("address", "an API answers");
            clocks(&answer, findings);
            true
        }
        Ok(answer) => {
            findings
                .error("address", &Error::NotCrunch { url: url.clone(), status: answer.status });
            false
        }
        Err(Error::Away { url, cause, .. }) => {
            findings.fault(
                "address",
                format!("{url} does not answer: {cause}"),
                "start crunch-api, or correct the address: --url, CRUNCH_URL, crunch context add",
            );
            false
        }
        Err(error) => {
            findings.error("address", &error);
            false
        }
    }
}

fn clocks(answer: &Answer, findings: &mut Findings) {
    let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| rfc2822::parse(&date.replace("GMT", "+0000")).ok());
    let Some(date) = date.map(|date| date.timestamp()) else { return };
    let skew = clock::since(date).max(clock::until(date));
    if skew <= SKEW {
        return findings.ok("clocks", "this machine and the API agree");
    }
    let which = if date > Timestamp::now() { "ahead of" } else { "behind" };
    findings.fault(
        "clocks",
        format!("the API's clock is {} {which} this machine's", short_duration(whole(skew))),
        "synchronize both with NTP: times, ages and tickets are wrong until then",
    );
}

fn whole(duration: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(duration.as_secs())
}

pub(super) fn is_encrypted(client: &Client, findings: &mut Findings) {
    let url = &client.target.url;
    let rest = url.strip_prefix("http://");
    let host = rest.map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    let is_local = |host: &str| host == "localhost" || host.starts_with("127.") || host == "[";
    match (host, &client.target.key) {
        (None, _) => findings.ok("encryption", "the connection is encrypted"),
        (Some(host), _) if is_local(host) || rest.is_some_and(|rest| rest.starts_with("[::1]")) => {
            findings.ok("encryption", "not needed on this machine");
        }
        (Some(_), Some(_)) => findings.fault(
            "encryption",
            "the key is sent over an unencrypted connection",
            "use https: set CRUNCH_API_TLS_CERT, or put a proxy with TLS in front of the API",
        ),
        (Some(_), None) => findings.warning(
            "encryption",
            "payloads and results are sent over an unencrypted connection",
            "use https: set CRUNCH_API_TLS_CERT, or put a proxy with TLS in front of the API",
        ),
    }
}

/// Whether the key, if one is needed, may read.
pub(super) fn key_reads(client: &Client, findings: &mut Findings) -> bool {
    let has_key = client.target.key.is_some();
    // It needs no Redis.
    let error = match client.send(&Request::get(&["problems", "not-found"])) {
        Ok(_) => {
            findings.ok("key", if has_key { "accepted" } else { "none is needed" });
            return true;
        }
        Err(error) => error,
    };
    let status = if let Error::Problem(problem) = &error { problem.status } else { 0 };
    match (status, has_key) {
        (401, false) => findings.fault(
            "key",
            "the API requires a key, and there is none",
            "set CRUNCH_API_KEY or use --key-file; create one: crunch-api keys create",
        ),
        (401, true) => findings.fault(
            "key",
            "the API does not know this key",
            "it may be revoked, or of another deployment: crunch-api keys list",
        ),
        (403, _) => findings.fault(
            "key",
            "the key may not read",
            "create one with the scope read: crunch-api keys create --scopes submit,read",
        ),
        _ => findings.error("key", &error),
    }
    false
}

/// What the key may do, found by requests that change nothing.
pub(super) fn scopes(client: &Client, findings: &mut Findings) {
    let probes = [
        ("submit", Request::post(&["jobs"]).body("application/json", b"{}".to_vec())),
        ("cancel", Request::post(&["jobs", NO_JOB, "cancel"])),
        ("admin", Request::post(&["jobs", NO_JOB, "retry"])),
    ];
    let mut allowed = vec!["read"];
    for (scope, request) in probes {
        let is_refused =
            matches!(client.send(&request), Err(Error::Problem(problem)) if problem.status == 403);
        if !is_refused {
            allowed.push(scope);
        }
    }
    let who = if client.target.key.is_some() { "the key" } else { "everyone" };
    findings.ok("rights", format!("{who} may {}", allowed.join(", ")));
}
