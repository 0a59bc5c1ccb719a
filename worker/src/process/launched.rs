//! The worker's side of a launched command: starts its launcher, sends requests, receives how the command ended.
//!
//! The command never outlives its [`Launched`]: dropping it closes the socket, and that stops the process tree. No
//! signal is sent from here unless the launcher itself was killed (`session.rs`).

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::process::{ExitStatus, Stdio};

use crunch_common::machine;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;

use super::Command;
use super::pipes::Pipes;
use super::protocol::{End, Launch, PIPES_BYTE, Report, Request};
use super::{launcher, session};

/// A command that is running or about to start.
#[derive(Debug)]
pub(super) struct Launched {
    launcher: Child,
    requests: OwnedWriteHalf,
    reports: Lines<BufReader<OwnedReadHalf>>,
    /// The id of the launcher's session. `None` once the launcher reported that no process is left in it.
    session: Option<Pid>,
    may_have_run: bool,
}

/// How the command ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The command ended, and none of its processes is left.
    Ended(End),
    /// The command could not be started, and has not run.
    NotStarted {
        why: String,
        /// The error number, if a system call failed.
        code: Option<i32>,
    },
    /// The launcher died before it could start anything.
    NoLauncher(Option<ExitStatus>),
    /// The launcher died after the start, and the command was killed.
    LauncherDied(Option<ExitStatus>),
}

impl Launched {
    /// Starts a launcher and sends it the command. [`Launched::ended`] returns whether the command could be started.
    pub(super) async fn start(
        command: &Command,
        job_variables: Vec<(OsString, OsString)>,
    ) -> io::Result<(Self, Pipes<Sender, Receiver>)> {
        let (ours, theirs) = Socket::pair()?;
        let (worker_ends, command_ends) = pipes()?;
        let launcher =
            launcher::command_line().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        let session = launcher.id().and_then(|number| Pid::from_raw(number.try_into().ok()?));
        send_pipes(&ours, &command_ends)?;
        drop(command_ends);
        ours.set_nonblocking(true)?;
        let (reports, mut requests) = UnixStream::from_std(ours)?.into_split();
        let mut line = serde_json::to_vec(&launch(command, job_variables))?;
        line.push(b'\n');
        // If the launcher is already dead, `ended` reads the end of the stream.
        let _ = requests.write_all(&line).await;
        let reports = BufReader::new(reports).lines();
        Ok((Self { launcher, requests, reports, session, may_have_run: false }, worker_ends))
    }

    /// Waits until the command has ended. Cancel-safe: may be dropped and called again.
    pub(super) async fn ended(&mut self) -> Ending {
        while let Ok(Some(line)) = self.reports.next_line().await
            && let Ok(report) = serde_json::from_str(&line)
        {
            let ending = match report {
                Report::Starting => {
                    self.may_have_run = true;
                    continue;
                }
                Report::NotStarted { why, code } => Ending::NotStarted { why, code },
                Report::Ended(end) => Ending::Ended(end),
            };
            self.session = None;
            return ending;
        }
        self.kill_session();
        let status = self.launcher.wait().await.ok();
        match self.may_have_run {
            true => Ending::LauncherDied(status),
            false => Ending::NoLauncher(status),
        }
    }

    /// Sends a request. If that fails, the launcher is dead or finished.
    pub(super) async fn send(&mut self, request: Request) {
        let _ = self.requests.write_all(&[request.to_byte()]).await;
    }

    /// Kills a command whose launcher died.
    fn kill_session(&mut self) {
        if let Some(session) = self.session.take() {
            session::kill(session);
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Closing the socket stops the process tree, unless the launcher is dead.
        if let Ok(Some(_)) = self.launcher.try_wait() {
            self.kill_session();
        }
    }
}

fn launch(command: &Command, job_variables: Vec<(OsString, OsString)>) -> Launch {
    let mut environment = command.environment.clone();
    environment.extend(job_variables);
    Launch {
        program: command.program.clone(),
        arguments: command.arguments.clone(),
        directory: command.directory.clone().into(),
        writable: command.writable,
        environment,
        open_files: machine::open_files_before(),
    }
}

/// Creates four pipes; returns the worker's ends and the command's. The worker's are non-blocking, the command's
/// blocking.
fn pipes() -> io::Result<(Pipes<Sender, Receiver>, Pipes<OwnedFd>)> {
    let incoming = || -> io::Result<_> {
        let (read, write) = io::pipe()?;
        Ok((Receiver::from_owned_fd(read.into())?, OwnedFd::from(write)))
    };
    let (stdin, write) = io::pipe()?;
    let (read_stdout, stdout) = incoming()?;
    let (read_stderr, stderr) = incoming()?;
    let (read_events, events) = incoming()?;
    let worker_ends = Pipes {
        stdin: Sender::from_owned_fd(write.into())?,
        stdout: read_stdout,
        stderr: read_stderr,
        events: read_events,
    };
    Ok((worker_ends, Pipes { stdin: stdin.into(), stdout, stderr, events }))
}

fn send_pipes(socket: &Socket, pipes: &Pipes<OwnedFd>) -> io::Result<()> {
    let ends = pipes.as_array();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Pipes::<()>::COUNT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&ends));
    debug_assert!(fits, "the buffer has the size of the message");
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&[PIPES_BYTE])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
