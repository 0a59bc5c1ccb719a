//! What can go wrong between us and Redis, and what each of Redis' errors means for the caller.
//!
//! The one place that looks at the text of an error: Redis gives no code for an unknown function.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::queue::QueueName;
use crate::task::TaskName;

/// Why the broker could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis cannot be reached, did not answer in time, or is not able to serve right now. Whether the call took effect
    /// is unknown; every verb may be repeated.
    #[error("redis is unavailable: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// Redis answered that it does not run the call now: it is loading its file, its disk is full, replicas are missing, or
    /// the functions are not there. Nothing was written; it may run the same call later.
    #[error("redis rejects the call: {reason}")]
    Rejected {
        /// What it answered, or what to do about it.
        reason: String,
    },
    /// Redis has no memory left for new jobs. Nothing was written.
    #[error("redis has no memory left for new jobs")]
    Full,
    /// As many jobs wait in this queue as may. Nothing was written.
    #[error("queue {queue} is full")]
    QueueFull {
        /// Where it would have waited.
        queue: QueueName,
    },
    /// This queue is not known, and as many as may are. Nothing was written.
    #[error("queue {queue} is new, and no more queues may be known")]
    TooManyQueues {
        /// Where it would have waited.
        queue: QueueName,
    },
    /// Too much waits for Redis already. Nothing was taken.
    #[error("too many submissions wait for redis")]
    Busy,
    /// A submission is not known to be as durable as was asked for.
    #[error("not durable: {reason}")]
    NotDurable {
        /// What is missing.
        reason: String,
        /// Whether Redis may have taken the job all the same: then it will run, unless Redis loses it. To submit it again
        /// with its id or its key asks for its durability again.
        taken: bool,
    },
    /// As many tasks are declared as may be, and these are new: nobody can submit to them.
    #[error(
        "as many tasks are declared as may be, so these are not: {}; tasks that no worker has declared for 30 days are forgotten",
        names(tasks)
    )]
    TooManyTasks {
        /// The tasks that were not taken.
        tasks: Vec<TaskName>,
    },
    /// Redis answered, and will not serve us as it is set up. A person must act.
    #[error("this redis cannot be used: {reason}")]
    Refused {
        /// What to change.
        reason: String,
    },
    /// A later exchange of this worker was answered before: two processes use one worker id.
    #[error("a later exchange of this worker was already answered")]
    StaleExchange,
    /// Redis answered something this code does not understand.
    #[error("redis gave an answer we cannot read: {reason}")]
    Unreadable {
        /// What came.
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
    /// Ask again after a pause, on the same connection.
    Wait,
    /// Drop the connection and make a new one.
    Reconnect,
    /// Load the function library, then ask again.
    Reload,
    /// Asking again would not help.
    GiveUp,
}

impl Error {
    pub(crate) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unreadable { reason: reason.into() }
    }

    pub(crate) fn timed_out() -> Self {
        Self::Unavailable { reason: "no answer in time".to_owned() }
    }

    /// The same after an earlier try of the call of which nobody knows whether it took effect: then this answer, which is
    /// about the last try only, does not settle it.
    pub(crate) fn in_doubt(self) -> Self {
        match self {
            Self::Rejected { .. } | Self::Refused { .. } | Self::Full => {
                Self::Unavailable { reason: self.to_string() }
            }
            other => other,
        }
    }

    /// Whether the same call may succeed later without anybody's hand.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Rejected { .. }
                | Self::Full
                | Self::QueueFull { .. }
                | Self::TooManyQueues { .. }
                | Self::Busy
                | Self::NotDurable { .. }
        )
    }
}

/// What to say of a cluster: it would redirect us for ever.
const CLUSTER: &str = "it is a node of a Redis Cluster, which Crunch does not support yet: set CRUNCH_REDIS_URL to a Redis outside any cluster";

