//! What is shown: the last state of the API, what is selected, and what the user was asked.

use std::time::Instant;

use super::action::{Action, Counted};
use crate::documents::{ErrorGroup, Job, Queue, Worker};

/// What the API answered last.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) queues: Vec<Queue>,
    pub(super) running: Vec<Job>,
    pub(super) workers: Vec<Worker>,
    pub(super) errors: Vec<ErrorGroup>,
}

/// The new rows of one pane.
#[derive(Debug)]
pub(super) enum Rows {
    Queues(Vec<Queue>),
    Running(Vec<Job>),
    Workers(Vec<Worker>),
    Errors(Vec<ErrorGroup>),
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

/// What is selected in a pane: a queue, job, worker or error, wherever it moves to, and never another one that takes its row.
#[derive(Debug, Clone, Default)]
struct Selection {
    /// Its name or id; `None` before there were rows.
    id: Option<String>,
    /// Its row when it was seen last.
    row: usize,
}

/// What keys do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// They are the text of the filter.
    Filter,
    Help,
    /// `y` does it.
    Confirm(Action, Counted),
}

/// A message of another thread.
#[derive(Debug)]
pub(super) enum Update {
    Rows(Rows),
    /// The API did not answer.
    Away(String),
    /// The jobs of an action, or why they cannot be counted.
    Counted(Action, Result<Counted, String>),
    /// An action has ended, well or not.
    Done(String),
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: String,
    pub(super) snapshot: Snapshot,
    pub(super) pane: Pane,
    selections: [Selection; 4],
    /// Only rows that contain it.
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The action whose jobs are counted; a key that is pressed meanwhile withdraws it.
    pub(super) pending: Option<Action>,
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
            selections: Default::default(),
            filter: String::new(),
            mode: Mode::Browse,
            pending: None,
            message: String::new(),
            away: None,
            has_data: false,
        }
    }

    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Rows(rows) => {
                self.show(rows);
                (self.away, self.has_data) = (None, true);
            }
            Update::Away(cause) => {
                let since = self.away.take().map_or_else(Instant::now, |(since, _)| since);
                self.away = Some((since, cause));
            }
            // Only for what was asked last: the next key is meant for something else otherwise, and must not confirm this.
            Update::Counted(action, counted) => {
                if self.pending.take_if(|pending| *pending == action).is_some() {
                    self.ask(action, counted);
                }
            }
            Update::Done(message) => self.message = message,
        }
    }

    fn ask(&mut self, action: Action, counted: Result<Counted, String>) {
        match counted {
            Ok(Counted { jobs: 0, .. }) => "no failed jobs".clone_into(&mut self.message),
            Ok(counted) => self.mode = Mode::Confirm(action, counted),
            Err(message) => self.message = message,
        }
    }

    fn show(&mut self, rows: Rows) {
        let pane = match rows {
            Rows::Queues(rows) => {
                self.snapshot.queues = rows;
                Pane::Queues
            }
            Rows::Running(rows) => {
                self.snapshot.running = rows;
                Pane::Running
            }
            Rows::Workers(rows) => {
                self.snapshot.workers = rows;
                Pane::Workers
            }
            Rows::Errors(rows) => {
                self.snapshot.errors = rows;
                Pane::Errors
            }
        };
        match self.selected(pane) {
            Some(row) => self.selections[pane as usize].row = row,
            // What was selected is gone: nothing is, until the user selects something else.
            None if self.selections[pane as usize].id.is_some() => {}
            None => self.select_row(pane, 0),
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

    /// What identifies the rows of a pane.
    fn ids(&self, pane: Pane) -> Vec<&str> {
        match pane {
            Pane::Queues => self.queues().into_iter().map(|it| it.name.as_str()).collect(),
            Pane::Running => self.running().into_iter().map(|it| it.id.as_str()).collect(),
            Pane::Workers => self.workers().into_iter().map(|it| it.id.as_str()).collect(),
            Pane::Errors => self.errors().into_iter().map(|it| it.id.as_str()).collect(),
        }
    }

    /// The row of what is selected; `None` if nothing is, or it is not shown any more.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let id = self.selections[pane as usize].id.as_deref()?;
        self.ids(pane).iter().position(|known| *known == id)
    }

    /// The name or id of what is selected and shown.
    pub(super) fn selected_id(&self, pane: Pane) -> Option<&str> {
        let id = self.selections[pane as usize].id.as_deref()?;
        self.selected(pane).map(|_| id)
    }

    fn select_row(&mut self, pane: Pane, row: usize) {
        let ids = self.ids(pane);
        let row = row.min(ids.len().saturating_sub(1));
        let id = ids.get(row).map(|id| (*id).to_owned());
        self.selections[pane as usize] = Selection { id, row };
    }

    /// Selects another row. If what was selected is gone, it begins with the row that has taken its place.
    pub(super) fn select(&mut self, step: isize) {
        let row = match self.selected(self.pane) {
            Some(row) => row.saturating_add_signed(step),
            None => self.selections[self.pane as usize].row,
        };
        self.select_row(self.pane, row);
    }

    /// Selects something in every pane, after the user has changed the filter.
    pub(super) fn select_shown(&mut self) {
        for pane in PANES {
            if self.selected(pane).is_none() {
                self.select_row(pane, 0);
            }
        }
    }

    pub(super) fn next_pane(&mut self, step: usize) {
        self.pane = PANES[(self.pane as usize + step) % PANES.len()];
    }
}
