//! What is drawn, and what keys do: without a terminal and without an API.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::action::{Action, Counted};
use super::keys::{Effect, press};
use super::model::{Mode, Model, Pane, Rows, Snapshot, Update};
use super::view;
use crate::clock;

fn document<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn queue(name: &str, paused: bool, (queued, failed, workers): (u64, u64, u64)) -> Value {
    json!({ "name": name, "paused": paused, "finished_last_minute": 3, "workers": workers,
        "oldest_age_ms": 90_000, "counts": { "queued": queued, "scheduled": 0, "retrying": 0,
        "running": 1, "failed": failed } })
}

fn snapshot() -> Snapshot {
    let ago = |seconds: u64| (clock::now() - Duration::from_secs(seconds)).to_string();
    Snapshot {
        queues: document(json!([
            queue("images", false, (120, 0, 2)),
            queue("mail", true, (7, 3, 1)),
            queue("orphans", false, (1, 0, 0)),
        ])),
        running: document(json!([{
            "id": "01a20c36-14f1-8000-8f8f-f34074aa25aa", "task": "image.thumbnail", "queue": "images",
            "priority": "normal", "status": "running", "progress": 0.4, "progress_message": "\u{1b}[31mred",
            "worker": null, "attempt": 1, "max_attempts": 3, "created_at": ago(9), "run_at": null,
            "started_at": ago(8), "finished_at": null, "expires_at": null, "payload_size": 1,
            "result_size": null, "error": null, "error_group": null, "waiting_for": null }])),
        workers: document(json!([{
            "id": "w", "kind": "worker", "host": "node-1", "pid": 4242, "version": "0.1.0",
            "tasks": ["image.thumbnail"], "queues": ["images"], "slots": 4, "busy": 1,
            "started_at": ago(9), "seen_at": ago(1) }])),
        errors: document(json!([{
            "id": "0123456789abcdef", "queue": "mail", "task": "mail.send",
            "error": { "code": "task_failed", "message": "connection refused" },
            "first_at": ago(99), "last_at": ago(30), "failures": 9, "failed_jobs": 3 }])),
    }
}

fn model() -> Model {
    let mut model = Model::new("http://127.0.0.1:8080");
    show(&mut model, snapshot());
    model
}

/// As the poller sends it.
fn show(model: &mut Model, Snapshot { queues, running, workers, errors }: Snapshot) {
    for rows in
        [Rows::Queues(queues), Rows::Running(running), Rows::Workers(workers), Rows::Errors(errors)]
    {
        model.update(Update::Rows(rows));
    }
}

