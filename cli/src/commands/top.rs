//! `top`: what happens now, and what to do about it.
//!
//! One thread reads the API, one draws and reads keys, and each action has one of its own: so an API that is away, or an
//! action on a hundred thousand jobs, never stops the keys.

mod action;
mod keys;
mod model;
mod poller;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::action::Action;
use self::keys::Effect;
use self::model::{Model, Update};
use super::Session;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Exit;

/// How soon a new state is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// An API that is frozen is shown as away after this long.
const POLL_LIMIT: Duration = Duration::from_secs(5);
/// The API ends each step of an action after five seconds.
const ACTION_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Error> {
    if session.output.json || !(stdin().is_terminal() && stdout().is_terminal()) {
        return Err(Error::usage(
            "top needs a terminal",
            "use crunch queues, workers, errors or jobs --status running, with --json",
        ));
    }
    let target = session.client.target.clone();
    let poller = Client::new(target.clone(), Duration::ZERO)?.impatient(POLL_LIMIT);
    let client = Arc::new(Client::new(target, Duration::ZERO)?.impatient(ACTION_LIMIT));
    // A wrong key or address is reported before the screen is taken.
    client.send(&crate::client::Request::get(&["queues"]).query("limit", &1)).map(drop).or_else(
        |error| match error {
            Error::Away { .. } => Ok(()),
            Error::Problem(problem) if problem.status >= 500 => Ok(()),
            other => Err(other),
        },
    )?;
    let mut terminal = ratatui::try_init()?;
    let outcome = watch(&client, poller, &mut terminal);
    ratatui::try_restore()?;
    outcome.map(|()| Exit::Done)
}

fn watch(
    client: &Arc<Client>,
    poller: Client,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Error> {
    let (updates, receiver) = channel();
    let in_use = poller::start(poller, updates.clone());
    let mut model = Model::new(&client.target.url);
    loop {
        let pane = model.pane;
        terminal.draw(|frame| view::draw(frame, &model))?;
        if event::poll(FRAME)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            match keys::press(&mut model, key) {
                Effect::None => {}
                Effect::Quit => return Ok(()),
                Effect::Count(action) => {
                    spawn(client, &updates, move |client| count(action, client))
                }
                Effect::Act(action, counted) => {
                    spawn(client, &updates, move |client| outcome(action.execute(client, counted)));
                }
            }
        }
        if model.pane != pane {
            // The poller ends only with the program.
            let _ = in_use.send(model.pane);
        }
        for update in receiver.try_iter() {
            if matches!(update, Update::Done(_)) {
                // Its effect is shown next.
                let _ = in_use.send(model.pane);
            }
            model.update(update);
        }
    }
}

/// Runs something in a thread of its own, and sends what came of it.
fn spawn(
    client: &Arc<Client>,
    updates: &Sender<Update>,
    act: impl FnOnce(&Client) -> Update + Send + 'static,
) {
    let (client, updates) = (Arc::clone(client), updates.clone());
    std::thread::spawn(move || {
        // Nobody listens any more when the program ends.
        let _ = updates.send(act(&client));
    });
}

fn count(action: Action, client: &Client) -> Update {
    let counted = action.count(client).map_err(|error| described(&error));
    Update::Counted(action, counted)
}

fn outcome(done: Result<String, Error>) -> Update {
    Update::Done(done.unwrap_or_else(|error| described(&error)))
}

fn described(error: &Error) -> String {
    format!("{error}; {}", error.remedy())
}

#[cfg(test)]
mod tests;
