//! A child process of a test: its log, signals and exit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::process::{Child, Command};

use crate::wait::{eventually, in_time};

/// A process that is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a process; writes both of its output streams to `<name>.log` in `directory`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command, name: &str, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let err = out.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
        Self { child, pid, name: name.to_owned(), log }
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Returns the process's peak memory, in bytes.
    ///
    /// # Panics
    /// If the process has ended.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        1024 * kib.expect("Linux reports the peak")
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        // Once a process was waited for, its id may belong to another process.
        if self.child.id().is_some() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Limits the process to descriptors below this number, or to the system's limit; open ones stay open. Returns the
    /// previous limit.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn limit_descriptors(&self, limit: Option<u64>) -> Option<u64> {
        // Once a process was waited for, its id may belong to another process.
        self.child.id()?;
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: limit.or(maximum), maximum };
        prlimit(Some(self.pid), Resource::Nofile, limit).expect("the process is our child").current
    }

    /// Kills the process and waits until it has exited.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exited().await;
    }

    /// Sends TERM and waits until the process has exited.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited().await
    }

    /// Waits until the process has exited.
    pub async fn exited(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        in_time(&what, self.child.wait()).await.unwrap()
    }

    /// Whether the process has exited.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Returns everything the process has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the process has printed `text`; returns the rest of that line.
    ///
    /// # Panics
    /// If the process exits first, or does not print it in time.
    pub async fn wait_for_log(&mut self, text: &str) -> String {
        let what = format!("{} prints {text:?}", self.name);
        eventually(&what, async || {
            let log = self.log();
            let rest = log.split_once(text).and_then(|(_, rest)| rest.split_once('\n'));
            if rest.is_none() && self.has_exited() && !self.log().contains(text) {
                panic!("{} exited before it printed {text:?}:\n{}", self.name, self.log());
            }
            rest.map(|(line, _)| line.to_owned())
        })
        .await
    }
}

/// Returns the children of a process; none if it has ended.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let all: String = lists.map(Result::unwrap_or_default).collect();
    all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
