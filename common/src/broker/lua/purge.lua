-- purge: cancel what waits in a queue: the queued jobs and the scheduled ones. Those that wait for another attempt have run,
-- and are left.
--
-- Uses: keys, register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  queue   2  '' in the first call; in further ones, what the one before passed
--      3  '' in the first call; in further ones, when the first was made: jobs submitted since are left
-- Returns {canceled, passed, more, when the first call was made}. `passed`: how many of the earliest delayed jobs, and of the jobs
-- in groups, this purge met and left. `more` = 1: stopped by budget (100 jobs read), call again. canceled = -1 if the queue is
-- not known here.
-- Touches the jobs' hashes, logs and events, and the queue's ready, ghosts, delayed and finished, and the sets of its groups.
local PURGE_LOOKS = 100

local function purge_one(w, p, id, job, now)
  to_terminal(w, p, id, job, 'canceled', now, 'cancel_requested', '1', 'error', CANCELED)
end

-- Cancels the oldest jobs of one lane, within the budget of the call. Jobs submitted since the first call, and all behind
-- them, stay.
local function purge_lane(w, p, name, queue, now, call)
  local dropped = 0
  local ids = redis.call('LRANGE', name, -call.looks, -1)
  for at = #ids, 1, -1 do
    local job, unreadable = read_job(p, ids[at], SPEC)
    if job and job.status == 'queued' and created_at(job) > call.since then break end
    if unreadable then quarantine(w, p, ids[at], now) end
    if job and job.status == 'queued' then
      purge_one(w, p, ids[at], job, now)
      call.canceled = call.canceled + 1
    else
      w:add('SREM', key.ghosts(p, queue), ids[at])
    end
    dropped = dropped + 1
  end
  if dropped > 0 then w:call('RPOP', name, dropped) end
  call.looks = call.looks - dropped
end

-- Cancels jobs with this status in one of the queue's sets, after the first `skip`. Returns how many of the set it passed.
local function purge_set(w, p, name, status, now, call, skip)
  local ids = redis.call('ZRANGE', name, skip, skip + call.looks - 1)
  for _, id in ipairs(ids) do
    local job = read_job(p, id, SPEC)
    if job and job.status == status and created_at(job) <= call.since then
      remove_waiting(w, p, id, job)
      purge_one(w, p, id, job, now)
      call.canceled = call.canceled + 1
    else
      skip = skip + 1
    end
  end
  call.looks = call.looks - #ids
  return skip
end

local function purge(p, argv)
  local now, w, queue = now_ms(), writes(), argv[1]
  local call = { canceled = 0, looks = PURGE_LOOKS, since = argv[3] == '' and now or num(argv[3]) }
  local delayed, grouped = string.match(argv[2], '^(%d+) (%d+)$')
  if not is_listed(p, queue) then return { -1, '', 0, int(call.since) } end
  delayed = purge_set(w, p, key.delayed(p, queue), 'scheduled', now, call, num(delayed))
  if call.looks > 0 then grouped = purge_set(w, p, key.grouped(p, queue), 'queued', now, call, num(grouped)) end
  for _, lane in ipairs(all_lanes(p, queue)) do
    if call.looks > 0 then purge_lane(w, p, key.ready(p, queue, lane), queue, now, call) end
  end
  count_ended(w, p, now)
  w:commit()
  return { call.canceled, int(delayed) .. ' ' .. int(num(grouped)), call.looks <= 0 and 1 or 0, int(call.since) }
end

register('purge', purge, { 'allow-oom' })
