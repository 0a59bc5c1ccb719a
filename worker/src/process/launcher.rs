//! The launcher: this program started again, as the parent of one command.
//!
//! It exists because a worker can be killed without a chance to clean up, and because only a parent can be sure that
//! everything a command started has ended. It starts the command, then waits for three things: a request, the end of a
//! process, the end of the grace period. It never touches what the command reads and writes, and knows nothing of jobs.
//!
//! It detects the worker's death by the socket, not by a parent-death signal: that signal is tied to the *thread* that
//! started the launcher, is missed if the worker died before the launcher requested it, and cannot be distinguished
//! from any other signal. A socket has none of these problems.

mod directories;
mod process_tree;

use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use command_fds::{CommandFdExt, FdMapping, FdMappingCollision};
use crunch_common::machine;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::Pid;

use super::pipes::PIPES;
use super::protocol::{Launch, PIPES_BYTE, Report, Request};
pub(crate) use directories::temporary as temporary_directory;
use process_tree::{Event, ProcessTree};

/// Set in the environment of a launcher, and of no other process.
const MARK: &str = "CRUNCH_LAUNCHER";
/// The library path of the dynamic linker: a program that needs it would not start as a launcher without it.
const LIBRARIES: &str = "LD_LIBRARY_PATH";
/// The first descriptor after the standard ones.
pub(crate) const FIRST_FD: i32 = 3;

/// Runs the launcher and exits, if this process was started as one; otherwise returns at once.
///
/// Every constructor of a [`crate::Worker`] calls this first, so a program that uses the library is its own launcher
/// without any code for it. It gets the arguments of its worker, so whatever it does before that point goes as it did
/// there.
pub(crate) fn become_launcher_if_marked() {
    if std::env::var_os(MARK).is_some() {
        machine::forbid_inspection();
        std::process::exit(serve());
    }
}

/// The command line of a launcher for this worker.
pub(super) fn command_line() -> tokio::process::Command {
    // Not the path of the program: a deployment may have replaced the file meanwhile.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.arg0("crunch-launcher").args(arguments());
    // Everything else is sent over the socket: a command can read the environment of its parent.
    let libraries = std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path));
    command.env_clear().envs(libraries).env(MARK, "1");
    command
}

#[cfg(not(test))]
fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().skip(1)
}

/// A test program becomes a launcher by running the one test that calls [`become_launcher_if_marked`].
#[cfg(test)]
fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    ["--exact", "process::tests::this_program_is_its_own_launcher", "--nocapture"]
        .map(Into::into)
        .into_iter()
}

#[expect(clippy::print_stderr, reason = "there is no worker that would log it")]
fn serve() -> i32 {
    match connect().and_then(|worker| launch(&worker)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!(
                "crunch-launcher: {error}; {MARK} is set only by workers, for the launchers of their commands: unset it"
            );
            2
        }
    }
}

/// The socket to the worker.
fn connect() -> io::Result<UnixStream> {
    // Standard input is the socket. Its copy is at 3 or above, and the pipes follow: so the low numbers, at which the
    // program gets its pipes, are in use by descriptors that close on exec, and the pipe through which the standard
    // library reports a failed exec cannot get one of them.
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST_FD)?;
    // Also closes what the worker inherited without the flag, such as the lock of the script that started it.
    close_fds::set_fds_cloexec_threadsafe(FIRST_FD, &[]);
    Ok(UnixStream::from(socket))
}

/// Handles the worker's requests. Once pipes were received there is a worker, and errors are reported to it.
fn launch(worker: &UnixStream) -> io::Result<()> {
    let Some(pipes) = receive_pipes(worker)? else { return Ok(()) };
    let received = receive_launch(worker);
    let supervised = received.and_then(|received| match received {
        Some((launch, requests)) => supervise(worker, requests, launch, pipes),
        None => Ok(()),
    });
    if let Err(error) = supervised {
        let why = format!("the launcher of the command failed: {error}");
        send(worker, &Report::refused(why, &error));
    }
    Ok(())
}

/// Returns `None` if the worker has already disconnected.
fn receive_launch(worker: &UnixStream) -> io::Result<Option<(Launch, BufReader<UnixStream>)>> {
    let mut requests = BufReader::new(worker.try_clone()?);
    let mut line = Vec::new();
    requests.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Ok(None);
    }
    // A process that waits for the end of the worker's output must not wait for the launcher.
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(Some((serde_json::from_slice(&line)?, requests)))
}

