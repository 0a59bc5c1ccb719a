//! The latencies over HTTP.

use std::time::{Duration, Instant};

use super::bench::{BLOCKING, Bench};
use crate::metrics::Samples;
use crate::testbed::{PAYLOAD, envelope, job, submit};
use crate::wire::{Connection, get, post};

impl Bench {
    /// Time of a request that needs no work.
    pub(super) async fn alive(&self, client: &mut Connection, count: usize) -> Samples {
        let request = get("/livez");
        let mut latencies = Vec::new();
        for _ in 0..count {
            let sent = Instant::now();
            client.request(&request).await;
            latencies.push(sent.elapsed());
            self.idle().await;
        }
        Samples::new(latencies)
    }

    /// Time of a submission that waits until its job has ended.
    pub(super) async fn responses(&mut self, client: &mut Connection, count: usize) -> Samples {
        let request = post("/jobs?wait=10", &envelope());
        let mut latencies = Vec::new();
        for _ in 0..count {
            let sent = Instant::now();
            let response = client.request(&request).await;
            latencies.push(sent.elapsed());
            assert!(String::from_utf8_lossy(response).contains("succeeded"));
            self.started().await;
            self.idle().await;
        }
        Samples::new(latencies)
    }

    /// Time from the end of the handler to the response, for a client that waits for a running job.
    pub(super) async fn wake_ups(&mut self, client: &mut Connection, count: usize) -> Samples {
        let mut wake_ups = Vec::new();
        for _ in 0..count {
            let job = job(&self.testbed.broker, BLOCKING, PAYLOAD);
            let request = get(&format!("/jobs/{}?wait=10", job.id));
            submit(&self.testbed.broker, &[job]).await;
            self.started().await;
            client.send(&request).await;
            // Time for the API to find the job running, and to wait for its end.
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.unblock.notify_one();
            let response = String::from_utf8_lossy(client.response().await).into_owned();
            let ended = self.ends.recv().await.unwrap();
            wake_ups.push(ended.elapsed());
            assert!(response.contains("succeeded"), "{response}");
            self.idle().await;
        }
        Samples::new(wake_ups)
    }
}
