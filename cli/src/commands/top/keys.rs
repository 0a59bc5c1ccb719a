//! What a key means.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::Action;
use super::model::{Mode, Model, PANES, Pane};

/// What is to be done outside the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    /// Counts the jobs, then asks.
    Count(Action),
    /// Does it to this many jobs.
    Act(Action, u64),
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
        Mode::Confirm(action, count) => {
            let effect = Effect::Act(action.clone(), *count);
            model.mode = Mode::Browse;
            if key.code == KeyCode::Char('y') { effect } else { Effect::None }
        }
    }
}

fn browse(model: &mut Model, code: KeyCode) -> Effect {
    model.message.clear();
    match code {
        KeyCode::Char('q') => return Effect::Quit,
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Esc => model.filter.clear(),
        KeyCode::Tab | KeyCode::Right => model.next_pane(1),
        KeyCode::BackTab | KeyCode::Left => model.next_pane(PANES.len() - 1),
        KeyCode::Down | KeyCode::Char('j') => model.select(1),
        KeyCode::Up | KeyCode::Char('k') => model.select(-1),
        KeyCode::PageDown => model.select(10),
        KeyCode::PageUp => model.select(-10),
        KeyCode::Char('r') => return redrive(model).map_or(Effect::None, Effect::Count),
        KeyCode::Char('c') => return cancel(model).map_or(Effect::None, Effect::Count),
        KeyCode::Char('p') => {
            return pause(model).map_or(Effect::None, |action| Effect::Act(action, 1));
        }
        KeyCode::Char(digit @ '1'..='4') => {
            let at = digit.to_digit(10).map_or(0, |digit| digit as usize - 1);
            model.pane = PANES[at];
        }
        _ => {}
    }
    Effect::None
}

fn edit(model: &mut Model, code: KeyCode) {
    match code {
        KeyCode::Enter => model.mode = Mode::Browse,
        KeyCode::Esc => {
            model.filter.clear();
            model.mode = Mode::Browse;
        }
        KeyCode::Backspace => drop(model.filter.pop()),
        KeyCode::Char(char) => model.filter.push(char),
        _ => {}
    }
}

fn redrive(model: &mut Model) -> Option<Action> {
    match model.pane {
        Pane::Queues => {
            let queue = model.queues().get(model.selected(Pane::Queues))?.name.clone();
            Some(Action::RedriveQueue(queue))
        }
        Pane::Errors => {
            let id = model.errors().get(model.selected(Pane::Errors))?.id.clone();
            Some(Action::RedriveError(id))
        }
        Pane::Running | Pane::Workers => {
            explain(model, "select a queue or an error to run its failed jobs again")
        }
    }
}

fn cancel(model: &mut Model) -> Option<Action> {
    if model.pane != Pane::Running {
        return explain(model, "select a running job to cancel it");
    }
    let id = model.running().get(model.selected(Pane::Running))?.id.clone();
    Some(Action::Cancel(id))
}

fn pause(model: &mut Model) -> Option<Action> {
    if model.pane != Pane::Queues {
        return explain(model, "select a queue to pause or resume it");
    }
    let queue = *model.queues().get(model.selected(Pane::Queues))?;
    let name = queue.name.clone();
    Some(if queue.paused { Action::Resume(name) } else { Action::Pause(name) })
}

fn explain(model: &mut Model, text: &str) -> Option<Action> {
    text.clone_into(&mut model.message);
    None
}
