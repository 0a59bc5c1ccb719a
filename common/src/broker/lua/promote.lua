-- promote(w, p, queue, now, most): move due jobs of one queue from delayed to ready, the earliest due first.
--
-- Called inside `exchange` and `sweep`. Ids without a job, or whose job stands elsewhere, just leave the set.
-- Returns how many ids it looked at; `most` of them means there may be more.
local function promote(w, p, queue, now, most)
  local ids = redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local job, unreadable = read_job(p, id)
    w:add('ZREM', key.delayed(p, queue), id)
    if unreadable then
      quarantine(w, p, id, now)
    elseif job and (job.status == 'scheduled' or job.status == 'retrying') then
      to_ready(w, p, id, job, 'LPUSH')
    end
  end
  return #ids
end

-- Milliseconds until the earliest delayed job of the queue is due, or nil.
local function next_due(p, queue, now)
  local first = redis.call('ZRANGE', key.delayed(p, queue), 0, 0, 'WITHSCORES')
  return first[2] and math.max(tonumber(first[2]) - now, 0)
end
