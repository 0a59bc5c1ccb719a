//! Streams with random faults: in the decoder, and from real children.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tokio::sync::mpsc;

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

fn stream(random: &mut Pcg64Mcg) -> Vec<u8> {
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
        let stream = stream(&mut random);
        let most = decode(&mut random, &stream);
        assert!(most <= stream.len(), "seed {seed}, stream {number}: {stream:?}");
    }
}

#[tokio::test]
async fn children_that_say_anything_end_and_the_worker_does_not() {
    run_children(50).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn a_thousand_children_that_say_anything_end() {
    run_children(1000).await;
}

async fn run_children(count: u64) {
    let (seed, folder) = (rand::random::<u64>(), tempfile::tempdir().unwrap());
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    for number in 0..count {
        let file = folder.path().join(format!("{number}"));
        std::fs::write(&file, stream(&mut random)).unwrap();
        let mut spec = spec(&[]);
        spec.command.program = "sh".into();
        let script = format!("cat {} >&4", file.display());
        spec.command.arguments = ["-c".into(), script.into()].to_vec();
        let (events, _receiver) = mpsc::unbounded_channel();
        let exit = tokio::time::timeout(DEADLINE, life::run(&spec, number, events)).await;
        let exit = exit.unwrap_or_else(|_| panic!("seed {seed}, stream {number}: it hangs"));
        assert!(!exit.problem.is_empty(), "seed {seed}, stream {number}");
    }
}
