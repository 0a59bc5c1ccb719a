//! Ends: drains, the end of the input, and signals.

use super::{Outcome, cases};
use crate::check_channel::Role;
use crate::check_channel::peer::{Peer, failed};
use crate::server::channel::FromChild;

cases! {
    drain, "ends an idle child with 0" => drain_idle;
    drain, "ends a child after its jobs, with 0" => drain_after_job;
    drain, "ends a child while a job runs, after its answer" => drain_while_running;
    drain, "twice ends it with 0" => drain_twice;
    end, "of the input ends an idle child" => end_idle;
    end, "of the input before the worker's hello ends it" => end_before_hello;
    end, "of the input inside a line ends it" => end_inside_line;
    end, "of the input inside a body ends it, and nothing runs" => end_inside_body;
    end, "of the input while a job runs ends it" => end_while_running;
    signal, "TERM ends an idle child" => term;
}

const DRAIN: &str = r#"{"type":"drain"}"#;

async fn drain_idle(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(DRAIN).await?;
    peer.exits_with_zero().await.map(drop)
}

async fn drain_after_job(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, "1")?;
    let mut bytes = peer.bytes_of(&job)?;
    bytes.extend(DRAIN.as_bytes());
    bytes.push(b'\n');
    peer.write(&bytes).await?;
    peer.success(&job).await?;
    peer.exits_with_zero().await.map(drop)
}

async fn drain_while_running(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    peer.send(DRAIN).await?;
    peer.progress(&job).await?;
    peer.cancel(&job).await?;
    peer.answer(&job).await?;
    peer.exits_with_zero().await.map(drop)
}

async fn drain_twice(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.write(b"{\"type\":\"drain\"}\n{\"type\":\"drain\"}\n").await?;
    peer.exits_with_zero().await.map(drop)
}

async fn end_idle(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.close_input();
    peer.exits().await.map(drop)
}

async fn end_before_hello(peer: &mut Peer) -> Outcome {
    peer.hello().await?;
    peer.close_input();
    peer.exits().await.map(drop)
}

async fn end_inside_line(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.write(b"{\"type\":\"job\",\"id\":").await?;
    peer.close_input();
    nothing_but_the_end(peer).await
}

async fn end_inside_body(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Echo, "[1,2,3,4,5]")?;
    let bytes = peer.bytes_of(&job)?;
    peer.write(&bytes[..bytes.len() - 5]).await?;
    peer.close_input();
    nothing_but_the_end(peer).await
}

async fn nothing_but_the_end(peer: &mut Peer) -> Outcome {
    let rest = peer.exits().await?;
    let answers =
        |message: &FromChild| matches!(message, FromChild::Done { .. } | FromChild::Failed { .. });
    match rest.iter().find(|message| answers(message)) {
        None => Ok(()),
        Some(answer) => failed(format!("it answered what it had not read completely: {answer:?}")),
    }
}

async fn end_while_running(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    let job = peer.job(Role::Wait, "1")?;
    peer.send_job(&job).await?;
    peer.progress(&job).await?;
    peer.close_input();
    peer.exits().await.map(drop)
}

async fn term(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.echoes("1").await?;
    peer.terminate().await;
    peer.exits().await.map(drop)
}
