-- watch: read a job and what happened since, and have every later change published on the channel `changes`.
--
-- Uses: keys, register, core
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
--      2  how: 'changes' (they are published) | 'events' (and kept, to be read one by one) | 'log' (only the log is read)
--      3  the version up to which events are known, or '' for none   4  the log line up to which the log is known
--      then the fields of the job to read
-- Returns {values of the fields, kept, {event, …}, last, {line, …}}: `kept` = 1 if the events are all there were since that
-- version, else 0 and none are returned; `last` is the number of the last line, counted from 1 over the job's life, and the
-- lines are those after the given one that are still kept.
-- Touches the job's hash: `watched` and `optional`, unless it has succeeded, which is final. Changes of a job that is not watched
-- are not published, and cost nothing.

-- The kept events after a version, if none is missing in between.
local function events_behind(p, id, version, known)
  if known == '' or num(known) > version then return 0, {} end
  local behind = version - num(known)
  if behind == 0 then return 1, {} end
  local events = redis.call('LRANGE', key.events(p, id), -behind, -1)
  local complete = #events == behind and string.match(events[1], '^%d+') == int(num(known) + 1)
  if not complete then return 0, {} end
  return 1, events
end

-- The kept lines after a line.
local function lines_behind(p, id, last, known)
  local behind = math.max(last - num(known), 0)
  if behind == 0 then return {} end
  return redis.call('LRANGE', key.log(p, id), -behind, -1)
end

local function watch(p, argv)
  local id, how, w = argv[1], argv[2], writes()
  local values = redis.call('HMGET', key.job(p, id), unpack(argv, 5))
  local job = read_job(p, id)
  if not job then return { values, 0, {}, 0, {} } end
  local last = num(job.log_lines)
  if how == 'log' then return { values, 0, {}, last, lines_behind(p, id, last, argv[4]) } end
  if job.status ~= 'succeeded' and job.watched ~= 'events' and job.watched ~= how then
    w:call('HSET', job.key, 'optional', optional_with(job.optional, 'watched', how), 'watched', how)
    w:commit()
  end
  if how == 'changes' then return { values, 0, {}, 0, {} } end
  local kept, events = events_behind(p, id, num(job.version), argv[3])
  return { values, kept, events, last, lines_behind(p, id, last, argv[4]) }
end

register('watch', watch, { 'allow-oom' })
