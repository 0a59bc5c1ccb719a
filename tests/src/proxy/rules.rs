//! What a proxy does to single commands and replies: lose one, hold one, and count what passed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::Way;
use crate::wait::in_time;

/// Which commands and replies are meant: those of one verb, perhaps only those that carry certain bytes.
#[derive(Debug, Clone, Default)]
pub struct Which {
    verb: Option<String>,
    carrying: Option<Bytes>,
    passing: u64,
}

impl Which {
    /// Every one.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Those of a verb: of one of our functions (`exchange`), or the name of a command in small letters (`blpop`).
    #[must_use]
    pub fn verb(verb: &str) -> Self {
        Self { verb: Some(verb.to_owned()), ..Self::default() }
    }

    /// Only those that carry this text; a reply carries what its command did, too.
    #[must_use]
    pub fn carrying(self, text: &str) -> Self {
        Self { carrying: Some(Bytes::copy_from_slice(text.as_bytes())), ..self }
    }

    /// Not the first `count` of them.
    #[must_use]
    pub fn after(self, count: u64) -> Self {
        Self { passing: count, ..self }
    }

    fn means(&self, asked: &Asked, frame: &[u8]) -> bool {
        let carries = |text: &Bytes| contains(frame, text) || contains(&asked.command, text);
        self.verb.as_ref().is_none_or(|verb| *verb == asked.verb)
            && self.carrying.as_ref().is_none_or(carries)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|window| window == part)
}

/// A command that went to Redis and was not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) verb: String,
    pub(super) command: Bytes,
}

/// How a loss looks to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its connection is reset.
    Reset,
    /// Nothing comes any more on this connection.
    Silence,
}

/// What becomes of one command or reply.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Pass,
    Lose(Loss),
    Hold(Arc<Held>),
}

/// What a held one waits for.
#[derive(Debug)]
pub(super) struct Held {
    caught: watch::Sender<bool>,
    fate: watch::Sender<Option<Verdict>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Release,
    Lose,
}

impl Held {
    /// Called by the connection that holds it.
    pub(super) async fn wait(&self) -> Verdict {
        self.caught.send_replace(true);
        let mut fate = self.fate.subscribe();
        // The sender is in this very value.
        let verdict = fate.wait_for(Option::is_some).await;
        verdict.ok().and_then(|verdict| *verdict).unwrap_or(Verdict::Release)
    }
}

/// One command or reply that is kept back, with everything behind it on its connection, until it is told to go on. Let
/// go when this value is dropped.
#[derive(Debug)]
pub struct Hold(Arc<Held>);

impl Hold {
    /// Waits until there is one.
    pub async fn caught(&self) {
        let mut caught = self.0.caught.subscribe();
        in_time("the proxy holds something", caught.wait_for(|&caught| caught))
            .await
            .map(drop)
            .ok();
    }

    /// Lets it go on.
    pub fn release(self) {
        drop(self);
    }

    /// Loses it, and resets its connection.
    pub fn lose(self) {
        self.0.fate.send_replace(Some(Verdict::Lose));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fate.send_if_modified(|fate| {
            let undecided = fate.is_none();
            fate.get_or_insert(Verdict::Release);
            undecided
        });
    }
}

#[derive(Debug)]
struct Rule {
    way: Way,
    which: Which,
    times: u64,
    fate: Fate,
}

/// All rules in their order, and what passed.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    passed: HashMap<String, u64>,
    lost: u64,
}

impl Rules {
    pub(super) fn lose(&mut self, way: Way, which: Which, times: u64, loss: Loss) {
        self.rules.push(Rule { way, which, times, fate: Fate::Lose(loss) });
    }

    pub(super) fn hold(&mut self, way: Way, which: Which) -> Hold {
        let held = Held { caught: watch::Sender::new(false), fate: watch::Sender::new(None) };
        let held = Arc::new(held);
        self.rules.push(Rule { way, which, times: 1, fate: Fate::Hold(held.clone()) });
        Hold(held)
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Decides about one frame; each rule is spent after its times.
    pub(super) fn judge(&mut self, way: Way, asked: &Asked, frame: &[u8]) -> Fate {
        let fate = self.apply(way, asked, frame);
        match fate {
            Fate::Lose(_) => self.lost += 1,
            Fate::Pass | Fate::Hold(_) if way == Way::ToClient => {
                *self.passed.entry(asked.verb.clone()).or_default() += 1;
            }
            Fate::Pass | Fate::Hold(_) => {}
        }
        fate
    }

    fn apply(&mut self, way: Way, asked: &Asked, frame: &[u8]) -> Fate {
        let meant = |rule: &Rule| rule.way == way && rule.which.means(asked, frame);
        let Some(at) = self.rules.iter().position(meant) else { return Fate::Pass };
        let rule = &mut self.rules[at];
        if rule.which.passing > 0 {
            rule.which.passing -= 1;
            return Fate::Pass;
        }
        rule.times -= 1;
        let fate = rule.fate.clone();
        if rule.times == 0 {
            self.rules.remove(at);
        }
        fate
    }

    /// How many replies to that verb went through.
    pub(super) fn passed(&self, verb: &str) -> u64 {
        self.passed.get(verb).copied().unwrap_or(0)
    }

    /// How many commands and replies were lost on purpose.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
