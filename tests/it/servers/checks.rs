//! `crunch-worker check-channel`: children in several languages pass, and wrong ones fail.

use std::process::Output;

use super::*;

/// The tasks of `tests/children/correct.py` by their roles.
const ROLES: [&str; 8] =
    ["--task", "echo=a", "--task", "fail=c", "--task", "wait=d", "--task", "log=e"];

async fn check(options: &[&str], folder: &str, words: &[&str]) -> Output {
    let mut command = Command::new(binary("crunch-worker"));
    command.arg("check-channel").args(options).arg("--").args(words);
    command.current_dir(root().join(folder)).kill_on_drop(true).output().await.unwrap()
}

#[tokio::test]
async fn a_correct_child_passes_all_cases() {
    let output = check(&ROLES, "tests/children", &["python3", "wrong.py", "none"]).await;
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let (cases, passed) = text.lines().last().unwrap().split_once(" cases: ").unwrap();
    assert!(cases.parse::<usize>().unwrap() >= 40, "{text}");
    assert!(passed.contains(" 0 failed"), "{text}");
}

async fn passes(words: &[&str]) {
    let output = check(&[], "examples/children", words).await;
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stdout));
}

#[tokio::test]
async fn the_children_in_bash_and_sh_pass() {
    passes(&["bash", "child.sh"]).await;
    passes(&["sh", "child-posix.sh"]).await;
}

#[tokio::test]
async fn the_children_in_python_and_c_pass() {
    passes(&["python3", "child.py"]).await;
    let stack = Stack::start();
    let program = stack.directory().join("child");
    let program = program.to_str().unwrap();
    let mut compile = Command::new("cc");
    compile.args(["-std=c11", "-O2", "-o", program, "child.c"]);
    compile.current_dir(root().join("examples/children"));
    assert!(compile.status().await.unwrap().success());
    passes(&[program]).await;
}

#[tokio::test]
#[ignore = "needs Node and Ruby: script/test installs them"]
async fn the_children_in_node_and_ruby_pass() {
    passes(&["node", "child.mjs"]).await;
    passes(&["ruby", "child.rb"]).await;
}

#[tokio::test]
async fn wrong_children_fail_the_cases_of_what_they_do_wrong() {
    let faults = [
        ("hello_other_version", "has version 1 of the channel"),
        ("hello_not_json", "is the first message, with tasks"),
        ("pong_before_hello", "is the first message, with tasks"),
        ("hello_twice", "is answered with its result"),
        ("task_twice", "is the first message, with tasks"),
        ("too_many_credits", "has a concurrency from 1 to 1024"),
        ("two_answers", "after a hundred others"),
        ("answer_old_epoch", "is answered with its epoch, even the largest"),
        ("wrong_length", "after a hundred others"),
        ("nul_bytes", "is answered with its result"),
        ("os_exit", "is answered with its result"),
        ("ignores_cancel", "ends a job that runs"),
        ("ignores_drain", "ends an idle child with 0"),
        ("ignores_end", "of the input ends an idle child"),
        ("no_pong", "is answered while idle"),
    ];
    for (fault, case) in faults {
        let options = [&ROLES[..], &["--within-ms", "3000", "--only", case]].concat();
        let output = check(&options, "tests/children", &["python3", "wrong.py", fault]).await;
        let text = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{fault}: {text}");
        assert!(text.starts_with("FAIL") && text.contains(case), "{fault}: {text}");
        assert!(text.ends_with("1 cases: 0 passed, 1 failed, 0 skipped\n"), "{fault}: {text}");
    }
}

/// The first program in bash that the page shows.
fn child_of_the_page() -> String {
    let page = std::fs::read_to_string(root().join("docs/commands.md")).unwrap();
    let (_, section) = page.split_once("### A child in bash").unwrap();
    let (_, script) = section.split_once("```bash\n").unwrap();
    script.split_once("```").unwrap().0.to_owned()
}

/// Replaces what is there once.
fn with(script: &str, part: &str, other: &str) -> String {
    assert_eq!(script.matches(part).count(), 1, "{part}: {script}");
    script.replace(part, other)
}

#[tokio::test]
async fn the_child_that_the_page_shows_counts_words() {
    let stack = Stack::start();
    let script = stack.directory().join("count");
    std::fs::write(&script, child_of_the_page()).unwrap();
    let path = stack.directory().join("tasks.toml");
    let text =
        format!("builtin = false\n[[server]]\ncommand = [\"bash\", \"{}\"]\n", script.display());
    std::fs::write(&path, text).unwrap();
    let mut stack = stack;
    let (api, _worker) = (stack.api().await, worker_with(&mut stack, &path));
    Stack::wait_for_task(&api, "count").await;
    // The last one looks like members of the line, and has the label that precedes what a client fills.
    for (payload, words) in
        [("to be or not to be", 6), ("", 1), ("{\"type\":\"drain\",\"body\":9}", 1)]
    {
        let labels = json!({ "metadata": { "note": "\"body\":7,\"type\":\"drain\"" } });
        let id = api.submit_with("count", &json!(payload), &labels).await;
        assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], words, "{payload}");
    }
}

#[tokio::test]
async fn the_child_that_the_page_shows_speaks_the_channel() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("child");
    let (script, words) = (child_of_the_page(), ["bash", path.to_str().unwrap()]);
    std::fs::write(&path, &script).unwrap();
    for only in
        ["hello ", "ping     is answered each time", "drain ", "a task that it does not have"]
    {
        let output =
            check(&["--task", "echo=count", "--only", only], "tests/children", &words).await;
        assert_eq!(output.status.code(), Some(0), "{only}: {}", text(&output.stdout));
    }
    // With another task: it returns its payload.
    let count = "words=$(if ((bytes)); then body \"$bytes\" | wc -w; else echo 0; fi)";
    let keep = "payload=$CRUNCH_DIR/payload; if ((bytes)); then body \"$bytes\"; fi >\"$payload\"";
    let script = with(&script, count, keep);
    let script = with(&script, "\"body\":%d}\\n%s' \\", "\"body\":%d}\\n' \\");
    let script = with(&script, "${#words} \"$words\"", "\"$bytes\"; cat \"$payload\"");
    std::fs::write(&path, script).unwrap();
    let output = check(&["--task", "echo=count"], "tests/children", &words).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}
