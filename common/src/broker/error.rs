//! Errors of calls to Redis, and what each of Redis' errors means for the caller.
//!
//! The only place that parses the text of an error: Redis has no code for an unknown function.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::job::{GroupName, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Why an operation of the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis cannot be reached, did not answer in time, or cannot serve now. Whether the call took effect is unknown;
    /// every operation may be repeated.
    #[error("redis is unavailable: {reason}")]
    Unavailable {
        /// The cause.
        reason: String,
    },
    /// Redis replied that it does not run the call now: it is loading its data, its disk is full, replicas are missing,
    /// or the functions are missing. Nothing was written; it may run the same call later.
    #[error("redis rejects the call: {reason}")]
    Rejected {
        /// Its reply, or what to do about it.
        reason: String,
    },
    /// Redis has no memory left for new jobs. Nothing was written.
    #[error("redis has no memory left for new jobs")]
    Full,
    /// The queue has reached its limit of waiting jobs. Nothing was written.
    #[error("queue {queue} is full")]
    QueueFull {
        /// The queue of the submission.
        queue: QueueName,
    },
    /// The group has reached its limit of waiting jobs. Nothing was written.
    #[error("group {group} of queue {queue} is full")]
    GroupFull {
        /// The queue of the submission.
        queue: QueueName,
        /// Its group.
        group: GroupName,
    },
    /// The queue has a limit, so that its jobs are in another partition. Nothing was written. Submissions are repeated there.
    #[error("the jobs of queue {queue} are in partition {home}")]
    Elsewhere {
        /// The queue of the submission.
        queue: QueueName,
        /// Where its jobs are.
        home: Partition,
    },
    /// The queue is new, and the limit of queues is reached. Nothing was written.
    #[error("queue {queue} is new, and the limit of queues is reached")]
    TooManyQueues {
        /// The queue of the submission.
        queue: QueueName,
    },
    /// Too many submissions already wait for Redis. Nothing was accepted.
    #[error("too many submissions wait for Redis")]
    Busy,
    /// A submission is not known to be as durable as requested.
    #[error("not durable: {reason}")]
    NotDurable {
        /// What is missing.
        reason: String,
        /// Whether Redis may have accepted the job nevertheless: then it will run, unless Redis loses it. Submitting it
        /// again with its id or its key checks its durability again.
        taken: bool,
    },
    /// The limit of declared tasks is reached, and these are new: no jobs can be submitted for them.
    #[error(
        "the limit of declared tasks is reached, so these were rejected: {}; tasks that no worker has declared for 30 days are removed",
        names(tasks)
    )]
    TooManyTasks {
        /// The tasks that were rejected.
        tasks: Vec<TaskName>,
    },
    /// Redis cannot be used with its configuration, or with that of this process. An operator must act.
    #[error("this redis cannot be used: {reason}")]
    Refused {
        /// What to change.
        reason: String,
    },
    /// A later exchange of this worker was already answered: two processes use one worker id.
    #[error("a later exchange of this worker was already answered")]
    StaleExchange,
    /// Redis sent a reply that this version cannot parse.
    #[error("cannot parse the reply of Redis: {reason}")]
    Unreadable {
        /// What is wrong with the reply.
        reason: String,
    },
}

/// The first few names, for a message.
fn names(tasks: &[TaskName]) -> String {
    const NAMED: usize = 5;
    let names: Vec<_> = tasks.iter().take(NAMED).map(TaskName::as_str).collect();
    let more = if tasks.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// What the owner of a connection does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Retry after a pause, on the same connection.
    Wait,
    /// Drop the connection and open a new one.
    Reconnect,
    /// Find out which node has the partition now, then retry.
    Relocate,
    /// Retry after a pause: the partition is being moved to another node.
    Moving,
    /// Load the function library, then retry.
    Reload,
    /// A retry would not help.
    GiveUp,
}

impl Error {
    pub(crate) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unreadable { reason: reason.into() }
    }

    /// Its cause, to be a part of another reason.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Unavailable { reason } | Self::Rejected { reason } | Self::Refused { reason } => {
                reason
            }
            other => other.to_string(),
        }
    }

    pub(crate) fn timed_out() -> Self {
        Self::Unavailable { reason: "no answer in time".to_owned() }
    }

    /// Returns the error of a call of which an earlier try may have taken effect: this error is about the last try only
    /// and does not decide that.
    pub(crate) fn in_doubt(self) -> Self {
        match self {
            Self::Rejected { .. } | Self::Refused { .. } | Self::Full => {
                Self::Unavailable { reason: self.to_string() }
            }
            other => other,
        }
    }

    /// Whether the same call may succeed later without intervention.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Rejected { .. }
                | Self::Full
                | Self::QueueFull { .. }
                | Self::GroupFull { .. }
                | Self::Elsewhere { .. }
                | Self::TooManyQueues { .. }
                | Self::Busy
                | Self::NotDurable { .. }
        )
    }
}

