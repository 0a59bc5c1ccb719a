//! The Redis function library: one Lua file per operation, assembled into one text and loaded under a name with its
//! hash.
//!
//! Function names are global in Redis, so each contains eight hex digits of the hash of the library's text: binaries of
//! two versions run concurrently in a rolling deploy.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Version of the key space's layout. A key space of another version is rejected.
pub(crate) const LAYOUT: u64 = 3;

/// The features of this layout that this version has. A key space lists those that were used; a version that lacks one
/// of them does not touch it.
pub(crate) const FEATURES: [&str; 7] =
    ["webhooks", "indexes", "groups", "limits", "expiry", "schedules", "locks"];

/// Files that several operations use, in the order of their dependencies.
const SHARED: [&str; 12] = [
    include_str!("lua/keys.lua"),
    include_str!("lua/register.lua"),
    include_str!("lua/core.lua"),
    include_str!("lua/errors.lua"),
    include_str!("lua/indexes.lua"),
    include_str!("lua/locks.lua"),
    include_str!("lua/limits.lua"),
    include_str!("lua/groups.lua"),
    include_str!("lua/waits.lua"),
    include_str!("lua/schedules.lua"),
    include_str!("lua/lifecycle.lua"),
    include_str!("lua/promote.lua"),
];
/// An operation in several files. Like the audit it needs nothing of the next ones.
const EXCHANGE: [&str; 5] = [
    include_str!("lua/settle.lua"),
    include_str!("lua/claim.lua"),
    include_str!("lua/turns.lua"),
    include_str!("lua/fast_path.lua"),
    include_str!("lua/exchange.lua"),
];
/// Files that several of the other operations use.
const SHARED_BY_OTHERS: [&str; 2] =
    [include_str!("lua/take_back.lua"), include_str!("lua/sweep.lua")];
/// Operations that submit jobs.
const SUBMISSION: [&str; 2] = [include_str!("lua/enqueue.lua"), include_str!("lua/fire.lua")];
/// Operations that share files which no other uses.
const AUDIT: [&str; 5] = [
    include_str!("lua/places.lua"),
    include_str!("lua/mend.lua"),
    include_str!("lua/examine.lua"),
    include_str!("lua/judge.lua"),
    include_str!("lua/heal.lua"),
];
/// Operations that write the history, which no other does.
const HISTORY: [&str; 3] = [
    include_str!("lua/history.lua"),
    include_str!("lua/heartbeat.lua"),
    include_str!("lua/sample.lua"),
];
/// Operations in one file each, which no other uses. Like those above, each is a separate block: Lua allows at most 200
/// local names at once.
const VERBS: [&str; 24] = [
    include_str!("lua/open.lua"),
    include_str!("lua/leave.lua"),
    include_str!("lua/reclaim.lua"),
    include_str!("lua/report.lua"),
    include_str!("lua/cancel.lua"),
    include_str!("lua/retry.lua"),
    include_str!("lua/redrive.lua"),
    include_str!("lua/delete.lua"),
    include_str!("lua/steer.lua"),
    include_str!("lua/log_action.lua"),
    include_str!("lua/mute.lua"),
    include_str!("lua/watch.lua"),
    include_str!("lua/announce.lua"),
    include_str!("lua/pause.lua"),
    include_str!("lua/purge.lua"),
    include_str!("lua/rule.lua"),
    include_str!("lua/limit.lua"),
    include_str!("lua/reserve.lua"),
    include_str!("lua/put_schedule.lua"),
    include_str!("lua/delete_schedule.lua"),
    include_str!("lua/pause_schedule.lua"),
    include_str!("lua/backfill.lua"),
    include_str!("lua/due_schedules.lua"),
    include_str!("lua/used.lua"),
];

/// A function of the library, named as its Lua file registers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Announce,
    Backfill,
    Reclaim,
    Cancel,
    Confine,
    Delete,
    DeleteSchedule,
    DueSchedules,
    Enqueue,
    Exchange,
    Fire,
    Heal,
    Heartbeat,
    Judge,
    Leave,
    Limit,
    LogAction,
    Mute,
    Open,
    Pause,
    PauseSchedule,
    Purge,
    PutSchedule,
    Redrive,
    Report,
    Reserve,
    Resume,
    ResumeSchedule,
    Retry,
    Rule,
    Sample,
    Share,
    Steer,
    Sweep,
    Used,
    Watch,
}

impl Function {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Backfill => "backfill",
            Self::Reclaim => "reclaim",
            Self::Cancel => "cancel",
            Self::Confine => "confine",
            Self::Delete => "delete",
            Self::DeleteSchedule => "delete_schedule",
            Self::DueSchedules => "due_schedules",
            Self::Enqueue => "enqueue",
            Self::Exchange => "exchange",
            Self::Fire => "fire",
            Self::Heal => "heal",
            Self::Heartbeat => "heartbeat",
            Self::Judge => "judge",
            Self::Leave => "leave",
            Self::Limit => "limit",
            Self::LogAction => "log_action",
            Self::Mute => "mute",
            Self::Open => "open",
            Self::Pause => "pause",
            Self::PauseSchedule => "pause_schedule",
            Self::Purge => "purge",
            Self::PutSchedule => "put_schedule",
            Self::Redrive => "redrive",
            Self::Report => "report",
            Self::Reserve => "reserve",
            Self::Resume => "resume",
            Self::ResumeSchedule => "resume_schedule",
            Self::Retry => "retry",
            Self::Rule => "rule",
            Self::Sample => "sample",
            Self::Share => "share",
            Self::Steer => "steer",
            Self::Sweep => "sweep",
            Self::Used => "used",
            Self::Watch => "watch",
        }
    }
}

/// Prefix of the name of every version's library; the hash of its text follows.
pub(crate) const LIBRARY_PREFIX: &str = "crunch_";

/// The library's text and the name it is loaded under.
#[derive(Debug, Clone)]
pub struct Library {
    text: String,
    name: String,
}

impl Library {
    /// Returns the library this binary was built with.
    #[must_use]
    pub fn shipped() -> Self {
        Self::of(&Self::shipped_body())
    }

    /// Returns the shipped library after an edit of its text; for tests that simulate time or break a function on
    /// purpose. Its functions have different names, so both libraries can be loaded.
    #[doc(hidden)]
    #[must_use]
    pub fn edited(edit: impl FnOnce(String) -> String) -> Self {
        Self::of(&edit(Self::shipped_body()))
    }

    fn shipped_body() -> String {
        let block = |files: &[&str]| format!("do\n{}end\n", files.concat());
        let verbs: String = VERBS.iter().map(std::slice::from_ref).map(block).collect();
        [
            SHARED.concat(),
            block(&EXCHANGE),
            block(&AUDIT),
            SHARED_BY_OTHERS.concat(),
            block(&HISTORY),
            block(&SUBMISSION),
            verbs,
        ]
        .concat()
    }

    fn of(body: &str) -> Self {
        let digest = Sha256::digest(body);
        let hash = digest[..4].iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let name = format!("{LIBRARY_PREFIX}{hash}");
        let register = format!(
            "local function register_function(verb, callback, flags)\n  \
             redis.register_function{{ function_name = '{name}_' .. verb, callback = callback, flags = flags }}\nend\n"
        );
        Self { text: format!("#!lua name={name}\n{register}{body}"), name }
    }

    /// The text as it is loaded.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The name it is loaded under.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name under which `function` is called.
    pub(crate) fn name_of(&self, function: Function) -> String {
        format!("{}_{}", self.name, function.as_str())
    }
}
