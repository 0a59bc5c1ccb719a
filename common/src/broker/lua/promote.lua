-- promote(w, p, queue, now, most): move due jobs of one queue from delayed to ready, the earliest due first.
--
-- Uses: keys, core, lifecycle
--
-- Called inside `exchange` and `sweep`. Ids without a job, or whose job is elsewhere, are only removed from the set. Returns
-- how many ids it read; `most` of them means there may be more.

local function is_delayed(job) return job and (job.status == 'scheduled' or job.status == 'retrying') end

local function promote(w, p, queue, now, most)
  local ids = redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local name = key.job(p, id)
    local values = redis.pcall('HMGET', name, 'state', 'optional')
    w:add('ZREM', key.delayed(p, queue), id)
    if not (fast.promote and fast.promote(w, p, id, name, values)) then
      local job, unreadable = job_of(name, values)
      if unreadable then quarantine(w, p, id, now) end
      if is_delayed(job) then to_ready(w, p, id, job, 'LPUSH') end
    end
  end
  return #ids
end

-- Milliseconds until the earliest delayed job of the queue is due, or nil.
local function next_due(p, queue, now)
  local first = redis.call('ZRANGE', key.delayed(p, queue), 0, 0, 'WITHSCORES')
  return first[2] and math.max(tonumber(first[2]) - now, 0)
end
