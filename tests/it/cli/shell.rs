//! Completions: the scripts of shells, and names that come from the API.

use std::path::PathBuf;

use crunch_tests::{Stack, binary};
use serde_json::json;

use super::fake::{Fake, page};
use super::{Crunch, finish};

#[tokio::test]
async fn every_shell_gets_a_script() {
    let crunch = Crunch::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = crunch.prints(&["completion", shell]).await;
        assert!(script.contains("COMPLETE") && script.contains("crunch"), "{script}");
    }
    assert_eq!(crunch.run(&["completion", "csh"]).await.code, 2);
}

#[tokio::test]
async fn names_of_tasks_queues_and_contexts_are_completed() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    // Completed words are printed one in a line; the index is that of the last word.
    let completed = async |crunch: &Crunch, words: &[&str]| {
        let index = words.len().to_string();
        let mut command = crunch.command(&[&["--", "crunch"], words].concat());
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n");
        let run = finish(command.spawn().unwrap()).await;
        run.out.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed(&crunch, &["submit", "squ"]).await, ["square"]);
    assert_eq!(completed(&crunch, &["jobs", "--queue", "image"]).await, ["image.thumbnail"]);
    assert!(completed(&crunch, &["redr"]).await.contains(&"redrive".to_owned()));
    let elsewhere = Crunch::new();
    assert_eq!(completed(&elsewhere, &["--url", &api.url, "pause", "ech"]).await, ["echo"]);
    elsewhere.prints(&["context", "add", "prod", "--url", &api.url]).await;
    assert_eq!(completed(&elsewhere, &["context", "use", ""]).await[0], "prod");
}

#[tokio::test]
async fn names_on_further_pages_are_completed() {
    let fake = Fake::start(|head| match head.contains("cursor=more") {
        true => page(&json!([{ "name": "zebra" }]), None),
        false => page(&json!([{ "name": "aal" }]), Some("more")),
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    let mut command = crunch.command(&["--", "crunch", "pause", ""]);
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2");
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_IFS", "\n");
    let run = finish(command.spawn().unwrap()).await;
    assert!(run.out.starts_with("aal\nzebra"), "{}", run.out);
}

#[tokio::test]
async fn a_bash_completes_with_the_script() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    let folder: PathBuf = binary("crunch").parent().unwrap().to_owned();
    let script = format!(
        "PATH={}:$PATH; source <(crunch completion bash); COMP_WORDS=(crunch submit squ); COMP_CWORD=2; \
         COMP_TYPE=9; _clap_complete_crunch crunch squ submit; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        folder.display()
    );
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", &script]).env("HOME", crunch.path("")).env("CRUNCH_URL", &api.url);
    let output = command.output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.trim(), "square", "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    for _ in 0..5 {
        crunch.prints(&["submit", "echo"]).await;
    }
    let script = format!("set -o pipefail; {} jobs --all | head -n 1", binary("crunch").display());
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", &script]).env("HOME", crunch.path("")).env("CRUNCH_URL", &api.url);
    let output = command.output().await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn a_verb_is_done_to_its_end_although_its_reader_has_gone() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    // What is printed about them is more than the program keeps before it writes.
    crunch.run_with_input(&["submit", "t", "--lines"], "1\n".repeat(200).as_bytes()).await;
    let jobs = crunch.prints(&["jobs", "--all"]).await;
    let ids: Vec<_> = jobs.lines().map(|row| row.split('\t').next().unwrap()).collect();
    assert_eq!(ids.len(), 200);
    let run = async |arguments: &str| {
        let program = binary("crunch");
        let script = format!("{} {arguments} | true; exit ${{PIPESTATUS[0]}}", program.display());
        let mut command = tokio::process::Command::new("bash");
        command.args(["-c", &script]).env("HOME", crunch.path("")).env("CRUNCH_URL", &api.url);
        let output = command.output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&format!("cancel {}", ids.join(" "))).await, (0, String::new()));
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 0, "all of them");
    // The exit code is that of all, too.
    let (code, err) = run(&format!("wait {} {} --timeout 0", ids[0], ids[1])).await;
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(run("jobs --all").await, (0, String::new()));
}
