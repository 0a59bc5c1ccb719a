//! The way to the API: its address, the clocks, encryption, and what the key may do.

use jiff::Timestamp;
use serde_json::Value;
use ureq::http::Uri;

use super::{Findings, LIMIT};
use crate::client::{Answer, Client, Request};
use crate::clock;
use crate::config::Target;
use crate::config::address::is_local;
use crate::error::Error;
use crate::format::short_duration;

/// With a larger difference of clocks, deadlines, tickets and the times in logs are misleading; the header has whole
/// seconds.
const SKEW: std::time::Duration = std::time::Duration::from_secs(5);
/// An id that no job has.
const NO_JOB: &str = "00000000-0000-8000-8000-000000000000";

/// Whether an API answers at the address.
pub(super) fn answers(client: &Client, findings: &mut Findings) -> bool {
    match alive(client) {
        Ok(answer) => {
            findings.ok("address", "an API answers");
            clocks(&answer, findings);
            true
        }
        Err(error @ (Error::NotCrunch { .. } | Error::Problem(_))) => {
            match origin(client) {
                Some(url) => findings.fault(
                    "address",
                    error.to_string(),
                    format!("an API answers without the path: use {url}"),
                ),
                None => findings.error("address", &error),
            }
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

/// What an API answers that is alive.
fn alive(client: &Client) -> Result<Answer, Error> {
    let url = &client.target.url;
    let answer = client.send(&Request::get(&["livez"]))?;
    if answer.json::<Value>(url).is_ok_and(|body| body["status"] == "ok") {
        return Ok(answer);
    }
    Err(Error::NotCrunch { url: url.clone(), status: answer.status })
}

/// The address without its path, if an API answers there: the address of a page was given, such as that of the dashboard.
fn origin(client: &Client) -> Option<String> {
    let uri: Uri = client.target.url.parse().ok()?;
    let url = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    // A key is for the address that was given.
    let target = Target { url: url.clone(), key: None, ..client.target.clone() };
    let other = Client::new(target, client.retry_for()).ok()?.impatient(LIMIT);
    (url != client.target.url && alive(&other).is_ok()).then_some(url)
}

/// Whether this program is of the API's version.
pub(super) fn versions(client: &Client, findings: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    let document: Result<Value, Error> = client.read(&Request::get(&["openapi.json"]));
    let version = document.map(|document| document["info"]["version"].as_str().map(str::to_owned));
    match version {
        Ok(Some(version)) if version == own => {
            findings.ok("versions", format!("the API and this program have {own}"));
        }
        Ok(version) => findings.warning(
            "versions",
            format!(
                "the API has {}, this program {own}",
                version.as_deref().unwrap_or("no version that it says")
            ),
            "use the crunch of the API's version: members and commands may differ",
        ),
        Err(error) => findings.error("versions", &error),
    }
}

fn clocks(answer: &Answer, findings: &mut Findings) {
    let Some(date) = answer.date() else { return };
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
    let uri: Uri = client.target.url.parse().unwrap_or_default();
    let is_plain = uri.scheme_str() == Some("http");
    let is_here = uri.host().is_some_and(is_local) && client.target.proxy.is_none();
    match (is_plain, is_here, &client.target.key) {
        (false, _, _) => findings.ok("encryption", "the connection is encrypted"),
        (true, true, _) => findings.ok("encryption", "not needed on this machine"),
        (true, false, Some(_)) => findings.fault(
            "encryption",
            "the key is sent over an unencrypted connection",
            "use https: set CRUNCH_API_TLS_CERT, or put a proxy with TLS in front of the API",
        ),
        (true, false, None) => findings.warning(
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
