//! A child process of a test: its log, its signals, its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::process::{Child, Command};

use crate::wait::{eventually, in_time};

/// A process that is killed with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints on either stream goes to `<name>.log` in `directory`.
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

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// The most memory it ever had, in bytes.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        1024 * kib.expect("Linux counts it")
    }

    /// Sends a signal; one that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        // A process that was waited for may have left its id to a stranger.
        if self.child.id().is_some() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Lets it have descriptors below that number only, or any that the system allows; those that are open stay so. Returns what
    /// it was before.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn limit_descriptors(&self, limit: Option<u64>) -> Option<u64> {
        // A process that was waited for may have left its id to a stranger.
        self.child.id()?;
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: limit.or(maximum), maximum };
        prlimit(Some(self.pid), Resource::Nofile, limit).expect("it is a child of ours").current
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exited().await;
    }

    /// Asks it to stop and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited().await
    }

    /// Waits for its end.
    pub async fn exited(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        in_time(&what, self.child.wait()).await.unwrap()
    }

    /// Whether it has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Everything it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed `text`; returns the rest of that line.
    ///
    /// # Panics
    /// If it ends before, or does not in time.
    pub async fn says(&mut self, text: &str) -> String {
        let what = format!("{} says {text:?}", self.name);
        eventually(&what, async || {
            let log = self.log();
            let rest = log.split_once(text).and_then(|(_, rest)| rest.split_once('\n'));
            if rest.is_none() && self.has_exited() && !self.log().contains(text) {
                panic!("{} ended before it said {text:?}:\n{}", self.name, self.log());
            }
            rest.map(|(line, _)| line.to_owned())
        })
        .await
    }
}
