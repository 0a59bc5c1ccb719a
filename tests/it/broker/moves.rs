//! Checks every change of a job's status, also those inside one call, against [`Status::can_become`].

use std::collections::HashMap;

use crunch_common::job::Status;
use redis::aio::MultiplexedConnection;

/// The prefix of the list, one per partition, to which the functions append each status that they write.
const CHANGES: &str = "test-moves";

/// Precedes the library, which calls this instead of `redis.call`: so every write of the field `state` is recorded,
/// whichever code does it.
const RECORDER: &str = "
local function recorded_call(command, name, ...)
  local fields = { ... }
  for at = 1, command == 'HSET' and #fields or 0, 2 do
    if fields[at] == 'state' then
      local list = 'test-moves:' .. string.match(name, '^[^{]+{[^}]+}')
      redis.call('RPUSH', list, name .. ' ' .. string.match(fields[at + 1], '^%S+'))
    end
  end
  return redis.call(command, name, ...)
end
";

/// The library with a recorder in front.
pub(crate) fn recorded(text: &str) -> String {
    format!("{RECORDER}{}", text.replace("redis.call", "recorded_call"))
}

/// The last status of each job, by its key.
#[derive(Debug, Default)]
pub(crate) struct StatusChanges(HashMap<String, Status>);

impl StatusChanges {
    /// Reads the statuses written since the last call, and checks each change.
    pub(crate) async fn check(
        &mut self,
        redis: &mut MultiplexedConnection,
        prefix: &str,
    ) -> Result<(), String> {
        let list = format!("{CHANGES}:{prefix}:{{0}}");
        let mut pipe = redis::pipe();
        pipe.cmd("LRANGE").arg(&list).arg(0).arg(-1).cmd("DEL").arg(&list).ignore();
        let (changes,): (Vec<String>,) = pipe.query_async(redis).await.unwrap();
        for change in changes {
            let (job, status) = change.split_once(' ').unwrap();
            self.apply(job, status.parse().unwrap())?;
        }
        Ok(())
    }

    fn apply(&mut self, job: &str, next: Status) -> Result<(), String> {
        let is_allowed = match self.0.insert(job.to_owned(), next) {
            None => matches!(next, Status::Scheduled | Status::Queued),
            Some(previous) => previous == next || previous.can_become(next),
        };
        if is_allowed { Ok(()) } else { Err(format!("{job} must not become {next}")) }
    }
}
