//! A command and everything it started: watched, told to end, and counted as gone only when all of it is gone.

use std::collections::HashSet;
use std::fs;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpgid, kill_process, kill_process_group, wait,
};

use crate::process::protocol::{End, How, Order, Report};

/// From TERM to KILL: time to write down what was reached, well within the worker's own time_limit of six seconds.
const GRACE: Duration = Duration::from_secs(5);
/// How long the killed may take to be gone. Only a process that hangs in the kernel needs longer.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// The system's list of our children may lack some while others end: then nobody's end would make us look again.
const NEXT_LOOK: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The command was started, as the leader of the group of that number, or why not.
    Started(Result<Pid, Report>),
    /// The worker wants something.
    Ordered(Order),
    /// A child ended: the command, or one that was adopted.
    Ended(Pid, WaitStatus),
    /// No descendant is left.
    Gone,
}

/// Tells of the start, then of every child's end, until there is none.
pub(super) fn watch(started: Result<Pid, Report>, tell: &Sender<Event>) {
    let is_running = started.is_ok();
    // Nobody listens any more once the family was given up; nor does it matter then.
    let _ = tell.send(Event::Started(started));
    if is_running {
        watch_children(tell);
    }
}

fn watch_children(tell: &Sender<Event>) {
    loop {
        let news = match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) => Event::Ended(child, status),
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_no_child) => break,
        };
        let _ = tell.send(news);
    }
    let _ = tell.send(Event::Gone);
}

/// What is known of the family.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// The number of the command and of its group.
    command: Option<Pid>,
    end: Option<End>,
    stopping: Stopping,
    /// Runaways that were asked to end; some programs take a second TERM for impatience.
    asked: HashSet<Pid>,
}

/// How far we are in ending it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    #[default]
    No,
    /// TERM was sent; KILL follows at that time.
    Asked(Instant),
    /// KILL was sent; at that time we give up.
    Killed(Instant),
}

impl Family {
    /// Attends to the family until it is gone.
    pub(super) fn attend(mut self, news: &Receiver<Event>) -> Report {
        loop {
            match self.next(news) {
                Some(Event::Started(Ok(command))) => self.begin(command),
                Some(Event::Started(Err(refused))) => return refused,
                Some(Event::Ordered(Order::Stop)) => self.stop(),
                Some(Event::Ordered(Order::Kill)) => self.kill(),
                Some(Event::Ended(child, status)) => self.note(child, status),
                Some(Event::Gone) => return self.report(),
                None if self.is_hopeless() => return self.report(),
                None => self.kill(),
            }
        }
    }

    /// `None` when it is time for the next step.
    fn next(&self, news: &Receiver<Event>) -> Option<Event> {
        let wait = match self.stopping {
            Stopping::No => return news.recv().ok(),
            Stopping::Asked(until) => until.saturating_duration_since(Instant::now()),
            Stopping::Killed(_) => NEXT_LOOK,
        };
        news.recv_timeout(wait).ok()
    }

    fn is_hopeless(&self) -> bool {
        matches!(self.stopping, Stopping::Killed(until) if until <= Instant::now())
    }

    /// The order to end it may have come before it began.
    fn begin(&mut self, command: Pid) {
        self.command = Some(command);
        match self.stopping {
            Stopping::No => {}
            Stopping::Asked(_) => self.signal_group(Signal::TERM),
            Stopping::Killed(_) => self.kill(),
        }
    }

    fn stop(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Asked(Instant::now() + GRACE);
            self.signal_group(Signal::TERM);
        }
    }

    fn kill(&mut self) {
        if !matches!(self.stopping, Stopping::Killed(_)) {
            self.stopping = Stopping::Killed(Instant::now() + LAST_WAIT);
        }
        self.signal_group(Signal::KILL);
        // Those that left the group and lost their parents are ours by now; others will be, one end later.
        for child in children() {
            let _already_gone = kill_process(child, Signal::KILL);
        }
    }

    fn note(&mut self, child: Pid, status: WaitStatus) {
        if Some(child) == self.command && self.end.is_none() {
            self.end = Some(End { how: how(status), stopped: self.stopping != Stopping::No });
        }
        match self.stopping {
            // When the command itself has ended, it left nothing behind that could still matter.
            Stopping::No if self.end.is_some() => self.kill(),
            // An end may have handed us children that know of nothing yet.
            Stopping::Killed(_) => self.kill(),
            // Those that are left keep the rest of the grace.
            Stopping::Asked(_) => self.ask_runaways(),
            Stopping::No => {}
        }
    }

    /// Those that left the group hear of the end when they have become ours.
    fn ask_runaways(&mut self) {
        for child in children() {
            let is_runaway = getpgid(Some(child)).is_ok_and(|group| Some(group) != self.command);
            if is_runaway && self.asked.insert(child) {
                let _already_gone = kill_process(child, Signal::TERM);
            }
        }
    }

    /// A group without members has no number that we may use: but then it refuses, for numbers are not used again before
    /// all others were.
    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.command {
            let _already_gone = kill_process_group(group, signal);
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

/// Our children, the adopted ones too.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| list.split_whitespace().map(str::parse).collect::<Vec<_>>();
    lists.flat_map(numbers).flatten().filter_map(Pid::from_raw).collect()
}
