//! The worker's side of a launched command: starts its launcher, sends requests, receives how the command ended.
//!
//! The command never outlives its [`Launched`]: dropping it closes the socket, and that stops the process tree. No
//! signal is sent from here unless the launcher itself was killed (`session.rs`).

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
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
use super::pipes::{self, PIPES};
use super::protocol::{End, Launch, PIPES_BYTE, Report, Request};
use super::{launcher, session};

/// A command that is running or about to start.
#[derive(Debug)]
pub(crate) struct Launched {
    launcher: Child,
    requests: OwnedWriteHalf,
    reports: Lines<BufReader<OwnedReadHalf>>,
    /// The id of the launcher's session. `None` once the launcher reported that no process is left in it.
    session: Option<Pid>,
    may_have_run: bool,
}

/// How the command ended.
#[derive(Debug)]
pub(crate) enum Ending {
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
    /// Starts a launcher and sends it the program, which finds the pipes at these descriptors: it reads from `inputs` and
    /// writes to `outputs`, [`PIPES`] in all. [`Launched::ended`] returns whether the program could be started.
    pub(crate) async fn start<const IN: usize, const OUT: usize>(
        program: Program<'_>,
        inputs: [i32; IN],
        outputs: [i32; OUT],
    ) -> io::Result<(Self, [Sender; IN], [Receiver; OUT])> {
        const { assert!(IN + OUT == PIPES, "the launcher expects that many") };
        let (ours, theirs) = Socket::pair()?;
        let (mut senders, mut receivers, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for _ in inputs {
            let (sender, end) = pipes::to_program()?;
            senders.push(sender);
            ends.push(end);
        }
        for _ in outputs {
            let (receiver, end) = pipes::from_program()?;
            receivers.push(receiver);
            ends.push(end);
        }
        let launcher =
            launcher::command_line().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        let session = launcher.id().and_then(|number| Pid::from_raw(number.try_into().ok()?));
        send_descriptors(&ours, &ends)?;
        drop(ends);
        ours.set_nonblocking(true)?;
        let (reports, mut requests) = UnixStream::from_std(ours)?.into_split();
        let descriptors = inputs.into_iter().chain(outputs).collect();
        let mut line = serde_json::to_vec(&program.launch(descriptors))?;
        line.push(b'\n');
        // If the launcher is already dead, `ended` reads the end of the stream.
        let _ = requests.write_all(&line).await;
        let reports = BufReader::new(reports).lines();
        let launched = Self { launcher, requests, reports, session, may_have_run: false };
        let (senders, receivers) = (senders.try_into(), receivers.try_into());
        Ok((launched, senders.expect("as many as inputs"), receivers.expect("as many as outputs")))
    }

    /// Returns the process id of the launcher: the root of the tree of processes.
    pub(crate) fn launcher(&self) -> Option<u32> {
        self.launcher.id()
    }

    /// Waits until the command has ended. Cancel-safe: may be dropped and called again.
    pub(crate) async fn ended(&mut self) -> Ending {
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
    pub(crate) async fn send(&mut self, request: Request) {
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

/// What is launched.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a Command,
    /// Variables in addition to those of the command.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// A directory that is deleted when everything has ended and [`Launched`] is dropped.
    pub(crate) directory: Option<&'a Path>,
}

impl Program<'_> {
    fn launch(self, descriptors: Vec<i32>) -> Launch {
        let Self { command, variables, directory } = self;
        let mut environment = command.environment.clone();
        environment.extend(variables);
        Launch {
            program: command.program.clone(),
            arguments: command.arguments.clone(),
            directory: command.directory.clone().into(),
            writable: command.writable,
            environment,
            open_files: machine::open_files_before(),
            descriptors,
            delete: directory.map(Into::into),
        }
    }
}

fn send_descriptors(socket: &Socket, ends: &[OwnedFd]) -> io::Result<()> {
    let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
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
