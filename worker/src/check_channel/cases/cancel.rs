//! Cancels of jobs that run, that were answered, and that the child does not know.

use crunch_common::broker::Epoch;

use super::{Outcome, cases};
use crate::check_channel::Role;
use crate::check_channel::peer::{Answer, Peer, failed};

cases! {
    cancel, "ends a job that runs" => running;
    cancel, "ends one job, and the child runs others" => goes_on;
    cancel, "of a job that it does not know is ignored" => unknown;
    cancel, "of a job that it has answered is ignored" => answered;
    cancel, "of another epoch does not end the job" => other_epoch;
    cancel, "twice is answered once" => twice;
    cancel, "with a reason of a later version counts" => reason;
}

async fn running(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    peer.cancel(&job).await?;
    peer.answer(&job).await.map(drop)
}

async fn goes_on(peer: &mut Peer) -> Outcome {
    running(peer).await?;
    peer.echoes("1").await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    peer.cancel(&job).await?;
    peer.answer(&job).await.map(drop)
}

async fn unknown(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, "1")?;
    peer.cancel(&job).await?;
    peer.echoes("1").await
}

async fn answered(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, "1")?;
    peer.result_of(&job).await?;
    peer.cancel(&job).await?;
    peer.echoes("2").await
}

async fn other_epoch(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Wait, "1")?;
    job.key.epoch = Epoch::new(2);
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    let mut other = job.clone();
    other.key.epoch = Epoch::new(1);
    peer.cancel(&other).await?;
    // It reports progress several times, and is not answered.
    for _ in 0..5 {
        peer.progress(&job).await?;
    }
    peer.cancel(&job).await?;
    peer.answer(&job).await.map(drop)
}

async fn twice(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    peer.cancel(&job).await?;
    peer.cancel(&job).await?;
    peer.answer(&job).await?;
    peer.echoes("1").await
}

async fn reason(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    let (id, epoch) = (job.key.id, job.key.epoch);
    peer.send(&format!(r#"{{"type":"cancel","id":"{id}","epoch":{epoch},"reason":"of_a_later_version","grace_ms":3000,"body":2}}"#)).await?;
    peer.write(b"{}").await?;
    match peer.answer(&job).await? {
        Answer::Failed(_) => peer.echoes("1").await,
        Answer::Done(_) => failed("a job that waits until it is canceled succeeded"),
    }
}
