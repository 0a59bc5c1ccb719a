//! The worker's end of a launched command: starts its launcher, gives orders, hears how it ended.
//!
//! Whatever happens to a [`Launched`], the command ends with it: dropping it closes the socket, and that stops the
//! family. No signal is sent from here unless the launcher itself was killed (`session.rs`).

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
use super::protocol::{End, HANDOVER, Launch, Order, Report};
use super::{launcher, session};

/// A command that runs, or is about to.
#[derive(Debug)]
pub(super) struct Launched {
    launcher: Child,
    orders: OwnedWriteHalf,
    reports: Lines<BufReader<OwnedReadHalf>>,
    /// The number of the launcher's session. Nothing once the launcher has seen to the end of everything in it.
    session: Option<Pid>,
    /// Whether the command may have run.
    began: bool,
}

/// How it went.
#[derive(Debug)]
pub(super) enum Ending {
    /// The command ended, and nothing of it is left.
    Ended(End),
    /// It could not be started, and has not run.
    NotStarted {
        why: String,
        /// The number of the system's error, if it was the system that refused.
        code: Option<i32>,
    },
    /// Its launcher died before it could start anything.
    NoLauncher(Option<ExitStatus>),
    /// Its launcher died, and took it along.
    LauncherDied(Option<ExitStatus>),
}

impl Launched {
    /// Starts a launcher, and hands it what to start. Whether the command could be started tells [`Launched::ended`].
    pub(super) async fn start(
        command: &Command,
        about_the_job: Vec<(OsString, OsString)>,
    ) -> io::Result<(Self, Pipes<Sender, Receiver>)> {
        let (ours, theirs) = Socket::pair()?;
        let (near, far) = pipes()?;
        let launcher =
            launcher::command_line().stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        let session = launcher.id().and_then(|number| Pid::from_raw(number.try_into().ok()?));
        hand_over(&ours, &far)?;
        drop(far);
        ours.set_nonblocking(true)?;
        let (reports, mut orders) = UnixStream::from_std(ours)?.into_split();
        let mut line = serde_json::to_vec(&launch(command, about_the_job))?;
        line.push(b'\n');
        // A launcher that is dead already will be heard of by its silence.
        let _ = orders.write_all(&line).await;
        let reports = BufReader::new(reports).lines();
        Ok((Self { launcher, orders, reports, session, began: false }, near))
    }

    /// Waits for the end. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> Ending {
        while let Ok(Some(line)) = self.reports.next_line().await
            && let Ok(report) = serde_json::from_str(&line)
        {
            let ending = match report {
                Report::Starting => {
                    self.began = true;
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
        match self.began {
            true => Ending::LauncherDied(status),
            false => Ending::NoLauncher(status),
        }
    }

    /// Gives an order. A launcher that cannot hear it is dead or done.
    pub(super) async fn order(&mut self, order: Order) {
        let _ = self.orders.write_all(&[order.to_byte()]).await;
    }

    /// For a command that lost its launcher.
    fn kill_session(&mut self) {
        if let Some(session) = self.session.take() {
            session::kill(session);
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Closing the socket stops the family, if somebody is there to see it.
        if let Ok(Some(_)) = self.launcher.try_wait() {
            self.kill_session();
        }
    }
}

fn launch(command: &Command, about_the_job: Vec<(OsString, OsString)>) -> Launch {
    let mut environment = command.environment.clone();
    environment.extend(about_the_job);
    Launch {
        program: command.program.clone(),
        arguments: command.arguments.clone(),
        directory: command.directory.clone().into(),
        writable: command.writable,
        environment,
        open_files: machine::open_files_before(),
    }
}

/// Four pipes: our ends and the command's. Ours do not block; what the command makes of its own is its affair.
fn pipes() -> io::Result<(Pipes<Sender, Receiver>, Pipes<OwnedFd>)> {
    let incoming = || -> io::Result<_> {
        let (read, write) = io::pipe()?;
        Ok((Receiver::from_owned_fd(read.into())?, OwnedFd::from(write)))
    };
    let (stdin, write) = io::pipe()?;
    let (read_stdout, stdout) = incoming()?;
    let (read_stderr, stderr) = incoming()?;
    let (read_events, events) = incoming()?;
    let near = Pipes {
        stdin: Sender::from_owned_fd(write.into())?,
        stdout: read_stdout,
        stderr: read_stderr,
        events: read_events,
    };
    Ok((near, Pipes { stdin: stdin.into(), stdout, stderr, events }))
}

fn hand_over(socket: &Socket, pipes: &Pipes<OwnedFd>) -> io::Result<()> {
    let ends = pipes.as_array();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Pipes::<()>::COUNT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&ends));
    debug_assert!(fits, "the space was made for them");
    rustix::net::sendmsg(socket, &[IoSlice::new(&[HANDOVER])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
