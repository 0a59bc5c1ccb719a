-- Error groups: failures of one kind, so that an operator sees three rows and not 100 000 failed jobs.
--
-- Uses: keys, core
--
-- A group is a queue, a task and a kind of error: its code and the end of its message, without what varies between messages
-- (`job/error/kind.rs`). It counts the attempts that failed, has the newest error, and lists the jobs that failed for good
-- until they run again or are deleted. Only failures write here.

local errors = {}
do
  -- A queue and task has at most this many groups, its kinds; further errors share one, which has an empty kind.
  local ERROR_KINDS = 100
  -- If a partition has as many groups, further errors share this one, which has no queue and no task.
  local ERROR_GROUPS, OTHER_GROUP = 1000, 'other'
  -- How long a group without jobs is kept after its last failure.
  local ERROR_GROUP_KEPT_MS = 604800000
  -- Groups that a round of sweeps looks at.
  local TIDIED_GROUPS = 8

  local function write_failures(_, write)
    redis.call('HSET', write.name, 'error', write.error, 'job', write.job, 'last', write.last)
    redis.call('HINCRBY', write.name, 'failures', write.count)
  end

  local function group_of(queue, task, kind) return string.sub(redis.sha1hex(queue .. '\n' .. task .. '\n' .. kind), 1, 16) end

  -- The record of a queue and task: how many kinds it has. It is a group itself once there are too many.
  local function family_of(queue, task) return group_of(queue, task, '') end

  -- Whether there is that group, in Redis or since earlier in this call.
  local function exists(w, p, group)
    return w.failures[group] ~= nil or redis.call('HEXISTS', key.error(p, group), 'first') == 1
  end

  -- Returns the group, which is created if there is room for another one.
  local function make_group(w, p, now, job, kind)
    local queue, task = job.queue, task_of(job) or ''
    local group, family = group_of(queue, task, kind), family_of(queue, task)
    if exists(w, p, group) then return group end
    local is_kind = num(redis.call('HGET', key.error(p, family), 'kinds')) < ERROR_KINDS
    if not is_kind then group = family end
    if exists(w, p, group) then return group end
    if redis.call('ZCARD', key.errors(p)) >= ERROR_GROUPS then
      if not exists(w, p, OTHER_GROUP) then w:call('HSET', key.error(p, OTHER_GROUP), 'first', int(now)) end
      return OTHER_GROUP
    end
    if is_kind then w:call('HINCRBY', key.error(p, family), 'kinds', 1) end
    w:call('HSET', key.error(p, group), 'queue', queue, 'task', task, 'first', int(now))
    return group
  end

  -- The kind of an error of these functions, whose message does not vary.
  errors.kind_of = memoized(function(error)
    return table.concat({ string.match(error, '"code":"([^"]+)","message":"([^"]+)"') }, ' ')
  end)

  -- Counts a failed attempt in its group. Returns the group.
  function errors.count(w, p, now, id, job, error, kind)
    job.spec = job.spec or redis.call('HGET', job.key, 'spec')
    local group = make_group(w, p, now, job, kind)
    if w.failures == NONE then w.failures = {} end
    local write = w.failures[group]
    if not write then
      write = { write = write_failures, name = key.error(p, group), last = int(now), count = 0 }
      w.failures[group] = write
      w:later(write)
      w:add('ZADD', key.errors(p), int(now), group)
    end
    write.error, write.job, write.count = error, id, write.count + 1
    return group
  end

  -- Takes a job that failed out of its group: it runs again, or is deleted.
  function errors.leave(w, p, id, job)
    if job.error_group then w:add('ZREM', key.error_jobs(p, job.error_group), id) end
  end

  local function remove_group(w, p, group)
    local of = redis.call('HMGET', key.error(p, group), 'queue', 'task', 'kinds')
    w:add('ZREM', key.errors(p), group)
    -- What counts the kinds of a queue and task stays until the last of them is removed.
    if num(of[3]) > 0 then return w:call('HDEL', key.error(p, group), 'first', 'last', 'failures', 'error', 'job') end
    w:call('DEL', key.error(p, group))
    local family = of[1] and key.error(p, family_of(of[1], of[2]))
    if not family or family == key.error(p, group) then return end
    if num(redis.call('HGET', family, 'kinds')) > 1 or redis.call('HEXISTS', family, 'first') == 1 then
      w:call('HINCRBY', family, 'kinds', -1)
    else
      w:call('DEL', family)
    end
  end

  -- Looks at the next few groups from that place on, and removes those that have had no failure for a week and have no jobs.
  -- Returns where to continue.
  function errors.tidy(w, p, now, place)
    local groups, kept = redis.call('ZRANGE', key.errors(p), place, place + TIDIED_GROUPS - 1, 'WITHSCORES'), 0
    for at = 1, #groups, 2 do
      local group, last = groups[at], tonumber(groups[at + 1])
      if now - last >= ERROR_GROUP_KEPT_MS and redis.call('EXISTS', key.error_jobs(p, group)) == 0 then
        remove_group(w, p, group)
        -- Two of one queue and task change the same count.
        w:commit()
      else
        kept = kept + 1
      end
    end
    return #groups == 2 * TIDIED_GROUPS and place + kept or 0
  end
end
