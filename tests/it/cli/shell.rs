//! Completions: the scripts of shells, and names that come from the API.

use std::path::PathBuf;

use crunch_tests::{Stack, binary};

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
