//! The questions of docs/cli.md, "Questions at night": each command there answers its question.

use std::collections::BTreeMap;

use crunch_tests::{Stack, Stage, binary, eventually};
use serde_json::json;

use super::Crunch;
use crate::tree::read;

/// The commands of the page, by their questions; those of one question are one text.
fn commands() -> BTreeMap<String, String> {
    let page = read("docs/cli.md");
    let (_, section) = page.split_once("\n## Questions at night\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let question = |part: &str| {
        let (question, rest) = part.split_once("**").unwrap();
        let (_, block) = rest.split_once("```sh\n").unwrap();
        (question.replace('\n', " "), block.split_once("```").unwrap().0.to_owned())
    };
    section.split("\n**").skip(1).map(question).collect()
}

#[tokio::test]
async fn every_question_is_answered_by_its_commands() {
    let (_stack, api, _worker) = Stack::on_one_node().with_api_and_worker(2).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let failed = api
        .submit_with(
            "square",
            &json!("no number"),
            &json!({ "max_attempts": 1, "metadata": { "customer": "acme", "order": 17 } }),
        )
        .await;
    let error = api.wait_for_status(&failed, "failed").await["error_group"].clone();
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    crunch.prints(&["pause", "echo"]).await;
    let waiting = api.submit("echo", &json!(1)).await;
    api.submit_with("echo", &json!(1), &json!({ "queue": "orphans" })).await;

    let answer = async |question: &str, job: &str| {
        let commands = commands();
        let commands = commands.get(question).unwrap_or_else(|| panic!("{question}: {commands:?}"));
        let commands = commands.replace("JOB", job).replace("QUEUE", "echo");
        let commands = commands.replace("TASK", "square").replace("ERROR", error.as_str().unwrap());
        let program = binary("crunch");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", program.parent().unwrap().display(), path.display());
        let mut command = tokio::process::Command::new("sh");
        command.args(["-ec", &commands]).env("PATH", path).env("HOME", crunch.path(""));
        let output = command.env("CRUNCH_URL", &api.url).output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{question}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = [
        ("Which customer's jobs failed last night, and why?", &failed, "customer=acme order=17"),
        ("Which customer's jobs failed last night, and why?", &failed, "acme\t1\t1 x square: "),
        ("Who is stuck?", &running, &*format!("{running}\trunning\tact\t")),
        ("When will this queue be empty?", &waiting, "echo\tpaused\t1\t"),
        ("Is any queue without workers?", &waiting, "orphans\n"),
        ("What did operators do today, and who paused this queue?", &waiting, "\tpause\techo\t"),
        ("Why does this job wait?", &waiting, "its queue echo is paused"),
        (
            "Which worker ran this job, and what else does it run?",
            &failed,
            &*format!("\n{running}\t"),
        ),
        ("What did that deployment break?", &failed, "\tsquare\tsquare\t"),
        ("Which task is slowest today?", &failed, "square\tsquare\t"),
        ("Is Redis near its limit?", &failed, "no limit"),
    ];
    for (question, job, text) in expected {
        // The numbers of busy slots and running jobs follow with the next heartbeat.
        let answers = async || answer(question, job).await.contains(text).then_some(());
        eventually(question, answers).await;
    }
    let slow = "How slow are the slowest runs of this task, and since when?";
    let slow = eventually(slow, async || {
        Some(answer(slow, &failed).await).filter(|answer| !answer.is_empty())
    })
    .await;
    assert!(slow.starts_with("square\tsquare\t") && slow.contains("\t0\t1\t0\t0\t"), "{slow}");
    let again =
        answer("Run again everything that failed with this error, and only that.", &failed).await;
    assert!(again.ends_with("\n1\n1\n"), "{again}");
    assert_eq!(commands().len(), 13, "there is no further question");
    actor.returns(&json!(1)).await;
}

#[tokio::test]
async fn a_worker_that_died_is_named_with_its_host_and_what_it_ran() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &[("CRUNCH_LEASE_MS", "1000")]).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let id = api.submit("act", &stage.payload()).await;
    let _actor = stage.wait_for_handler().await;
    assert_eq!(crunch.prints(&["summary", "--lost"]).await, "");
    let workers = crunch.prints(&["workers"]).await;
    worker.kill().await;
    api.wait_for_status(&id, "queued").await;
    let lost = crunch.prints(&["summary", "--lost", "--since", "12h"]).await;
    let cells: Vec<_> = lost.trim_end().split('\t').collect();
    let [worker, host, _, job, "queued", "act", "act"] = cells[..] else { panic!("{lost}") };
    assert!(workers.contains(worker) && job == id, "{workers}{lost}");
    assert!(workers.to_lowercase().contains(host) && !host.is_empty(), "{workers}{lost}");
}
