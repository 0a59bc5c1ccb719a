//! Every change of a job's status, those inside one call included, held against [`Status::can_become`].

use std::collections::HashMap;

use crunch_common::job::Status;
use redis::aio::MultiplexedConnection;

/// Where the functions note each status they write: a list a key space.
const MOVES: &str = "test-moves";

/// Stands before the library, which calls it instead of `redis.call`: so whatever writes the field `state` is noted, whichever
/// path it takes.
const RECORDER: &str = "
local function recorded_call(command, name, ...)
  local fields = { ... }
  for at = 1, command == 'HSET' and #fields or 0, 2 do
    if fields[at] == 'state' then
      local list = 'test-moves:' .. string.match(name, '^[^{]+')
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
pub(crate) struct Moves(HashMap<String, Status>);

impl Moves {
    /// Reads what was written since the last time, and checks each change.
    pub(crate) async fn check(
        &mut self,
        redis: &mut MultiplexedConnection,
        prefix: &str,
    ) -> Result<(), String> {
        let list = format!("{MOVES}:{prefix}:");
        let mut ask = redis::pipe();
        ask.cmd("LRANGE").arg(&list).arg(0).arg(-1).cmd("DEL").arg(&list).ignore();
        let (moves,): (Vec<String>,) = ask.query_async(redis).await.unwrap();
        for one in moves {
            let (job, status) = one.split_once(' ').unwrap();
            self.note(job, status.parse().unwrap())?;
        }
        Ok(())
    }

    fn note(&mut self, job: &str, next: Status) -> Result<(), String> {
        let may = match self.0.insert(job.to_owned(), next) {
            None => matches!(next, Status::Scheduled | Status::Queued),
            Some(last) => last == next || last.can_become(next),
        };
        if may { Ok(()) } else { Err(format!("{job} became {next}, which it may not")) }
    }
}
