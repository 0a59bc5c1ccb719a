//! Pings, and messages of later versions.

use super::{Outcome, cases};
use crate::check_channel::peer::Peer;

cases! {
    ping, "is answered while idle" => idle;
    ping, "is answered each time" => ten;
    ping, "is answered after a job" => after_job;
    ping, "may have members and a body of a later version" => with_body;
    pong, "of the worker is ignored" => pong;
    unknown, "types are ignored" => unknown;
    unknown, "types are ignored with their bodies" => unknown_with_body;
    unknown, "types are ignored with a body of 1 MiB" => unknown_with_large_body;
    unknown, "types may have an empty body" => unknown_with_empty_body;
}

const PING: &str = r#"{"type":"ping"}"#;

async fn idle(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(PING).await?;
    peer.pong().await
}

async fn ten(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    for _ in 0..10 {
        peer.send(PING).await?;
    }
    for _ in 0..10 {
        peer.pong().await?;
    }
    Ok(())
}

async fn after_job(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.echoes("1").await?;
    peer.send(PING).await?;
    peer.pong().await?;
    peer.echoes("2").await
}

async fn with_body(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"ping","why":{"id":1},"body":5}"#).await?;
    peer.write(b"\n\n\n\n\n").await?;
    peer.pong().await?;
    peer.echoes("1").await
}

async fn pong(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"pong"}"#).await?;
    peer.echoes("1").await
}

async fn unknown(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"reload","id":"x","epoch":3,"list":[{"type":"drain"}]}"#).await?;
    peer.send(r#"{"type":""}"#).await?;
    peer.echoes("1").await
}

async fn unknown_with_body(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"reload","body":17}"#).await?;
    peer.write(b"{\"type\":\"drain\"}\n").await?;
    peer.write(b"{\"type\":\"ping\"}\n").await?;
    peer.pong().await?;
    peer.echoes("1").await
}

async fn unknown_with_large_body(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"reload","body":1048576}"#).await?;
    peer.write(&[b'\n'; 1024 * 1024]).await?;
    peer.echoes("1").await
}

async fn unknown_with_empty_body(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.send(r#"{"type":"reload","body":0}"#).await?;
    peer.echoes("1").await
}
