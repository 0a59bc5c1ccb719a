//! What is shown: the last state of the API, what is selected, and what the user was asked.

use std::time::Instant;

use super::action::Action;
use crate::documents::{ErrorGroup, Job, Queue, Worker};

/// What the API answered.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) queues: Vec<Queue>,
    pub(super) running: Vec<Job>,
    pub(super) workers: Vec<Worker>,
    pub(super) errors: Vec<ErrorGroup>,
}

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Queues,
    Running,
    Workers,
    Errors,
}

pub(super) const PANES: [Pane; 4] = [Pane::Queues, Pane::Running, Pane::Workers, Pane::Errors];

/// What keys do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// They are the text of the filter.
    Filter,
    Help,
    /// `y` does it.
    Confirm(Action, u64),
}

/// A message of another thread.
#[derive(Debug)]
pub(super) enum Update {
    Snapshot(Box<Snapshot>),
    /// The API did not answer.
    Away(String),
    Counted(Action, u64),
    /// An action has ended, well or not.
    Done(String),
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: String,
    pub(super) snapshot: Snapshot,
    pub(super) pane: Pane,
    /// The selected row of each pane.
    selected: [usize; 4],
    /// Only rows that contain it.
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) message: String,
    /// Since when the API does not answer, and why.
    pub(super) away: Option<(Instant, String)>,
    pub(super) has_data: bool,
}

impl Model {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            snapshot: Snapshot::default(),
            pane: Pane::Queues,
            selected: [0; 4],
            filter: String::new(),
            mode: Mode::Browse,
            message: String::new(),
            away: None,
            has_data: false,
        }
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Snapshot(snapshot) => {
                self.snapshot = *snapshot;
                (self.away, self.has_data) = (None, true);
            }
            Update::Away(cause) => {
                let since = self.away.take().map_or_else(Instant::now, |(since, _)| since);
                self.away = Some((since, cause));
            }
            Update::Counted(action, count) if matches!(self.mode, Mode::Browse) => {
                self.mode = Mode::Confirm(action, count);
            }
            // The next key is meant for something else by now: it must not confirm this.
            Update::Counted(..) => {}
            Update::Done(message) => self.message = message,
        }
    }

    fn shows(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    /// Those in which anything happens come first.
    pub(super) fn queues(&self) -> Vec<&Queue> {
        let shown = |queue: &&Queue| self.shows(&[&queue.name]);
        let mut queues: Vec<_> = self.snapshot.queues.iter().filter(shown).collect();
        queues.sort_by_key(|queue| queue.counts.total() == 0);
        queues
    }

    pub(super) fn running(&self) -> Vec<&Job> {
        let shown = |job: &&Job| self.shows(&[&job.id, &job.task, &job.queue]);
        self.snapshot.running.iter().filter(shown).collect()
    }

    pub(super) fn workers(&self) -> Vec<&Worker> {
        let shown = |worker: &&Worker| {
            self.shows(&[&worker.host, &worker.tasks.join(" "), &worker.queues.join(" ")])
        };
        self.snapshot.workers.iter().filter(shown).collect()
    }

    pub(super) fn errors(&self) -> Vec<&ErrorGroup> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let shown = |group: &&ErrorGroup| {
            let (task, queue) = (text(&group.task), text(&group.queue));
            self.shows(&[&group.id, &task, &queue, &group.error.code, &group.error.message])
        };
        self.snapshot.errors.iter().filter(shown).collect()
    }

    fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Queues => self.queues().len(),
            Pane::Running => self.running().len(),
            Pane::Workers => self.workers().len(),
            Pane::Errors => self.errors().len(),
        }
    }

    /// The selected row of a pane; the last one if there are fewer.
    pub(super) fn selected(&self, pane: Pane) -> usize {
        self.selected[pane as usize].min(self.rows(pane).saturating_sub(1))
    }

    pub(super) fn select(&mut self, step: isize) {
        let last = self.rows(self.pane).saturating_sub(1);
        let row = self.selected(self.pane).saturating_add_signed(step);
        self.selected[self.pane as usize] = row.min(last);
    }

    pub(super) fn next_pane(&mut self, step: usize) {
        self.pane = PANES[(self.pane as usize + step) % PANES.len()];
    }
}
