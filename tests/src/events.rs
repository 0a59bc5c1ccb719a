//! A minimal reader of server-sent events, as the standard requires.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::Api;
use crate::wait::in_time;

/// A received event.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// `event:`
    pub name: String,
    /// `id:`
    pub id: String,
    /// `data:`, as JSON.
    pub data: Value,
}

/// The stream of a job's events.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    buffer: String,
}

impl EventStream {
    /// Opens the stream of a job's events, after `last` if given.
    ///
    /// # Panics
    /// If the request fails.
    pub async fn open(api: &Api, id: &str, last: Option<&str>) -> Self {
        let response = Self::request(api, id, last).await;
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// Sends the request and returns the response, whatever its status, without waiting for its body.
    ///
    /// # Panics
    /// If there is no response.
    pub async fn request(api: &Api, id: &str, last: Option<&str>) -> Response {
        let mut request = api.request(Method::GET, &format!("/jobs/{id}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.expect("the API responds")
    }

    /// Returns the next event, or `None` at the end of the stream. Skips comments.
    ///
    /// # Panics
    /// If nothing arrives in time.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let event = parse(block);
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = in_time("an event arrives", self.response.chunk()).await;
            let chunk = chunk.expect("the stream ends properly")?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
    }

    /// Returns the next event, which must have this name.
    ///
    /// # Panics
    /// If it has another name.
    pub async fn expect(&mut self, name: &str) -> ServerEvent {
        let event = self.next().await.expect("the stream has not ended");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// Returns all events up to the end of the stream.
    pub async fn rest(mut self) -> Vec<ServerEvent> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn parse(block: &str) -> Option<ServerEvent> {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let data = serde_json::from_str(&field("data")?).expect("data is JSON");
    Some(ServerEvent { name: field("event")?, id: field("id")?, data })
}
