//! The first messages.

use super::{Outcome, cases};
use crate::check_channel::peer::{Peer, failed};

cases! {
    hello, "is the first message, with tasks that can be declared" => is_first;
    hello, "has version 1 of the channel" => version;
    hello, "has a concurrency from 1 to 1024" => concurrency;
    hello, "is sent once" => once;
    hello, "of the worker may have members of a later version" => worker_with_members;
    hello, "of the worker may have a body" => worker_with_body;
    hello, "of the worker may come late" => worker_late;
}

async fn is_first(peer: &mut Peer) -> Outcome {
    peer.hello().await.map(drop)
}

async fn version(peer: &mut Peer) -> Outcome {
    match peer.hello().await?.0.channel {
        1 => Ok(()),
        other => failed(format!("expected \"channel\":1, got {other}")),
    }
}

async fn concurrency(peer: &mut Peer) -> Outcome {
    match peer.hello().await?.0.concurrency {
        1..=1024 => Ok(()),
        other => failed(format!("expected a concurrency from 1 to 1024, got {other}")),
    }
}

async fn once(peer: &mut Peer) -> Outcome {
    peer.greet().await?;
    peer.echoes("1").await?;
    peer.send(r#"{"type":"ping"}"#).await?;
    peer.pong().await
}

async fn worker_with_members(peer: &mut Peer) -> Outcome {
    peer.hello().await?;
    peer.send(r#"{"type":"hello","channel":1,"worker":"later/9","max_result":5,"limits":"{\"body\":7,\"type\":\"job\"}","later":true}"#).await?;
    peer.echoes("1").await
}

async fn worker_with_body(peer: &mut Peer) -> Outcome {
    peer.hello().await?;
    let line = r#"{"type":"hello","channel":1,"worker":"later/9","max_result":5,"body":16}"#;
    peer.send(line).await?;
    peer.write(b"{\"type\":\"drain\"}").await?;
    peer.echoes("1").await
}

async fn worker_late(peer: &mut Peer) -> Outcome {
    peer.hello().await?;
    peer.send(r#"{"type":"ping"}"#).await?;
    peer.pong().await?;
    peer.send(r#"{"type":"hello","channel":1,"worker":"check-channel","max_result":5}"#).await?;
    peer.echoes("1").await
}
