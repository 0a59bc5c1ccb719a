//! Rules of a proxy for single commands and replies: drop them, hold them, count those that pass.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::Direction;
use crate::wait::in_time;

/// Selects commands and replies: those of one verb, optionally only those that contain certain bytes.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    verb: Option<String>,
    text: Option<Bytes>,
    skip: u64,
}

impl Filter {
    /// Selects all.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Selects those of a verb: of one of our functions (`exchange`), or the name of a command in lower case (`blpop`).
    #[must_use]
    pub fn verb(verb: &str) -> Self {
        Self { verb: Some(verb.to_owned()), ..Self::default() }
    }

    /// Only those that contain this text, in the frame itself or in the command it replies to.
    #[must_use]
    pub fn containing(self, text: &str) -> Self {
        Self { text: Some(Bytes::copy_from_slice(text.as_bytes())), ..self }
    }

    /// Skips the first `count` of them.
    #[must_use]
    pub fn skip_first(self, count: u64) -> Self {
        Self { skip: count, ..self }
    }

    fn selects(&self, request: &Request, frame: &[u8]) -> bool {
        let has_text = |text: &Bytes| contains(frame, text) || contains(&request.command, text);
        self.verb.as_ref().is_none_or(|verb| *verb == request.verb)
            && self.text.as_ref().is_none_or(has_text)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|window| window == part)
}

/// A command that was sent to Redis and has no reply yet.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) verb: String,
    pub(super) command: Bytes,
}

/// What the client sees when a command or a reply is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropMode {
    /// The connection is reset.
    Reset,
    /// Nothing more arrives on this connection.
    Silence,
}

/// What to do with one command or reply.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Pass,
    Drop(DropMode),
    Hold(Arc<Held>),
}

/// The state of a held command or reply.
#[derive(Debug)]
pub(super) struct Held {
    is_holding: watch::Sender<bool>,
    decision: watch::Sender<Option<Decision>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Release,
    Drop,
}

impl Held {
    /// Waits for the decision; called by the connection that holds the frame.
    pub(super) async fn wait(&self) -> Decision {
        self.is_holding.send_replace(true);
        let mut decision = self.decision.subscribe();
        // Does not fail: the sender is in this value.
        let decided = decision.wait_for(Option::is_some).await;
        decided.ok().and_then(|decision| *decision).unwrap_or(Decision::Release)
    }
}

/// One command or reply that is held, with everything after it on its connection, until it is released or dropped.
/// Released when this value is dropped.
#[derive(Debug)]
pub struct Hold(Arc<Held>);

impl Hold {
    /// Waits until a command or reply is held.
    pub async fn wait_until_held(&self) {
        let mut is_holding = self.0.is_holding.subscribe();
        in_time(
            "the proxy holds a command or a reply",
            is_holding.wait_for(|&is_holding| is_holding),
        )
        .await
        .map(drop)
        .ok();
    }

    /// Releases it.
    pub fn release(self) {
        drop(self);
    }

    /// Drops it, and resets its connection.
    pub fn drop_and_reset(self) {
        self.0.decision.send_replace(Some(Decision::Drop));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.decision.send_if_modified(|decision| {
            let undecided = decision.is_none();
            decision.get_or_insert(Decision::Release);
            undecided
        });
    }
}

#[derive(Debug)]
struct Rule {
    direction: Direction,
    filter: Filter,
    times: u64,
    action: Action,
}

/// All rules in their order, and counts of what passed.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    passed: HashMap<String, u64>,
    dropped: u64,
}

impl Rules {
    pub(super) fn drop_frames(
        &mut self,
        direction: Direction,
        filter: Filter,
        times: u64,
        mode: DropMode,
    ) {
        self.rules.push(Rule { direction, filter, times, action: Action::Drop(mode) });
    }

    pub(super) fn hold(&mut self, direction: Direction, filter: Filter) -> Hold {
        let held =
            Held { is_holding: watch::Sender::new(false), decision: watch::Sender::new(None) };
        let held = Arc::new(held);
        self.rules.push(Rule { direction, filter, times: 1, action: Action::Hold(held.clone()) });
        Hold(held)
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Decides about one frame; each rule is removed after it applied `times` times.
    pub(super) fn decide(
        &mut self,
        direction: Direction,
        request: &Request,
        frame: &[u8],
    ) -> Action {
        let action = self.apply(direction, request, frame);
        match action {
            Action::Drop(_) => self.dropped += 1,
            Action::Pass | Action::Hold(_) if direction == Direction::ToClient => {
                *self.passed.entry(request.verb.clone()).or_default() += 1;
            }
            Action::Pass | Action::Hold(_) => {}
        }
        action
    }

    fn apply(&mut self, direction: Direction, request: &Request, frame: &[u8]) -> Action {
        let selected =
            |rule: &Rule| rule.direction == direction && rule.filter.selects(request, frame);
        let Some(at) = self.rules.iter().position(selected) else { return Action::Pass };
        let rule = &mut self.rules[at];
        if rule.filter.skip > 0 {
            rule.filter.skip -= 1;
            return Action::Pass;
        }
        rule.times -= 1;
        let action = rule.action.clone();
        if rule.times == 0 {
            self.rules.remove(at);
        }
        action
    }

    /// Returns how many replies to this verb passed.
    pub(super) fn passed(&self, verb: &str) -> u64 {
        self.passed.get(verb).copied().unwrap_or(0)
    }

    /// Returns how many commands and replies were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
