//! Jobs, and how they are answered.

use bytes::Bytes;
use crunch_common::broker::Epoch;

use super::{Outcome, cases};
use crate::check_channel::Role;
use crate::check_channel::peer::{Answer, Job, Peer, Trouble, equal, failed};
use crate::server::channel::FromChild;

const MIB: usize = 1024 * 1024;

cases! {
    job, "is answered with its result" => answered;
    job, "is answered with its epoch, even the largest" => largest_epoch;
    job, "of no bytes" => no_bytes;
    job, "of one byte" => one_byte;
    job, "of every byte" => every_byte;
    job, "of 1 MiB" => one_mib;
    job, "of 5 MiB that arrives slowly" => slow;
    job, "that contains messages and line feeds" => looks_like_messages;
    job, "that arrives byte by byte" => byte_by_byte;
    job, "that arrives with the messages around it" => joined;
    job, "with members of a later version" => members;
    job, "with labels that look like members" => labels;
    job, "with labels of 200 KB" => long_labels;
    job, "with a trace" => trace;
    job, "after a hundred others" => hundred;
    job, "again, with a higher epoch" => again;
    job, "beside as many others as it runs at once" => at_once;
    job, "of a task that it does not have" => unknown_task;
    job, "whose payload comes by file" => by_file;
    failed, "has the code of the task, and is not to be retried" => fails;
    failed, "is followed by further jobs" => goes_on;
    progress, "is from 0 to 1 and names its job" => progress;
    log, "has what the task printed, outside of the channel" => log;
}

async fn answered(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.echoes(r#"{"text":"to be or not to be"}"#).await
}

async fn largest_epoch(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "1")?;
    job.key.epoch = Epoch::new((1 << 53) - 1);
    peer.result_of(&job).await.map(drop)
}

async fn no_bytes(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = binary(peer, Bytes::new())?;
    let result = peer.result_of(&job).await?;
    equal(&result, b"")
}

async fn one_byte(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.echoes("7").await
}

async fn every_byte(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = binary(peer, (0..=255).collect())?;
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn one_mib(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = binary(peer, (0..MIB).map(|at| (at % 251) as u8).collect())?;
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn slow(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = binary(peer, (0..5 * MIB).map(|at| (at % 253) as u8).collect())?;
    let bytes = peer.bytes_of(&job)?;
    peer.write_in_pieces(&bytes, 100_000).await?;
    let result = peer.success(&job).await?;
    equal(&result, &job.payload)
}

async fn looks_like_messages(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let text = "\n{\"type\":\"drain\"}\n{\"type\":\"ping\"}\n\n";
    let job = binary(peer, Bytes::from_static(text.as_bytes()))?;
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn byte_by_byte(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, r#"{"text":"\u00e4"}"#)?;
    let bytes = peer.bytes_of(&job)?;
    peer.write_in_pieces(&bytes, 1).await?;
    let result = peer.success(&job).await?;
    equal(&result, &job.payload)
}

async fn joined(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, "[1,2]")?;
    let mut bytes = b"{\"type\":\"ping\"}\n".to_vec();
    bytes.extend(peer.bytes_of(&job)?);
    bytes.extend(b"{\"type\":\"later\",\"body\":3}\nabc");
    peer.write(&bytes).await?;
    peer.pong().await?;
    let result = peer.success(&job).await?;
    equal(&result, &job.payload)?;
    peer.echoes("2").await
}

async fn members(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "[1]")?;
    job.further = r#""later":"{\"body\":9,\"id\":\"x\"}\\","number":-1.5e3,"nothing":null,"priority":"high","#
        .to_owned();
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn labels(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "[1]")?;
    job.metadata = r#"{"type":"drain","body":"99","id":"x","epoch":"7","q":"\"}{\n\\","task":"no","\u00e4":"\ud83d\ude00"}"#.to_owned();
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn long_labels(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "[1]")?;
    job.metadata = format!(r#"{{"long":"{}"}}"#, "x,\\\"".repeat(50_000));
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn trace(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "[1]")?;
    job.further = r#""trace":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"a=b"},"#.to_owned();
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn hundred(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    for number in 0..100 {
        peer.echoes(number.to_string()).await?;
    }
    Ok(())
}

async fn again(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "1")?;
    peer.result_of(&job).await?;
    job.key.epoch = Epoch::new(2);
    peer.result_of(&job).await.map(drop)
}

async fn at_once(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut jobs = Vec::new();
    for number in 0..peer.concurrency().min(64) {
        let job = peer.job(Role::Echo, number.to_string())?;
        peer.send_job(&job).await?;
        jobs.push(job);
    }
    // They may be answered in any order.
    while !jobs.is_empty() {
        let (message, _) = peer.next("an answer").await?;
        let FromChild::Done { attempt, .. } = message else {
            return failed(format!("expected \"done\", got {message:?}"));
        };
        let at = jobs.iter().position(|job| job.key == attempt);
        let Some(at) = at else { return failed("answered a job twice, or one that was not sent") };
        jobs.remove(at);
    }
    Ok(())
}

async fn unknown_task(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let mut job = peer.job(Role::Echo, "1")?;
    job.task = "no.such.task".to_owned();
    peer.send_job(&job).await?;
    match peer.answer(&job).await? {
        Answer::Failed(_) => peer.echoes("1").await,
        Answer::Done(_) => failed("it ran a task that it does not have"),
    }
}

async fn by_file(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    if !peer.has_feature("file") {
        return Err(Trouble::Skipped("its hello has no feature \"file\"".to_owned()));
    }
    let mut job = binary(peer, (0..2 * MIB).map(|at| (at % 251) as u8).collect())?;
    job.by_file = true;
    let result = peer.result_of(&job).await?;
    equal(&result, &job.payload)
}

async fn fails(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Fail, "1")?;
    peer.send_job(&job).await?;
    match peer.answer(&job).await? {
        Answer::Failed(error) => {
            let code = error.code.as_ref().map(|code| code.as_str());
            match (code, error.retryable) {
                (Some("on_purpose"), Some(false)) => Ok(()),
                _ => failed(format!(
                    "expected the code on_purpose and \"retryable\":false, got {error:?}"
                )),
            }
        }
        Answer::Done(_) => failed("the task that fails succeeded"),
    }
}

async fn goes_on(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    for _ in 0..3 {
        let job = peer.job(Role::Fail, "1")?;
        peer.send_job(&job).await?;
        peer.answer(&job).await?;
        peer.echoes("1").await?;
    }
    Ok(())
}

async fn progress(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await
}

async fn log(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Log, r#""a-word-to-print""#)?;
    peer.result_of(&job).await?;
    match peer.has_printed("a-word-to-print") {
        true => Ok(()),
        false => failed("the task `log` printed nothing before its answer"),
    }
}

/// A job with any bytes.
fn binary(peer: &Peer, payload: Bytes) -> Result<Job, Trouble> {
    let mut job = peer.job(Role::Echo, payload)?;
    job.content_type = "application/octet-stream";
    Ok(job)
}
