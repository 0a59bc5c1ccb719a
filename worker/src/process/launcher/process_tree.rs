//! The process tree of a command: watched, terminated, and reported as ended only when no process of it is left.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpgid, kill_process, kill_process_group, wait,
};

use crate::process::children_of;
use crate::process::protocol::{End, How, Report, Request};

/// From TERM to KILL: time to save progress, well within the six seconds that the worker itself waits.
const GRACE: Duration = Duration::from_secs(5);
/// How long killed processes may take to end. Only a process that hangs in the kernel needs longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the children are listed again after KILL: the system's list may lack some while others end, and then no
/// further end would cause another listing.
const RELIST_INTERVAL: Duration = Duration::from_millis(20);

/// What can happen to a process tree.
#[derive(Debug)]
pub(super) enum Event {
    /// The command was started, as the leader of the process group with this id, or why not.
    Started(Result<Pid, Report>),
    /// The worker sent a request.
    Requested(Request),
    /// A child ended: the command, or an adopted process.
    Ended(Pid, WaitStatus),
    /// No descendant is left.
    NoneLeft,
}

/// Sends the start, then the end of every child, until no child is left.
pub(super) fn watch(started: Result<Pid, Report>, events: &Sender<Event>) {
    let is_running = started.is_ok();
    // The receiver is closed once the process tree was given up: then no event matters any more.
    let _ = events.send(Event::Started(started));
    if is_running {
        watch_children(events);
    }
}

fn watch_children(events: &Sender<Event>) {
    loop {
        let event = match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) => Event::Ended(child, status),
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_no_child) => break,
        };
        let _ = events.send(event);
    }
    let _ = events.send(Event::NoneLeft);
}

/// The state of a process tree.
#[derive(Debug, Default)]
pub(super) struct ProcessTree {
    /// The id of the command and of its process group.
    command: Option<Pid>,
    end: Option<End>,
    stopping: Stopping,
    /// Processes outside the group that got TERM; some programs exit without cleanup on a second one.
    terminated: HashSet<Pid>,
}

/// How far the shutdown of a process tree is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    #[default]
    No,
    /// TERM was sent; KILL follows at this time.
    Terminating(Instant),
    /// KILL was sent; the launcher gives up at this time.
    Killing(Instant),
}

impl ProcessTree {
    /// Handles events until no process is left, or the launcher gives up.
    pub(super) fn supervise(mut self, events: &Receiver<Event>) -> Report {
        loop {
            match self.next(events) {
                Some(Event::Started(Ok(command))) => self.record_start(command),
                Some(Event::Started(Err(refused))) => return refused,
                Some(Event::Requested(Request::Stop)) => self.stop(),
                Some(Event::Requested(Request::Kill)) => self.kill(),
                Some(Event::Ended(child, status)) => self.record_end(child, status),
                Some(Event::NoneLeft) => return self.report(),
                None if self.is_given_up() => return self.report(),
                None => self.kill(),
            }
        }
    }

    /// Returns the next event, or `None` when the time of the current step is over.
    fn next(&self, events: &Receiver<Event>) -> Option<Event> {
        let wait = match self.stopping {
            Stopping::No => return events.recv().ok(),
            Stopping::Terminating(until) => until.saturating_duration_since(Instant::now()),
            Stopping::Killing(_) => RELIST_INTERVAL,
        };
        events.recv_timeout(wait).ok()
    }

    fn is_given_up(&self) -> bool {
        matches!(self.stopping, Stopping::Killing(until) if until <= Instant::now())
    }

    /// The request to stop may have arrived before the start.
    fn record_start(&mut self, command: Pid) {
        self.command = Some(command);
        match self.stopping {
            Stopping::No => {}
            Stopping::Terminating(_) => self.signal_group(Signal::TERM),
            Stopping::Killing(_) => self.kill(),
        }
    }

    fn stop(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Terminating(Instant::now() + GRACE);
            self.signal_group(Signal::TERM);
        }
    }

    fn kill(&mut self) {
        if !matches!(self.stopping, Stopping::Killing(_)) {
            self.stopping = Stopping::Killing(Instant::now() + KILL_TIMEOUT);
        }
        self.signal_group(Signal::KILL);
        // Processes that left the group and lost their parents are our children by now; the others will be once their
        // parents have ended.
        for child in children() {
            let _already_ended = kill_process(child, Signal::KILL);
        }
    }

    fn record_end(&mut self, child: Pid, status: WaitStatus) {
        if Some(child) == self.command && self.end.is_none() {
            self.end = Some(End { how: how(status), stopped: self.stopping != Stopping::No });
        }
        match self.stopping {
            // Once the command itself has ended, the processes it left behind no longer matter.
            Stopping::No if self.end.is_some() => self.kill(),
            // The end of a process may have made its children ours; they got no signal yet.
            Stopping::Killing(_) => self.kill(),
            // The remaining processes keep the rest of the grace period.
            Stopping::Terminating(_) => self.terminate_runaways(),
            Stopping::No => {}
        }
    }

    /// Sends TERM to processes that left the group, once they have become our children.
    fn terminate_runaways(&mut self) {
        for child in children() {
            let is_runaway = getpgid(Some(child)).is_ok_and(|group| Some(group) != self.command);
            if is_runaway && self.terminated.insert(child) {
                let _already_ended = kill_process(child, Signal::TERM);
            }
        }
    }

    /// If the group has no members left, its id is no longer ours, but the call then fails: ids are not reused before
    /// all others were used.
    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.command {
            let _already_ended = kill_process_group(group, signal);
        }
    }

    fn report(&self) -> Report {
        let given_up = End { how: How::Killed(Signal::KILL.as_raw()), stopped: true };
        Report::Ended(self.end.unwrap_or(given_up))
    }
}

fn how(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Exited(code),
        (None, signal) => How::Killed(signal.unwrap_or_default()),
    }
}

/// Lists our children, including adopted ones.
fn children() -> impl Iterator<Item = Pid> {
    children_of("self").into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed()))
}
