//! The lifeline: a socket between a supervisor and its worker, by whose end the worker notices that the supervisor has
//! ended.
//!
//! The worker reports on it that its configuration is valid, and its health; the supervisor sends nothing, and its end
//! closes the socket. No parent-death signal: that one follows the *thread* that started the worker, and is missed if
//! the supervisor dies before it is requested.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::{Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crunch_common::broker::WorkerId;
use rustix::net::SendFlags;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::health::Report;

/// In the environment of a supervised worker: the id that its supervisor assigned.
const MARK: &str = "CRUNCH_SUPERVISED";
/// The first descriptor after those that every process has.
const AFTER_STDERR: i32 = 3;

/// What a worker sends to its supervisor, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ChildMessage {
    /// Its tasks and its settings are valid. If it ends later, the configuration is not the cause.
    Configured,
    /// Its health.
    Health(Report),
}

/// A worker's end of the socket. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Lifeline {
    worker: WorkerId,
    socket: Arc<UnixStream>,
}

/// Returns the command line of a worker with that id, and the supervisor's end of its lifeline.
pub(super) fn command_line(worker: WorkerId) -> io::Result<(Command, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut arguments = std::env::args_os();
    // Not the path of the program: a deployment may have replaced it meanwhile.
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(MARK, worker.to_string());
    // Standard input, because nothing else needs it; and its own group, so that a Ctrl-C reaches it once, through the
    // supervisor.
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).process_group(0);
    Ok((command, ours))
}

pub(super) fn is_supervised() -> bool {
    std::env::var_os(MARK).is_some()
}

impl Lifeline {
    /// Takes the lifeline from where the supervisor left it. Only the first worker of a process has one: two with one
    /// id would take each other's jobs for their own.
    pub(super) fn take() -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        let lifeline = Self::receive().and_then(|lifeline| {
            lifeline.watch()?;
            Ok(lifeline)
        });
        Some(lifeline.unwrap_or_else(|error| exit_with_error(&error)))
    }

    fn receive() -> io::Result<Self> {
        let no_id = || io::Error::other("it contains no worker id");
        let worker = std::env::var_os(MARK).and_then(|id| id.to_str()?.parse().ok());
        let worker = worker.ok_or_else(no_id)?;
        let stdin = rustix::stdio::stdin();
        rustix::net::sockopt::socket_type(stdin)?;
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, AFTER_STDERR)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self { worker, socket: Arc::new(socket.into()) })
    }

    /// Turns the end of the supervisor into a SIGTERM, so that the program does what it always does on SIGTERM.
    fn watch(&self) -> io::Result<()> {
        let mut socket = self.socket.try_clone()?;
        let watch = move || {
            let mut byte = [0];
            loop {
                match socket.read(&mut byte) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            tracing::warn!(
                "the supervisor has ended, shutting down: nothing would reclaim the jobs of this worker"
            );
            let _cannot_fail = kill_process(getpid(), Signal::TERM);
        };
        thread::Builder::new().name("crunch-lifeline".to_owned()).spawn(watch).map(drop)
    }

    /// Returns the assigned id.
    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Reports that tasks and settings are valid.
    pub(crate) fn report_configured(&self) {
        self.send(&ChildMessage::Configured);
    }

    /// Reports the worker's health.
    pub(crate) fn report_health(&self, report: Report) {
        self.send(&ChildMessage::Health(report));
    }

    /// Never waits: a supervisor that is stopped receives nothing for now.
    fn send(&self, message: &ChildMessage) {
        let mut line = serde_json::to_vec(message).expect("messages are plain data");
        line.push(b'\n');
        let _ = rustix::net::send(&*self.socket, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

#[expect(clippy::print_stderr, reason = "the output of a process that exits")]
fn exit_with_error(error: &io::Error) -> ! {
    eprintln!(
        "crunch-worker: {MARK} is set only by supervisors, for their workers: unset it ({error})"
    );
    exit(2)
}
