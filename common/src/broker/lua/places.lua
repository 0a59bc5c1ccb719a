-- Where an id is, as far as one step can find out: the basis of `examine`. Only reads.
--
-- Uses: keys, core
--
-- A place is a lane of a queue's ready lists, including those of parked jobs, or one of its sets. A set needs one read. A
-- list must be searched, and may be long: it is searched near its ends, and near the index where a walk met the id; and
-- `finished`, whose members are many ids each, at the time when the job expires.

-- How far from either end; it takes about a tenth of a millisecond.
local LIST_LOOKS = 10000
-- How far beyond the index where an id was met: new jobs push it along. A walk queries what it meets at once.
local PUSHED_ALONG = 1000

local SETS = { 'delayed', 'running', 'deadlines', 'finished', 'failed', 'ghosts', 'grouped' }

local function lane_in(place) return string.match(place, '^ready:(%S+)$') end

local function contains(list, wanted)
  for _, element in ipairs(list) do
    if element == wanted then return true end
  end
  return false
end

-- When a job expires, and the time at which a walk met it in `finished`: that set is searched only there.
local function times_of(suspect, job)
  local times = { job and job.expires_at or nil }
  if suspect.place == 'finished' then times[#times + 1] = suspect.index end
  return times
end

local function is_finished(p, queue, id, times)
  for _, time in ipairs(times) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key.finished(p, queue), time, time)) do
      if string.find(member, id, 1, true) then return true end
    end
  end
  return false
end

local function is_in(p, queue, set, id, times)
  if set == 'ghosts' then return redis.call('SISMEMBER', key.ghosts(p, queue), id) == 1 end
  if set == 'finished' then return is_finished(p, queue, id, times) end
  return redis.call('ZSCORE', key[set](p, queue), id) ~= false
end

-- Whether the walk met it somewhere in the middle of this lane, and it is still there.
local function is_deep(p, suspect, queue, lane)
  if suspect.index == '' or suspect.queue ~= queue or lane_in(suspect.place) ~= lane then return false end
  local first = num(suspect.index)
  return contains(redis.call('LRANGE', key.ready(p, queue, lane), first, first + PUSHED_ALONG), suspect.id)
end

-- How often an id is in a lane: `tail` times near the end that is claimed from, `head` times near the other, or `deep`
-- between them; `whole` is whether the whole lane was searched.
local function search_lane(p, suspect, queue, lane)
  local name, id = key.ready(p, queue, lane), suspect.id
  local length = redis.call('LLEN', name)
  local tail = redis.call('LPOS', name, id, 'RANK', -1, 'COUNT', 0, 'MAXLEN', LIST_LOOKS)
  local rest = math.min(length - LIST_LOOKS, LIST_LOOKS)
  local head = rest > 0 and redis.call('LPOS', name, id, 'COUNT', 0, 'MAXLEN', rest) or {}
  local at = { queue = queue, lane = lane, tail = #tail, head = #head, whole = length <= 2 * LIST_LOOKS }
  at.count = at.tail + at.head
  at.deep = at.count == 0 and not at.whole and is_deep(p, suspect, queue, lane)
  if at.deep then at.count = 1 end
  return at
end

-- Whether a walk proves what the search of a long list cannot: it did not meet the id, the job has not changed since before
-- the walk, and nothing was removed from a list meanwhile.
local function walk_proves(p, suspect, version)
  if suspect.version == '' or suspect.version ~= version then return false end
  return suspect.removals == (redis.call('HGET', key.audit(p), 'removals') or '0')
end

-- How often an id is in these lanes of a queue; whether that is certain; and where.
local function count_in_lanes(p, suspect, queue, lanes, version)
  local count, whole, places = 0, true, {}
  for _, lane in ipairs(lanes) do
    local at = search_lane(p, suspect, queue, lane)
    count, whole = count + at.count, whole and at.whole
    if at.count > 0 then places[#places + 1] = at end
  end
  return count, whole or count > 0 or walk_proves(p, suspect, version), places
end
