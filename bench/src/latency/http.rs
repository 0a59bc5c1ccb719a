//! The half of it that goes over HTTP.

use std::time::{Duration, Instant};

use super::bench::{Bench, HELD};
use crate::figures::Samples;
use crate::ground::{PAYLOAD, envelope, job, submit};
use crate::wire::{Connection, get, post};

impl Bench {
    /// A request that nothing is done for.
    pub(super) async fn alive(&self, client: &mut Connection, count: usize) -> Samples {
        let request = get("/livez");
        let mut answers = Vec::new();
        for _ in 0..count {
            let asked = Instant::now();
            client.ask(&request).await;
            answers.push(asked.elapsed());
            self.idle().await;
        }
        Samples::new(answers)
    }

    /// A submission that is answered when its job has ended.
    pub(super) async fn answers(&mut self, client: &mut Connection, count: usize) -> Samples {
        let request = post("/jobs?wait=10", &envelope());
        let mut answers = Vec::new();
        for _ in 0..count {
            let asked = Instant::now();
            let answer = client.ask(&request).await;
            answers.push(asked.elapsed());
            assert!(String::from_utf8_lossy(answer).contains("succeeded"));
            self.started().await;
            self.idle().await;
        }
        Samples::new(answers)
    }

    /// A client that waits for a job which runs: from the end of the handler to its answer.
    pub(super) async fn wake_ups(&mut self, client: &mut Connection, count: usize) -> Samples {
        let mut woken = Vec::new();
        for _ in 0..count {
            let held = job(&self.ground.broker, HELD, PAYLOAD);
            let request = get(&format!("/jobs/{}?wait=10", held.id));
            submit(&self.ground.broker, &[held]).await;
            self.started().await;
            client.send(&request).await;
            // The API has found the job running, and listens.
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.release.notify_one();
            let answer = String::from_utf8_lossy(client.answer().await).into_owned();
            let ended = self.ends.recv().await.unwrap();
            woken.push(ended.elapsed());
            assert!(answer.contains("succeeded"), "{answer}");
            self.idle().await;
        }
        Samples::new(woken)
    }
}
