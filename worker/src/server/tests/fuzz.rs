//! Streams with random faults: in the decoder, and from real children.

use futures_util::{StreamExt, stream};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::server::frame::Decoder;

/// What a child may say, more or less.
const PIECES: [&[u8]; 16] = [
    b"{\"type\":\"hello\",\"channel\":1,\"body\":14}\n[{\"name\":\"a\"}]",
    b"{\"type\":\"hello\",\"channel\":1,\"concurrency\":7,\"features\":[\"file\"]}\n",
    b"{\"type\":\"done\",\"id\":\"01a22455-12b5-8000-ba52-f6b59f32d25f\",\"epoch\":1,\"body\":3}\nabc",
    b"{\"type\":\"failed\",\"id\":\"01a22455-12b5-8000-ba52-f6b59f32d25f\",\"epoch\":1,\"error\":{}}\n",
    b"{\"type\":\"progress\",\"id\":\"x\",\"epoch\":1,\"progress\":0.5}\n",
    b"{\"type\":\"log\",\"id\":\"x\",\"epoch\":1,\"text\":\"\\u0000\"}\n",
    b"{\"type\":\"credit\",\"concurrency\":3}\n",
    b"{\"type\":\"pong\"}\n",
    b"{\"type\":\"bye\",\"reason\":\"so\"}\n",
    b"{\"type\":\"later\",\"body\":99999999999999999999}\n",
    b"{\"type\":\"later\",\"body\":18446744073709551615}\n",
    b"{\"type\":\"later\",\"body\":5}\n\n\n\n\n\n",
    b"{\"type\":",
    b"\xff\xfe",
    b"\0\0\0\0\n",
    b"[[[[[[[[[[\n",
];

fn any_stream(random: &mut Pcg64Mcg) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.random_range(1..6) {
        stream.extend_from_slice(PIECES[random.random_range(0..PIECES.len())]);
    }
    for _ in 0..random.random_range(0..4) {
        if stream.is_empty() {
            break;
        }
        let at = random.random_range(0..stream.len());
        match random.random_range(0..4) {
            0 => stream[at] = random.random(),
            1 => _ = stream.remove(at),
            2 => stream.insert(at, random.random()),
            _ => stream.truncate(at.max(1)),
        }
    }
    stream
}

/// Reads a stream in random pieces; returns how much the decoder holds at most.
fn decode(random: &mut Pcg64Mcg, stream: &[u8]) -> usize {
    let (mut decoder, mut left, mut most) = (Decoder::default(), stream, 0);
    while !left.is_empty() {
        let (piece, rest) = left.split_at(random.random_range(1..=left.len()));
        left = rest;
        decoder.buffer.extend_from_slice(piece);
        loop {
            match decoder.next(|_| 1000) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return most,
            }
        }
        most = most.max(decoder.buffer.len());
    }
    most
}

#[test]
fn a_hundred_thousand_streams_are_read_in_little_memory() {
    let seed: u64 = rand::random();
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    for number in 0..100_000 {
        let stream = any_stream(&mut random);
        let most = decode(&mut random, &stream);
        assert!(most <= stream.len(), "seed {seed}, stream {number}: {stream:?}");
    }
}

/// A child that answers one job, whose payload is a number, and then says what is in the file of this name.
const CHILD: &str = r#"
tasks='[{"name":"fuzzed"}]'
printf '{"type":"hello","channel":1,"body":%d}\n%s' ${#tasks} "$tasks" >&4
IFS= read -r hello <&3
IFS= read -r job <&3
field() { rest=${job#*\"$1\":}; rest=${rest#\"}; echo "${rest%%[\",]*}"; }
number=$(dd bs="$(field body)" count=1 status=none <&3)
printf '{"type":"credit","concurrency":0}\n{"type":"done","id":"%s","epoch":%s}\n' "$(field id)" "$(field epoch)" >&4
cat "$number" >&4
"#;

#[tokio::test]
async fn children_that_say_anything_end_and_others_are_not_affected() {
    run_children(100).await;
}

#[tokio::test]
#[ignore = "takes half a minute"]
async fn a_thousand_children_that_say_anything_take_no_memory() {
    run_children(100).await;
    let before = memory::resident(std::process::id()).unwrap();
    run_children(1000).await;
    let grown = memory::resident(std::process::id()).unwrap().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}

/// Runs this many streams, each in a child of a pool of its own, and jobs of a neighbour.
async fn run_children(count: u64) {
    let (seed, folder) = (rand::random::<u64>(), tempfile::tempdir().unwrap());
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    for number in 0..count {
        std::fs::write(folder.path().join(number.to_string()), any_stream(&mut random)).unwrap();
    }
    let mut spec = ServerSpec { processes: 3, ..spec(&[]) };
    spec.command.program = "sh".into();
    spec.command.arguments = ["-c".into(), CHILD.into()].to_vec();
    spec.command.directory = folder.path().to_owned();
    let (server, neighbour) = (Server::of(spec).await, Server::with(&["none"]).await);
    let said = stream::iter(0..count).map(|number| say(&server, seed, number));
    let all = said.buffer_unordered(3).collect::<()>();
    tokio::select! {
        () = all => {}
        () = serve(&neighbour) => {}
    }
    assert_eq!(neighbour.pool().numbers(), [1], "seed {seed}");
    server.end().await;
    neighbour.end().await;
}

/// Has one stream said. A job that went to a child that was about to end is tried again, as by a worker.
async fn say(server: &Server, seed: u64, number: u64) {
    eventually(&format!("seed {seed}, stream {number} is said"), async || {
        let report = server.run("fuzzed", json!(number)).await;
        assert!(!matches!(report.outcome, Outcome::Failed(_)), "seed {seed}, stream {number}");
        report.outcome == Outcome::Succeeded
    })
    .await;
}

/// Runs jobs of the neighbour, one after the other, without an end.
async fn serve(neighbour: &Server) {
    for number in 0.. {
        assert_eq!(neighbour.run("a", json!(number)).await.json::<u64>(), number);
    }
}
