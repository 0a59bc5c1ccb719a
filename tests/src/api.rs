//! A running API, and a client of it.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Process;
use crate::wait::eventually;

/// A `crunch-api` process and its address.
#[derive(Debug)]
pub struct Api {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:<port>`
    pub url: String,
    client: reqwest::Client,
}

/// A response of an API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
}

impl Answer {
    /// Sends a request and returns the response.
    ///
    /// # Panics
    /// If there is none.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the API responds");
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.expect("the response is complete") }
    }

    /// Parses the body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the response {self:?}"))
    }

    /// Returns a header, empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the id of the job in the body.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn id(&self) -> String {
        let id = self.json()["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("no id in the response {self:?}"))
    }

    /// Returns the slug of the problem in the body; empty if there is none.
    #[must_use]
    pub fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.strip_prefix("/problems/").unwrap_or_default().to_owned()
    }
}

impl Api {
    pub(crate) async fn new(mut process: Process) -> Self {
        let url = process.wait_for_log("listening on ").await;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .expect("a client without TLS can always be built");
        Self { process, url, client }
    }

    /// Starts building a request to a path.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Returns its address: host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    /// Sends a `POST` of bytes declared as JSON.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body.into())).await
    }

    /// Sends a `POST` without a body.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// Sends a request.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::to(request).await
    }

    /// Sends a request in the background.
    pub fn send_in_background(&self, request: RequestBuilder) -> JoinHandle<Answer> {
        tokio::spawn(Answer::to(request))
    }

    /// Sends a `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends a `POST` of a JSON document.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a job that must be accepted; returns its id.
    ///
    /// # Panics
    /// If it is not accepted.
    pub async fn submit(&self, task: &str, payload: &Value) -> String {
        self.submit_with(task, payload, &json!({})).await
    }

    /// Like [`Api::submit`], with further members of the envelope.
    ///
    /// # Panics
    /// If it is not accepted.
    pub async fn submit_with(&self, task: &str, payload: &Value, options: &Value) -> String {
        let mut envelope = json!({ "task": task, "payload": payload });
        for (name, value) in options.as_object().into_iter().flatten() {
            envelope[name] = value.clone();
        }
        let answer = self.post("/jobs", &envelope).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.id()
    }

    /// Returns a job's document.
    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}")).await.json()
    }

    /// Waits until a job has this status; returns its document.
    pub async fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait_for_job(id, status, |job| job["status"] == status).await
    }

    /// Waits until a job's document matches; returns the document.
    pub async fn wait_for_job(
        &self,
        id: &str,
        what: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("job {id}: {what}"), async || {
            let job = self.job(id).await;
            let matched = matches(&job);
            assert!(
                matched || job["finished_at"].is_null(),
                "job {id} has ended and can no longer match ({what}): {job:#}"
            );
            matched.then_some(job)
        })
        .await
    }
}