fn receive_pipes(worker: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PIPES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::net::recvmsg(
        worker,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let pipes = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let pipes: Vec<OwnedFd> = pipes.collect();
    match byte == [PIPES_BYTE] && pipes.len() == PIPES {
        true => Ok(Some(pipes)),
        false => Err(io::Error::other("the worker sent no pipes")),
    }
}

/// Starts the command and ensures that none of its processes is left in the end.
fn supervise(
    worker: &UnixStream,
    requests: BufReader<UnixStream>,
    launch: Launch,
    pipes: Vec<OwnedFd>,
) -> io::Result<()> {
    let delete = launch.delete.clone();
    // By the session id the worker finds what is left if the launcher is killed. A session also keeps away a Ctrl-C
    // meant for the worker, and the terminal: a command that asks it for a password fails and does not wait for input.
    rustix::process::setsid()?;
    // A descendant that loses its parent becomes our child, even if it left the group.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let (sender, events) = mpsc::channel();
    let request_sender = sender.clone();
    // Threads first: if one could not be started later, the command would run without supervision.
    let reader = thread::Builder::new().spawn(move || read_requests(requests, &request_sender))?;
    // Before anything can run: a command that kills its launcher at once has still run.
    send(worker, &Report::Starting);
    thread::Builder::new().spawn(move || process_tree::watch(start(launch, pipes), &sender))?;
    let report = ProcessTree::default().supervise(&events);
    send(worker, &report);
    if let Some(directory) = delete {
        // The worker closes the socket when it has read the results that are there, and of course when it dies.
        let _ = reader.join();
        // Nothing can be done about files that another user put there.
        let _ = std::fs::remove_dir_all(directory);
    }
    Ok(())
}

fn read_requests(requests: BufReader<UnixStream>, events: &mpsc::Sender<Event>) {
    let requests = requests.bytes().map_while(Result::ok).map(Request::from_byte);
    // A closed socket means that the worker is dead or no longer needs the command.
    for request in requests.chain([Request::Stop]) {
        // The channel is closed once the end was reported.
        let _ = events.send(Event::Requested(request));
    }
}

fn send(mut worker: &UnixStream, report: &Report) {
    let mut line = serde_json::to_vec(report).expect("a report is plain data");
    line.push(b'\n');
    // Fails if the worker has disconnected: then no report is needed.
    let _ = worker.write_all(&line);
}

/// Starts the command as the leader of its own process group, whose id is the command's.
fn start(launch: Launch, pipes: Vec<OwnedFd>) -> Result<Pid, Report> {
    let Launch { program, arguments, directory, writable, environment, open_files, .. } = launch;
    let failed = |error: io::Error| {
        let reason = explain(&error, &directory);
        Report::refused(format!("cannot start {}: {reason}", program.display()), &error)
    };
    if writable {
        directories::check_writable(directory.as_ref()).map_err(|error| {
            let place = directory.display();
            let why = format!("its working directory {place} is no longer writable: {error}");
            Report::refused(why, &error.into())
        })?;
    }
    let temporary = directories::temporary(&environment);
    directories::check_room(temporary.as_ref()).map_err(|full| {
        let why = format!("no room for temporary files in {}: {full}", temporary.display());
        Report::refused(why, &full.into())
    })?;
    machine::limit_open_files(open_files).map_err(failed)?;
    let mut command = Command::new(&program);
    command.args(arguments).env_clear().envs(environment).current_dir(&directory);
    command.stdin(Stdio::null());
    connect_pipes(&mut command, pipes, &launch.descriptors)
        .map_err(|error| failed(io::Error::other(error)))?;
    let child = command.process_group(0).spawn().map_err(failed)?;
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let no_id = "the system returned no process id for the command".to_owned();
    id.ok_or(Report::NotStarted { why: no_id, code: None })
}

fn connect_pipes(
    command: &mut Command,
    pipes: Vec<OwnedFd>,
    descriptors: &[i32],
) -> Result<(), FdMappingCollision> {
    let mut mappings = Vec::new();
    for (parent_fd, &child_fd) in pipes.into_iter().zip(descriptors) {
        match child_fd {
            0 => _ = command.stdin(parent_fd),
            1 => _ = command.stdout(parent_fd),
            2 => _ = command.stderr(parent_fd),
            _ => mappings.push(FdMapping { parent_fd, child_fd }),
        }
    }
    command.fd_mappings(mappings).map(drop)
}

/// "No such file" can mean three files: the working directory, the program, its interpreter.
fn explain(error: &io::Error, directory: &std::ffi::OsStr) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    if !std::path::Path::new(directory).is_dir() {
        return format!("its working directory {} does not exist", directory.display());
    }
    format!("{error}; the program or the interpreter that its first line names does not exist")
}
