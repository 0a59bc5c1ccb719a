-- promote(w, p, queue, now, most): move due jobs of one queue from delayed to ready, the earliest due first; and give groups turns
-- that waited for their rate. A job that waits for the holder of its lock is delayed too: the end of the holder makes it ready.
--
-- Uses: keys, core, locks, limits, groups, lifecycle
--
-- Called inside `exchange` and `sweep`. Ids without a job, or whose job is elsewhere, are only removed from the set. Returns
-- how many ids it read; `most` of them means there may be more. And of how many groups it read.

local function is_delayed(job) return job and (job.status == 'scheduled' or job.status == 'retrying') end

-- How many groups that waited for their rate one call gives turns: as many as a worker may claim jobs.
local GROUPS_PROMOTED = 32

-- A job that waits for the holder of its lock is looked at after this long, in case the holder's record is gone.
local FOLLOWER_LOOK_MS = 60000

-- Whether a due job still waits for the holder of its lock; if nobody holds it, the job does now.
local function still_follows(w, p, now, id, job)
  if not locks.follows(job) then return false end
  local digest = locks.of(job)
  local holder = digest and locks.holder(p, digest)
  if not holder then
    locks.take(w, p, id, job)
    -- Another follower that is due in this call finds it held.
    w:commit()
  end
  if not holder or holder == id then return false end
  w:add('ZADD', key.delayed(p, job.queue), int(now + FOLLOWER_LOOK_MS), id)
  return true
end

-- Lets a job wait for the holder of its lock. Returns when it is looked at.
function locks.follow(w, p, now, id, job, holder)
  job.waiting_for = '0 lock ' .. holder
  w:call('SET', key.lock(p, (locks.of(job))), holder .. ' ' .. id)
  return now + FOLLOWER_LOOK_MS
end

-- Makes the follower of a lock ready, which it holds now.
function locks.make_ready(p, id)
  local job, w = read_job(p, id), writes()
  if not locks.follows(job) then return end
  w:add('ZREM', key.delayed(p, job.queue), id)
  to_ready(w, p, id, job, 'LPUSH')
  w:commit()
  wake(w, p, { job.queue }, is_claimable)
  w:commit()
end

local function promote(w, p, queue, now, most)
  local ids = redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local name = key.job(p, id)
    local values = redis.pcall('HMGET', name, 'state', 'optional')
    w:add('ZREM', key.delayed(p, queue), id)
    if not (fast.promote and fast.promote(w, p, id, name, values)) then
      local job, unreadable = job_of(name, values)
      if unreadable then quarantine(w, p, id, now) end
      if is_delayed(job) and not still_follows(w, p, now, id, job) then to_ready(w, p, id, job, 'LPUSH') end
    end
  end
  return #ids, groups.promote(w, p, queue, now, GROUPS_PROMOTED)
end

-- The lowest time in some sorted sets, or nil.
local function first_time(names)
  local first
  for _, name in ipairs(names) do
    local time = tonumber(redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')[2] or nil)
    if time and (not first or time < first) then first = time end
  end
  return first
end

-- The earlier of two times, each of which may be nil.
local function earlier(one, other)
  if one and other then return math.min(one, other) end
  return one or other
end

-- When the first delayed job of the queue is due, or nil.
local function next_due(p, queue) return first_time({ key.delayed(p, queue) }) end

-- When the rate of a group, or of the queue, next allows a start; nil if no rate forbids one now.
local function next_start(w, p, queue, now)
  return earlier(first_time({ key.delayed_groups(p, queue) }), limits.waits_until(w, p, now, queue))
end

-- How often sweeps come where something may be due.
local SWEEP_MS = 1000

-- When the first lease of a queue expires, its first delayed job is due, its first deadline passes or the rate of a group allows
-- it to start a job; nil if there is none of these.
local function first_due(p, queue)
  return first_time({ key.running(p, queue), key.delayed(p, queue), key.deadlines(p, queue), key.delayed_groups(p, queue) })
end
