//! The command `crunch`, as it is shipped, with a real API, Redis and worker.

mod bulk;
mod connection;
mod doctor;
mod documents;
mod fake;
mod groups;
mod history;
mod jobs;
mod lines;
mod outages;
mod questions;
mod shell;
mod terminal;
mod unique;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crunch_tests::{Api, binary, in_time};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// The program with a home of its own, and the API it uses.
struct Crunch {
    home: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Crunch {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn of(api: &Api) -> Self {
        Self::new().with("CRUNCH_URL", &api.url)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in its home.
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("crunch"));
        command.args(arguments).env_clear().env("HOME", self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Starts a shell's command, in which `crunch` is the program, at a terminal of 120 columns: `script` writes what is
    /// drawn to the file `screen`, and passes on what it is given as input.
    fn start_at_terminal(&self, line: &str) -> Child {
        let program = binary("crunch");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", program.parent().unwrap().display(), path.display());
        let mut command = Command::new("script");
        command.args(["-qfec", &format!("stty cols 120 rows 30; {line}")]).arg(self.path("screen"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", path).env("TERM", "xterm");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// What was drawn so far.
    fn screen(&self) -> String {
        let screen = std::fs::read(self.path("screen")).unwrap_or_default();
        String::from_utf8_lossy(&screen).into_owned()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        finish(self.start(arguments)).await
    }

    async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writing = tokio::spawn(async move { stdin.write_all(&input).await });
        let run = finish(child).await;
        // A program that needs no more input closes it.
        let _ = writing.await.unwrap();
        run
    }

    /// Runs a command that must succeed without a message; returns what it printed.
    async fn prints(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments).await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?}: {}", run.out);
        run.out
    }
}

async fn finish(child: Child) -> Run {
    let output: Output = in_time("the end of crunch", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Run {
    /// Every line, as JSON.
    fn documents(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