/// Maps an error of Redis to a remedy and the error that the caller gets.
pub(crate) fn classify(error: &Arc<RedisError>) -> (Remedy, Error) {
    let unavailable = || Error::Unavailable { reason: error.to_string() };
    let rejected = || Error::Rejected { reason: error.to_string() };
    let refused = || Error::Refused { reason: error.to_string() };
    match error.code() {
        // A Redis without free memory rejects functions that may use more.
        Some("OOM") => (Remedy::GiveUp, Error::Full),
        // Still starting, a script that runs too long, a replica without its master: often resolved within one call.
        Some("LOADING" | "BUSY" | "MASTERDOWN") => (Remedy::Wait, rejected()),
        // ASK is never followed: at the other node, keys that were not moved yet would be missing.
        Some("TRYAGAIN" | "ASK" | "MOVING") => (Remedy::Moving, rejected()),
        // The disk or replicas are missing, or a transaction was aborted for such a reason: that takes longer than one
        // call.
        Some("MISCONF" | "NOREPLICAS" | "EXECABORT") => (Remedy::GiveUp, rejected()),
        // This is a replica: after a failover a new connection reaches the master.
        Some("READONLY") => (Remedy::Reconnect, rejected()),
        // Redis ended a blocking read.
        Some("UNBLOCKED") => (Remedy::Reconnect, unavailable()),
        Some("MOVED" | "CLUSTERDOWN") => (Remedy::Relocate, rejected()),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED") => (Remedy::Reconnect, refused()),
        _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            (Remedy::Reconnect, unavailable())
        }
        _ => by_text(error, &error.to_string()),
    }
}

/// Maps errors for which Redis only sends `ERR`, or whose code the client library hides.
fn by_text(error: &RedisError, text: &str) -> (Remedy, Error) {
    let refused = |reason: &str| Error::Refused { reason: reason.to_owned() };
    if text.contains("Function not found") {
        (Remedy::Reload, Error::Rejected { reason: text.to_owned() })
    } else if text.contains("max number of clients") {
        (Remedy::Reconnect, Error::Rejected { reason: text.to_owned() })
    } else if let Some((_, rest)) = text.split_once("unknown command ") {
        // The name is followed by the beginning of its arguments, which may be a payload.
        let name = rest.split(',').next().unwrap_or_default();
        let reason = format!(
            "it does not know the command {name}, which Crunch needs: neither rename-command nor a proxy may disable it"
        );
        (Remedy::Reconnect, Error::Refused { reason })
    } else if text.contains("refused to switch database") {
        (Remedy::Reconnect, refused("it does not have the database of CRUNCH_REDIS_URL"))
    } else if error.kind() == ErrorKind::AuthenticationFailed {
        (Remedy::Reconnect, refused(text))
    } else if error.code().is_some() {
        (Remedy::GiveUp, Error::unreadable(text))
    } else {
        (Remedy::Reconnect, Error::Unavailable { reason: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(line: &str) -> (Remedy, Error) {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        classify(&Arc::new(value.extract_error().unwrap_err()))
    }

    #[test]
    fn an_error_reply_is_a_refusal_and_never_an_outage() {
        use Remedy::*;
        let rejections = [
            ("LOADING Redis is loading the dataset in memory", Wait),
            ("BUSY Redis is busy running a script.", Wait),
            ("MASTERDOWN Link with MASTER is down", Wait),
            ("ASK 13907 127.0.0.1:7413", Moving),
            ("MOVED 13907 127.0.0.1:7413", Relocate),
            ("CLUSTERDOWN Hash slot not served", Relocate),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Moving),
            ("MOVING the partition is being moved to another node", Moving),
            ("MISCONF Errors writing to the AOF file: No space left on device", GiveUp),
            ("NOREPLICAS Not enough good replicas to write.", GiveUp),
            ("EXECABORT Transaction discarded because of previous errors.", GiveUp),
            ("READONLY You can't write against a read only replica.", Reconnect),
            ("ERR max number of clients reached", Reconnect),
            ("ERR Function not found", Reload),
        ];
        for (line, remedy) in rejections {
            let (then, error) = classified(line);
            assert!(matches!(error, Error::Rejected { .. }), "{line}: {error:?}");
            assert_eq!(then, remedy, "{line}");
            assert!(error.is_transient());
            assert!(matches!(error.in_doubt(), Error::Unavailable { .. }));
        }
        assert!(matches!(classified("OOM command not allowed"), (GiveUp, Error::Full)));
    }

    #[test]
    fn what_a_person_must_change_is_refused_with_the_reason() {
        for (line, reason) in [
            ("NOAUTH Authentication required.", "Authentication required"),
            ("WRONGPASS invalid username-password pair", "invalid username-password pair"),
            ("NOPERM this user has no permissions to run the 'fcall' command", "'fcall'"),
            ("DENIED Redis is running in protected mode", "protected mode"),
            ("ERR unknown command 'FUNCTION', with args beginning with: 'LOAD' 'x'", "'FUNCTION'"),
            ("ERR unknown command 'HSET', with args beginning with: 'secret' ", "'HSET'"),
        ] {
            let (remedy, error) = classified(line);
            assert_eq!(remedy, Remedy::Reconnect, "{line}");
            let Error::Refused { reason: given } = error else { panic!("{line}: {error:?}") };
            assert!(given.contains(reason) && !given.contains("secret"), "{given}");
        }
    }

    #[test]
    fn what_nobody_thought_of_is_a_mistake_of_ours() {
        assert!(matches!(
            classified("ERR Error running function"),
            (Remedy::GiveUp, Error::Unreadable { .. })
        ));
    }
}
