//! What a key means.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Counted};
use super::model::{Mode, Model, PANES, Pane};

/// What is to be done outside the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    /// Counts the jobs, then asks.
    Count(Action),
    /// Does it to these jobs.
    Act(Action, Counted),
}

pub(super) fn press(model: &mut Model, key: KeyEvent) -> Effect {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Effect::Quit;
    }
    match &model.mode {
        Mode::Browse => browse(model, key.code),
        Mode::Filter => {
            edit(model, key.code);
            Effect::None
        }
        Mode::Help => {
            model.mode = Mode::Browse;
            Effect::None
        }
        Mode::Confirm(action, counted) => {
            let effect = Effect::Act(action.clone(), *counted);
            model.mode = Mode::Browse;
            if key.code == KeyCode::Char('y') { effect } else { Effect::None }
        }
    }
}

fn browse(model: &mut Model, code: KeyCode) -> Effect {
    model.message.clear();
    model.pending = None;
    match code {
        KeyCode::Char('q') => return Effect::Quit,
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Esc => filter(model, String::new()),
        KeyCode::Tab | KeyCode::Right => model.next_pane(1),
        KeyCode::BackTab | KeyCode::Left => model.next_pane(PANES.len() - 1),
        KeyCode::Down | KeyCode::Char('j') => model.select(1),
        KeyCode::Up | KeyCode::Char('k') => model.select(-1),
        KeyCode::PageDown => model.select(10),
        KeyCode::PageUp => model.select(-10),
        KeyCode::Char('r') => return ask(redrive(model), model),
        KeyCode::Char('c') => return ask(cancel(model), model),
        KeyCode::Char('p') => {
            return pause(model).map_or(Effect::None, |it| Effect::Act(it, Counted::ONE));
        }
        KeyCode::Char(digit @ '1'..='4') => {
            let at = digit.to_digit(10).map_or(0, |digit| digit as usize - 1);
            model.pane = PANES[at];
        }
        _ => {}
    }
    Effect::None
}

/// The jobs of an action are counted before the question.
fn ask(action: Option<Action>, model: &mut Model) -> Effect {
    model.pending.clone_from(&action);
    action.map_or(Effect::None, Effect::Count)
}

fn edit(model: &mut Model, code: KeyCode) {
    let mut text = model.filter.clone();
    match code {
        KeyCode::Enter => model.mode = Mode::Browse,
        KeyCode::Esc => {
            text.clear();
            model.mode = Mode::Browse;
        }
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(char) => text.push(char),
        _ => {}
    }
    filter(model, text);
}

fn filter(model: &mut Model, text: String) {
    model.filter = text;
    model.select_shown();
}

fn redrive(model: &mut Model) -> Option<Action> {
    match model.pane {
        Pane::Queues => selected(model).map(Action::RedriveQueue),
        Pane::Errors => selected(model).map(Action::RedriveError),
        Pane::Running | Pane::Workers => {
            explain(model, "select a queue or an error to run its failed jobs again")
        }
    }
}

fn cancel(model: &mut Model) -> Option<Action> {
    if model.pane != Pane::Running {
        return explain(model, "select a running job to cancel it");
    }
    selected(model).map(Action::Cancel)
}

fn pause(model: &mut Model) -> Option<Action> {
    if model.pane != Pane::Queues {
        return explain(model, "select a queue to pause or resume it");
    }
    let name = selected(model)?;
    let is_paused = model.queues().iter().any(|queue| queue.name == name && queue.paused);
    Some(if is_paused { Action::Resume(name) } else { Action::Pause(name) })
}

/// The name or id of what is selected.
fn selected(model: &mut Model) -> Option<String> {
    let id = model.selected_id(model.pane).map(str::to_owned);
    if id.is_none() {
        explain(model, "nothing is selected: what was is gone");
    }
    id
}

fn explain(model: &mut Model, text: &str) -> Option<Action> {
    text.clone_into(&mut model.message);
    None
}
