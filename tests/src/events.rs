//! A reader of server-sent events, of as little understanding as the standard asks for.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::Api;
use crate::wait::in_time;

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// `event:`
    pub name: String,
    /// `id:`
    pub id: String,
    /// `data:`, as JSON.
    pub data: Value,
}

/// A job's events.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    buffer: String,
}

impl EventStream {
    /// Asks for a job's events, those behind `last` if one is named.
    ///
    /// # Panics
    /// If they are not to be had.
    pub async fn open(api: &Api, id: &str, last: Option<&str>) -> Self {
        let response = Self::ask(api, id, last).await;
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The answer, whatever it is; its body is not waited for.
    ///
    /// # Panics
    /// If there is none.
    pub async fn ask(api: &Api, id: &str, last: Option<&str>) -> Response {
        let mut request = api.request(Method::GET, &format!("/jobs/{id}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.expect("the API answers")
    }

    /// The next event, or `None` at the end of the stream. Comments are passed over.
    ///
    /// # Panics
    /// If nothing comes in time.
    pub async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let sent = parse(block);
                self.buffer = rest.to_owned();
                if sent.is_some() {
                    return sent;
                }
            }
            let chunk = in_time("an event comes", self.response.chunk()).await;
            let chunk = chunk.expect("the stream ends as it should")?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
    }

    /// The next event, which must be of that name; its data.
    ///
    /// # Panics
    /// If it is another one.
    pub async fn expect(&mut self, name: &str) -> Sent {
        let sent = self.next().await.expect("the stream goes on");
        assert_eq!(sent.name, name, "{sent:?}");
        sent
    }

    /// Everything up to the end.
    pub async fn rest(mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(sent) = self.next().await {
            all.push(sent);
        }
        all
    }
}

fn parse(block: &str) -> Option<Sent> {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(str::to_owned)
    };
    let data = serde_json::from_str(&field("data")?).expect("data is JSON");
    Some(Sent { name: field("event")?, id: field("id")?, data })
}