/// The screen as text.
fn drawn(model: &Model, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

fn keys(model: &mut Model, text: &str) -> Effect {
    let press = |model: &mut Model, char| {
        press(model, KeyEvent::new(KeyCode::Char(char), KeyModifiers::NONE))
    };
    text.chars().fold(Effect::None, |_, char| press(model, char))
}

#[test]
fn four_panes_show_what_happens() {
    insta::assert_snapshot!(drawn(&model(), (110, 16)));
}

#[test]
fn a_narrow_terminal_shows_one_pane() {
    insta::assert_snapshot!(drawn(&model(), (60, 12)));
}

#[test]
fn an_outage_is_shown_beside_the_last_state() {
    let mut model = model();
    model.update(Update::Away("connection refused".to_owned()));
    let since = model.away.as_ref().unwrap().0;
    model.update(Update::Away("still".to_owned()));
    assert_eq!(model.away.as_ref().unwrap().0, since, "it counts from its beginning");
    model.away = Some((Instant::now(), "connection refused".to_owned()));
    let screen = drawn(&model, (110, 16));
    assert!(
        screen.contains("images")
            && screen.contains("away for 0s, trying again: connection refused")
    );
    show(&mut model, snapshot());
    assert!(!drawn(&model, (110, 16)).contains("away"));
}

#[test]
fn failed_jobs_run_again_after_a_question_with_their_number() {
    let mut model = model();
    let mail = Action::RedriveQueue("mail".to_owned());
    let counted = Counted { jobs: 1204, before: Some(clock::now()) };
    assert_eq!(keys(&mut model, "jr"), Effect::Count(mail.clone()));
    assert!(drawn(&model, (110, 16)).contains("counting the jobs"));
    model.update(Update::Counted(mail.clone(), Ok(counted)));
    assert!(drawn(&model, (110, 16)).contains("Run 1204 jobs of mail again? y/N"));
    assert_eq!(keys(&mut model, "n"), Effect::None);
    assert_eq!(model.mode, Mode::Browse);
    keys(&mut model, "r");
    model.update(Update::Counted(mail.clone(), Ok(counted)));
    assert_eq!(keys(&mut model, "y"), Effect::Act(mail.clone(), counted));
    for (counted, message) in [
        (Ok(Counted { jobs: 0, before: None }), "no failed jobs"),
        (Err("no right".to_owned()), "no right"),
    ] {
        keys(&mut model, "r");
        model.update(Update::Counted(mail.clone(), counted));
        assert!(drawn(&model, (110, 16)).contains(message) && model.mode == Mode::Browse);
    }
}

#[test]
fn a_question_that_comes_after_another_key_is_not_asked() {
    let mut model = model();
    let mail = Action::RedriveQueue("mail".to_owned());
    let counted = Ok(Counted { jobs: 3, before: None });
    keys(&mut model, "jrj");
    model.update(Update::Counted(mail.clone(), counted.clone()));
    assert_eq!(model.mode, Mode::Browse);
    assert_eq!(keys(&mut model, "y"), Effect::None);
    // Of two, the last one is asked.
    keys(&mut model, "r");
    model.update(Update::Counted(mail, counted.clone()));
    assert_eq!(model.mode, Mode::Browse);
    model.update(Update::Counted(Action::RedriveQueue("orphans".to_owned()), counted));
    assert!(drawn(&model, (110, 16)).contains("Run 3 jobs of orphans again?"));
}

#[test]
fn what_is_selected_stays_selected_wherever_it_moves_to() {
    let mut model = model();
    let queues = |names: &[&str]| {
        let all = names.iter().map(|name| queue(name, false, (1, 1, 1)));
        Update::Rows(Rows::Queues(document(Value::Array(all.collect()))))
    };
    keys(&mut model, "j");
    model.update(queues(&["a", "images", "mail", "orphans"]));
    assert_eq!(model.selected(Pane::Queues), Some(2));
    assert_eq!(keys(&mut model, "r"), Effect::Count(Action::RedriveQueue("mail".to_owned())));
    // Its row is another queue's now: no key acts on that one until it is selected.
    model.update(queues(&["a", "images", "orphans"]));
    assert_eq!(model.selected(Pane::Queues), None);
    for key in ["p", "r"] {
        assert_eq!(keys(&mut model, key), Effect::None, "{key}");
        assert!(drawn(&model, (110, 16)).contains("nothing is selected"), "{key}");
    }
    model.update(queues(&["a", "images", "mail", "orphans"]));
    assert_eq!(model.selected(Pane::Queues), Some(2), "it is back");
    model.update(queues(&["a", "images", "orphans"]));
    keys(&mut model, "j");
    assert_eq!(model.selected(Pane::Queues), Some(2), "the row that took its place");
    assert_eq!(
        keys(&mut model, "p"),
        Effect::Act(Action::Pause("orphans".to_owned()), Counted::ONE)
    );
}

#[test]
fn keys_act_on_the_selected_row_of_the_pane() {
    let mut model = model();
    assert_eq!(
        keys(&mut model, "jp"),
        Effect::Act(Action::Resume("mail".to_owned()), Counted::ONE)
    );
    assert_eq!(
        keys(&mut model, "kp"),
        Effect::Act(Action::Pause("images".to_owned()), Counted::ONE)
    );
    let id = "01a20c36-14f1-8000-8f8f-f34074aa25aa".to_owned();
    assert_eq!(keys(&mut model, "2c"), Effect::Count(Action::Cancel(id)));
    assert_eq!(
        keys(&mut model, "4r"),
        Effect::Count(Action::RedriveError("0123456789abcdef".to_owned()))
    );
    assert_eq!(keys(&mut model, "3r"), Effect::None);
    assert!(drawn(&model, (110, 16)).contains("select a queue or an error"));
    assert_eq!(keys(&mut model, "q"), Effect::Quit);
}

#[test]
fn a_filter_hides_other_rows_until_it_is_cleared() {
    let mut model = model();
    keys(&mut model, "/MAI");
    assert_eq!((model.queues().len(), model.running().len(), model.errors().len()), (1, 0, 1));
    press(&mut model, KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
    assert_eq!(keys(&mut model, "p"), Effect::Act(Action::Resume("mail".to_owned()), Counted::ONE));
    press(&mut model, KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
    assert_eq!(model.queues().len(), 3);
}

#[test]
fn a_selection_stays_within_what_there_is() {
    let mut model = model();
    keys(&mut model, "jjjjjj");
    assert_eq!(model.selected(Pane::Queues), Some(2));
    show(&mut model, Snapshot::default());
    assert_eq!(model.selected(Pane::Queues), None);
    assert_eq!(keys(&mut model, "p"), Effect::None);
    keys(&mut model, "?");
    assert!(drawn(&model, (110, 16)).contains("run the failed jobs"));
}
