//! The launcher: this program once more, as the parent of one command.
//!
//! It exists because a worker can be killed without a last word, and because only a parent can be sure that everything a
//! command started is gone. It starts the command, then waits for three things: an order, the end of a process, the end
//! of a grace. It never touches what the command reads and writes, and knows nothing of jobs.
//!
//! Its lifeline is the socket to the worker, not a parent-death signal: that signal follows the *thread* that started
//! us, comes too late for a worker that died before we asked for it, and cannot be told from any other signal. A socket
//! has none of these troubles.

mod directories;
mod family;

use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use command_fds::{CommandFdExt, FdMapping};
use crunch_common::machine;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::Pid;

use super::pipes::Pipes;
use super::protocol::{HANDOVER, Launch, Order, Report};
use family::{Event, Family};

/// In the environment of a launcher, and of nothing else.
const MARK: &str = "CRUNCH_LAUNCHER";
/// Where the dynamic linker looks for libraries: without it a program that needs it would not start as a launcher.
const LIBRARIES: &str = "LD_LIBRARY_PATH";
/// The descriptor on which a command sends events: the first free one, so that a shell may write `>&3`.
pub(super) const EVENTS_FD: i32 = 3;

/// A process that is started as a launcher does its work here, and never returns.
///
/// Called first by every way to make a [`crate::Worker`], so that a program that uses the library is its own launcher
/// without knowing. It is given the arguments of its worker, so whatever it does before that point goes as it went there.
pub(crate) fn become_launcher_if_marked() {
    if std::env::var_os(MARK).is_some() {
        machine::forbid_inspection();
        std::process::exit(serve());
    }
}

/// The command line of a launcher for this worker.
pub(super) fn command_line() -> tokio::process::Command {
    // Not the path of the program: a deploy may have put another one there meanwhile.
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.arg0("crunch-launcher").args(arguments());
    // Everything else comes over the socket: a command can read the environment of its parent.
    let libraries = std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path));
    command.env_clear().envs(libraries).env(MARK, "1");
    command
}

#[cfg(not(test))]
fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().skip(1)
}

/// A test program becomes a launcher by running the one test that takes over.
#[cfg(test)]
fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    ["--exact", "process::tests::this_program_is_its_own_launcher", "--nocapture"]
        .map(Into::into)
        .into_iter()
}

#[expect(clippy::print_stderr, reason = "the worker that would tell it does not hear us")]
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
    // Standard input is the socket. Its copy stands at 3 or above, so 3 is taken from now on by something that closes
    // on exec: the pipe by which the standard library hears of a failed exec cannot get the number of the events.
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), EVENTS_FD)?;
    // What the worker inherited without the flag, such as the lock of the script that started it, ends here as well.
    close_fds::set_fds_cloexec_threadsafe(EVENTS_FD, &[]);
    Ok(UnixStream::from(socket))
}

/// Does what the worker asks for. From the moment that pipes came there is a worker, and it learns what goes wrong.
fn launch(worker: &UnixStream) -> io::Result<()> {
    let Some(pipes) = receive_pipes(worker)? else { return Ok(()) };
    let received = receive_launch(worker);
    let supervised = received.and_then(|received| match received {
        Some((launch, orders)) => supervise(worker, orders, launch, pipes),
        None => Ok(()),
    });
    if let Err(error) = supervised {
        let why = format!("the launcher of the command failed: {error}");
        send(worker, &Report::refused(why, &error));
    }
    Ok(())
}

/// Nothing is received from a worker that is gone already.
fn receive_launch(worker: &UnixStream) -> io::Result<Option<(Launch, BufReader<UnixStream>)>> {
    let mut orders = BufReader::new(worker.try_clone()?);
    let mut line = Vec::new();
    orders.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Ok(None);
    }
    // Whoever waits for the end of the worker's output is not to wait for us.
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(Some((serde_json::from_slice(&line)?, orders)))
}

fn receive_pipes(worker: &UnixStream) -> io::Result<Option<Pipes<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Pipes::<()>::COUNT))];
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
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let pipes = Pipes::from_iter(descriptors).filter(|_| byte == [HANDOVER]);
    pipes.map(Some).ok_or_else(|| io::Error::other("the worker sent no pipes"))
}

/// Starts the command and sees to it that nothing of it is left in the end.
fn supervise(
    worker: &UnixStream,
    orders: BufReader<UnixStream>,
    launch: Launch,
    pipes: Pipes<OwnedFd>,
) -> io::Result<()> {
    // By its number the worker finds what we leave behind if we are killed. It also keeps away a Ctrl-C that is meant for
    // the worker, and the terminal: a command that asks it for a password fails, and does not wait for an answer.
    rustix::process::setsid()?;
    // Whatever loses its parent among our descendants becomes our child, also if it left the group.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let (tell, news) = mpsc::channel();
    let of_orders = tell.clone();
    // Threads first: one that could not be started later would leave the command without us.
    thread::Builder::new().spawn(move || hear_orders(orders, &of_orders))?;
    // Before anything can run: a command that kills its launcher at once has still run.
    send(worker, &Report::Starting);
    thread::Builder::new().spawn(move || family::watch(start(launch, pipes), &tell))?;
    let report = Family::default().attend(&news);
    send(worker, &report);
    Ok(())
}

fn hear_orders(orders: BufReader<UnixStream>, tell: &mpsc::Sender<Event>) {
    let orders = orders.bytes().map_while(Result::ok).map(Order::from_byte);
    // The end of the socket is the end of the worker's interest.
    for order in orders.chain([Order::Stop]) {
        // Nobody listens any more when the end was reported.
        let _ = tell.send(Event::Ordered(order));
    }
}

fn send(mut worker: &UnixStream, report: &Report) {
    let mut line = serde_json::to_vec(report).expect("a report is plain data");
    line.push(b'\n');
    // A worker that is gone has no use for it.
    let _ = worker.write_all(&line);
}

/// Starts the command as the leader of a group of its own, which carries its number.
fn start(launch: Launch, pipes: Pipes<OwnedFd>) -> Result<Pid, Report> {
    let Launch { program, arguments, directory, writable, environment, open_files } = launch;
    let failed = |error: io::Error| {
        let reason = explain(&error, &directory);
        Report::refused(format!("cannot start {}: {reason}", program.display()), &error)
    };
    if writable {
        directories::check_writable(directory.as_ref()).map_err(|refused| {
            let place = directory.display();
            let why =
                format!("its working directory {place} cannot be written to any more: {refused}");
            Report::refused(why, &refused.into())
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
    command.stdin(Stdio::from(pipes.stdin)).stdout(pipes.stdout).stderr(pipes.stderr);
    let events = FdMapping { parent_fd: pipes.events, child_fd: EVENTS_FD };
    command.fd_mappings(vec![events]).map_err(|error| failed(io::Error::other(error)))?;
    let child = command.process_group(0).spawn().map_err(failed)?;
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let no_number = "the system gave the command no number".to_owned();
    number.ok_or(Report::NotStarted { why: no_number, code: None })
}

/// "No such file" can mean three files.
fn explain(error: &io::Error, directory: &std::ffi::OsStr) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    if !std::path::Path::new(directory).is_dir() {
        return format!("its working directory {} is not there", directory.display());
    }
    format!("{error}; the program is not there, or the interpreter that its first line names")
}