/// The table of Redis' errors: which remedy, and what the caller gets.
pub(crate) fn classify(error: &Arc<RedisError>) -> (Remedy, Error) {
    let unavailable = || Error::Unavailable { reason: error.to_string() };
    let rejected = || Error::Rejected { reason: error.to_string() };
    let refused = || Error::Refused { reason: error.to_string() };
    match error.code() {
        // A full Redis refuses functions that may grow it.
        Some("OOM") => (Remedy::GiveUp, Error::Full),
        // Still starting, a script running too long, a replica without its master: it often passes within one call.
        Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN") => (Remedy::Wait, rejected()),
        // Disk or replicas are missing, or a transaction was given up for such a reason: that lasts longer than one call.
        Some("MISCONF" | "NOREPLICAS" | "EXECABORT") => (Remedy::GiveUp, rejected()),
        // We talk to a replica: after a failover a new connection finds the master.
        Some("READONLY") => (Remedy::Reconnect, rejected()),
        // It ended a blocking read.
        Some("UNBLOCKED") => (Remedy::Reconnect, unavailable()),
        Some("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT") => {
            (Remedy::Reconnect, Error::Refused { reason: CLUSTER.to_owned() })
        }
        Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED") => (Remedy::Reconnect, refused()),
        _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            (Remedy::Reconnect, unavailable())
        }
        _ => by_text(error, &error.to_string()),
    }
}

/// Of these Redis says no more than `ERR`, or the client library hides their code.
fn by_text(error: &RedisError, text: &str) -> (Remedy, Error) {
    let refused = |reason: &str| Error::Refused { reason: reason.to_owned() };
    if text.contains("Function not found") {
        (Remedy::Reload, Error::Rejected { reason: text.to_owned() })
    } else if text.contains("max number of clients") {
        (Remedy::Reconnect, Error::Rejected { reason: text.to_owned() })
    } else if let Some((_, rest)) = text.split_once("unknown command ") {
        // What follows the name is the beginning of its arguments, which may be a payload.
        let name = rest.split(',').next().unwrap_or_default();
        let reason = format!(
            "it does not know the command {name}, which Crunch needs: rename-command must not take it away, nor a proxy"
        );
        (Remedy::Reconnect, Error::Refused { reason })
    } else if text.contains("refused to switch database") {
        (Remedy::Reconnect, refused("it has no such database as CRUNCH_REDIS_URL names"))
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

    fn answered(line: &str) -> (Remedy, Error) {
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
            ("TRYAGAIN Multiple keys request during rehashing of slot", Wait),
            ("MISCONF Errors writing to the AOF file: No space left on device", GiveUp),
            ("NOREPLICAS Not enough good replicas to write.", GiveUp),
            ("EXECABORT Transaction discarded because of previous errors.", GiveUp),
            ("READONLY You can't write against a read only replica.", Reconnect),
            ("ERR max number of clients reached", Reconnect),
            ("ERR Function not found", Reload),
        ];
        for (line, remedy) in rejections {
            let (then, error) = answered(line);
            assert!(matches!(error, Error::Rejected { .. }), "{line}: {error:?}");
            assert_eq!(then, remedy, "{line}");
            assert!(error.is_transient());
            assert!(matches!(error.in_doubt(), Error::Unavailable { .. }));
        }
        assert!(matches!(answered("OOM command not allowed"), (GiveUp, Error::Full)));
    }

    #[test]
    fn what_a_person_must_change_is_refused_with_the_reason() {
        for (line, reason) in [
            ("NOAUTH Authentication required.", "Authentication required"),
            ("WRONGPASS invalid username-password pair", "invalid username-password pair"),
            ("NOPERM this user has no permissions to run the 'fcall' command", "'fcall'"),
            ("DENIED Redis is running in protected mode", "protected mode"),
            ("MOVED 13907 127.0.0.1:7413", "Redis Cluster"),
            ("ASK 13907 127.0.0.1:7413", "Redis Cluster"),
            ("CLUSTERDOWN Hash slot not served", "Redis Cluster"),
            ("CROSSSLOT Keys in request don't hash to the same slot", "Redis Cluster"),
            ("ERR unknown command 'FUNCTION', with args beginning with: 'LOAD' 'x'", "'FUNCTION'"),
            ("ERR unknown command 'HSET', with args beginning with: 'secret' ", "'HSET'"),
        ] {
            let (remedy, error) = answered(line);
            assert_eq!(remedy, Remedy::Reconnect, "{line}");
            let Error::Refused { reason: given } = error else { panic!("{line}: {error:?}") };
            assert!(given.contains(reason) && !given.contains("secret"), "{given}");
        }
    }

    #[test]
    fn what_nobody_thought_of_is_a_mistake_of_ours() {
        assert!(matches!(
            answered("ERR Error running function"),
            (Remedy::GiveUp, Error::Unreadable { .. })
        ));
    }
}
