-- heartbeat: extend the leases a worker names, return which it lost or should cancel, and sweep if a sweep is due.
--
-- Uses: keys, register, core, sweep, history
--
-- KEYS 1  the partition's layout
-- ARGV 1  worker   2  lease, ms   3  its description (JSON, opaque)   4  slots busy
--      5  '' in the first call of a heartbeat, 'more' in those that name further leases
--      6  when the worker saw that nothing was due; '': see `sweep`
--      7  how attempts ended since the last heartbeat, to the first partition only, or '': the number of these counts, then
--      a line for each series, see `history`. They are added once, however often they are sent; and, but for
--      the first ones of a worker, never if Redis does not know it any more, and so not whether they were added
--      then two for each lease: id, epoch
-- Returns {known, more, features, wanted, requeued, failed, overdue, expired, verdict, …}: known = 0 if this Redis had no record of the
-- worker: it is its first heartbeat, or its record has expired, or Redis lost its data, and with it what the worker has
-- announced; more = 1 if a sweep was due and stopped by budget; features: see `open`; wanted: what an operator requested
-- last, see `steer`, or ''; requeued, failed, overdue, expired: what the sweep did, see `sweep`; then one
-- verdict for each lease, in order: 1 extended, 2 extended and to be canceled, -1 lost. A worker that was declared dead
-- (`dead`) has lost all, and is not registered again.
-- Touches the worker's hash, `workers`, `leases`, `running` of the jobs' queues, `history`, and what `sweep` touches.
local function beat(w, p, now, worker, lease, id, epoch)
  local job = read_job(p, id)
  if not holds(job, epoch, worker) then return -1 end
  w:add('ZADD', key.running(p, job.queue), int(now + lease), id)
  return job.cancel_requested and 2 or 1
end

-- Adds the counts, unless they were added before.
local function count_once(p, now, worker, known, text)
  local number, lines = string.match(text, '^(%d+)\n(.*)$')
  if not number then return end
  local w = writes()
  w:call('HSET', key.worker(p, worker), 'counted', number)
  if (known[1] or number == '1') and num(number) > num(known[3]) then history.count(w, p, now, lines) end
  w:commit()
end

local function heartbeat(p, argv)
  local now, w = now_ms(), writes()
  local worker, lease, running = argv[1], num(argv[2]), {}
  local known = redis.call('HMGET', key.worker(p, worker), 'running', 'dead', 'counted', 'wanted')
  if argv[5] == 'more' then running[1] = known[1] or nil end
  local replies = { (known[1] or known[2]) and 1 or 0, 0, features(p), known[4] or '', 0, 0, 0, 0 }
  for at = 8, #argv, 2 do
    replies[#replies + 1] = known[2] and -1 or beat(w, p, now, worker, lease, argv[at], argv[at + 1])
    running[#running + 1] = argv[at]
  end
  if known[2] then return replies end
  w:call('HSET', key.worker(p, worker), 'info', argv[3], 'seen', int(now), 'lease', int(lease), 'busy', argv[4],
    'running', table.concat(running, '\n'))
  w:call('PEXPIRE', key.worker(p, worker), WORKER_KEPT_MS)
  w:call('ZADD', key.workers(p), int(now), worker)
  w:call('ZADD', key.leases(p), int(lease), worker)
  w:commit()
  -- Whatever error the history or a sweep hits, the verdicts must reach their worker.
  pcall(count_once, p, now, worker, known, argv[7])
  local swept, counts = pcall(sweep_if_due, p, now, writes(), nil, argv[6])
  if swept then
    replies[2] = counts[6]
    replies[5], replies[6], replies[7], replies[8] = counts[2], counts[3], counts[7], counts[8]
  end
  return replies
end

register('heartbeat', heartbeat, { 'allow-oom' })
