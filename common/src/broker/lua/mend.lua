-- The repairs of `heal`, which `examine` proposes. They collect writes; the caller has judged in the same step.
--
-- Uses: keys, core, groups, lifecycle

local function drop_from(w, p, queue, set, id, times)
  if set == 'finished' then
    for _, time in ipairs(times) do w:unfinish(p, queue, time, id) end
    return
  end
  w:call(set == 'ghosts' and 'SREM' or 'ZREM', key[set](p, queue), id)
end

-- Removes an id from a lane this many times, and counts that as a removal: a walk in pages may miss what moves up behind it.
-- Nothing is removed from the middle of a long list: that would block Redis in proportion to the length of the list.
local function take_out(w, p, id, at, tail, head)
  local name = key.ready(p, at.queue, at.lane)
  if tail > 0 then w:call('LREM', name, -tail, id) end
  if head > 0 then w:call('LREM', name, head, id) end
  w:call('HINCRBY', key.audit(p), 'removals', 1)
end

-- Removes an id that no worker may receive from a lane; deep inside, it becomes a ghost, which claims drop.
local function retire(w, p, id, at)
  if at.deep then return w:call('SADD', key.ghosts(p, at.queue), id) end
  take_out(w, p, id, at, at.tail, at.head)
end

-- Leaves an id in one of the places where it was found: one deep inside a list, which cannot be removed, else one near the
-- front; in none if it also waits in its group. Returns false, with nothing removed, if it is too deep inside one of the others.
local function keep_one(w, p, id, places, is_grouped)
  table.sort(places, function(one, other) return one.deep and not other.deep end)
  local kept = is_grouped and 0 or 1
  if places[kept + 1] and places[kept + 1].deep then return false end
  for number, at in ipairs(places) do
    local tail, head = at.tail, at.head
    if number == kept and tail > 0 then tail = tail - 1 elseif number == kept and head > 0 then head = head - 1 end
    if tail + head > 0 then take_out(w, p, id, at, tail, head) end
  end
end

-- Removes a job from where it does not belong. Returns false, with nothing removed, if it is too deep in a long list.
local function remove_strays(w, p, id, sets, at)
  if at and at.deep then return false end
  if at then take_out(w, p, id, at, at.tail, at.head) end
  for _, stray in ipairs(sets) do drop_from(w, p, stray.queue, stray.set, id, stray.times) end
end

-- Gives a running job without a lease one if its worker sends heartbeats: it may well be running the job. Returns whether it
-- did.
local function put_back_running(w, p, now, id, job)
  if not (job.worker and job.epoch) then return false end
  local alive, lease = beats(p, now, job.worker)
  if not alive then return false end
  w:due(p, job.queue, now + lease)
  w:add('ZADD', key.running(p, job.queue), int(now + lease), id)
  if job.group then groups.restart(w, p, job.queue, id, job) end
  change(w, p, id, job)
  return true
end

-- Puts a live job where its status requires, as if it had just arrived there: ready at the front, delayed until its time. A
-- job that no worker runs any more is ready again, uncharged: it is not at fault.
local function put_back(w, p, now, id, job)
  list_queue(w, p, now, job.queue)
  if job.status == 'running' then
    if put_back_running(w, p, now, id, job) then return end
    leave_running(w, p, id, job)
  end
  if job.cancel_requested then return to_terminal(w, p, id, job, 'canceled', now, 'error', CANCELED) end
  if job.status == 'queued' then return to_ready(w, p, id, job, 'RPUSH') end
  if job.status ~= 'running' then
    return to_delayed(w, p, id, job, job.status, job.run_at and num(job.run_at) or now)
  end
  local history = history_with(p, id, job, now, 'healed')
  uncharge(job)
  to_ready(w, p, id, job, 'RPUSH', 'history', history)
end
