-- reclaim: take back at once what a dead worker held, instead of waiting for its leases to expire. For a supervisor that saw
-- the process end; no other process can know. Counts a loss for every job, as a sweep would.
--
-- Uses: keys, register, core, limits, lifecycle, take_back
--
-- KEYS 1  the partition's layout
-- ARGV 1  worker   2  where in the first queue to continue: '0', or what the last call returned
--      then queues, at most 32
-- Returns {requeued, failed, queues done, where to continue in the next one}. Stops by budget (100 leases read); call again
-- with the queues that are left. Idempotent.
-- Touches the worker's hash, `workers`, `leases`, `reserved`, `queues:side`, `queues:ended`, `recent`, error groups, jobs'
-- hashes, and per queue running, ready, finished, failed and wake.
--
-- What a worker holds is recorded only in its jobs: an index would cost every claim something, and a worker seldom dies. So
-- all running jobs are read; that is as many as the whole fleet has slots. A scan of the set misses no job that is in it from
-- start to end, and from the first call on the dead worker gets no new leases.
local RECLAIM_LOOKS = 100

-- A call that the dead worker sent before may arrive after this: it finds that its worker was declared dead. The mark
-- is kept longer than any network delays a call.
local function fence_off(w, p, worker)
  w:call('DEL', key.worker(p, worker))
  w:call('HSET', key.worker(p, worker), 'dead', '1')
  w:call('PEXPIRE', key.worker(p, worker), WORKER_KEPT_MS)
  w:call('ZREM', key.workers(p), worker)
  w:call('ZREM', key.leases(p), worker)
  local chosen = redis.call('GET', key.reserved(p)) or ''
  if string.match(chosen, '^%S+') == worker then w:call('DEL', key.reserved(p)) end
  w:commit()
end

-- One step through a queue's leases; returns where to continue, '0' at the end.
local function reclaim_some(w, p, now, worker, queue, cursor, taken)
  local found = redis.call('ZSCAN', key.running(p, queue), cursor, 'COUNT', taken.looks)
  for at = 1, #found[2], 2 do
    local id = found[2][at]
    local job = read_job(p, id)
    if job and job.worker == worker then take_back(w, p, now, queue, id, nil, taken) end
  end
  taken.looks = taken.looks - math.max(#found[2] / 2, 1)
  w:commit()
  wake(w, p, { queue, unpack(limits.siblings(p, queue)) }, is_claimable)
  w:commit()
  return found[1]
end

local function reclaim(p, argv)
  local now, w, worker, cursor = now_ms(), writes(), argv[1], argv[2]
  local taken = { requeued = 0, failed = 0, looks = RECLAIM_LOOKS }
  local at = 3
  fence_off(w, p, worker)
  while at <= #argv and taken.looks > 0 do
    cursor = reclaim_some(w, p, now, worker, argv[at], cursor, taken)
    if cursor == '0' then at = at + 1 end
  end
  count_ended(w, p, now)
  w:commit()
  return { taken.requeued, taken.failed, at - 3, cursor }
end

register('reclaim', reclaim, { 'allow-oom' })
