-- promote(w, p, queue, now, most): move due jobs of one queue from delayed to ready, the earliest due first.
--
-- Called inside `exchange` and `sweep`. Ids without a job, or whose job stands elsewhere, just leave the set.
-- Returns how many ids it looked at; `most` of them means there may be more.

-- Rare fields that tell into which lane a job comes, or whose job's change is told of.
local PROMOTED_OPTIONAL = { 'priority', 'losses', 'unheard', 'waiting_for', 'watched' }

local function waits_for_its_time(job) return job and (job.status == 'scheduled' or job.status == 'retrying') end

-- Jobs of one queue that nothing has happened to but that they wait are in the same state, word for word: one group. What becomes
-- of them is worked out once; false if these words are not of that kind.
local function promoted_alike(w, p, state)
  local job = read_state(state)
  if not waits_for_its_time(job) then return w:group(state, false) end
  job.status, job.version = 'queued', num(job.version) + 1
  return w:group(state, { write = write_states, count = 0, names = {}, state = state_of(job),
    ids = w:one('LPUSH', key.ready(p, job.queue, NORMAL)) })
end

-- A job that nothing rare sets apart: what `to_ready` comes to. Returns whether it is one.
local function promote_plain(w, p, id, name, values)
  local state, optional = values[1], values[2]
  if not (state and has_none(optional, PROMOTED_OPTIONAL)) then return false end
  local group = w.groups[state]
  if group == nil then group = promoted_alike(w, p, state) end
  if not group then return false end
  local count = group.count + 1
  group.names[count], group.count = name, count
  put(group.ids, id)
  return true
end

local function promote(w, p, queue, now, most)
  local ids = redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    local name = key.job(p, id)
    local values = redis.pcall('HMGET', name, 'state', 'rare')
    w:add('ZREM', key.delayed(p, queue), id)
    if not promote_plain(w, p, id, name, values) then
      local job, unreadable = job_of(name, values)
      if unreadable then quarantine(w, p, id, now) end
      if waits_for_its_time(job) then to_ready(w, p, id, job, 'LPUSH') end
    end
  end
  return #ids
end

-- Milliseconds until the earliest delayed job of the queue is due, or nil.
local function next_due(p, queue, now)
  local first = redis.call('ZRANGE', key.delayed(p, queue), 0, 0, 'WITHSCORES')
  return first[2] and math.max(tonumber(first[2]) - now, 0)
end
