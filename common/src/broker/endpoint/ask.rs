//! Asks several servers the same question until one answers; and one error for those that do not.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::ConnectionAddr;
use tokio::time::timeout;

use crate::broker::error::{Error, Remedy};
use crate::broker::redis_url::Address;

/// How long one server may think about it before the next one is asked, too.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// Asks them one after the other until one answers: the next one when one fails, or takes long.
///
/// # Errors
/// If none has an answer, with the reason of each.
pub(super) async fn first_answer<'a, T>(
    what: &str,
    servers: &'a [ConnectionAddr],
    ask: impl Fn(&'a ConnectionAddr) -> BoxFuture<'a, Result<T, Error>>,
) -> Result<T, (Remedy, Error)> {
    let mut servers = servers.iter().peekable();
    let (mut asks, mut failures) = (FuturesUnordered::new(), Vec::new());
    loop {
        if let Some(server) = servers.next() {
            let answer = ask(server);
            asks.push(async move { answer.await.map_err(|error| (server, error)) });
        }
        let answer = match servers.peek() {
            Some(_) => timeout(NEXT_AFTER, asks.next()).await.ok(),
            None => Some(asks.next().await),
        };
        match answer {
            Some(Some(Ok(answer))) => return Ok(answer),
            Some(Some(Err(failure))) => failures.push(failure),
            Some(None) => break,
            // It may still answer.
            None => {}
        }
    }
    Err((Remedy::Reconnect, together(what, failures)))
}

/// One error for several: an operator must act if one of them says so.
pub(super) fn together(what: &str, failures: Vec<(&ConnectionAddr, Error)>) -> Error {
    let is_outage = failures.iter().all(|(_, error)| matches!(error, Error::Unavailable { .. }));
    let is_final = failures.iter().any(|(_, error)| matches!(error, Error::Refused { .. }));
    let reasons = failures
        .into_iter()
        .map(|(server, error)| format!("{what} {}: {}", Address(server), error.into_reason()));
    let reason = reasons.collect::<Vec<_>>().join("; ");
    match (is_outage, is_final) {
        (true, _) => Error::Unavailable { reason },
        (false, true) => Error::Refused { reason },
        (false, false) => Error::Rejected { reason },
    }
}
