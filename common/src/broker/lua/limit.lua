-- limit: set or remove the limit of a queue, at its home: how many of its jobs run, and start in a time. It applies at once; what
-- runs beyond a lower limit runs on.
-- confine: let a partition that is not the home of a queue with a limit refuse its jobs, or accept them again.
--
-- Uses: keys, register, core, lifecycle
--
-- What runs is counted where it runs, so all jobs of a queue with a limit are in one partition. A change takes several calls, since
-- a function sees one partition: `limit` without a version begins it, and returns a version; `confine` in every other partition
-- says how many jobs are left there; and `limit` with that version makes it, unless another change began since. A limit is
-- removed first at the home, then `confine` ends in the others. If the process dies between, the queue is confined to its
-- home without need, until the change is repeated.
--
-- limit    KEYS 1  the layout of the queue's home
--          ARGV 1  queue   2  '' to begin a change, else its version   3  the rule (see limits.lua), or '' for none
--               4  '1' if the queue is known elsewhere and may be made known here; else ''
--          Returns the version; 0 if the queue is not known here; -1 if another change began since. Then nothing was changed.
-- confine  KEYS 1  the partition's layout
--          ARGV 1  queue   2  version of the change   3  number of its home, or '-' to accept its jobs again
--          Returns how many jobs of the queue wait or run here; -1 if it knows a later change.
-- Touches `rules` and `wake` of the queue, `queues:confined`, `queues`, `queues:names`, `queues:side`, `layout`. Repeating a call
-- changes nothing.

-- How many jobs of the queue wait or run.
local function count_live(p, queue)
  local count = redis.call('ZCARD', key.delayed(p, queue)) + redis.call('ZCARD', key.grouped(p, queue))
    + redis.call('ZCARD', key.running(p, queue)) - redis.call('SCARD', key.ghosts(p, queue))
  for _, lane in ipairs(all_lanes(p, queue)) do count = count + redis.call('LLEN', key.ready(p, queue, lane)) end
  return count
end

-- A version is the time when the change began, or one more than the last.
local function begin(w, p, now, queue)
  local version = int(math.max(now, num(redis.call('HGET', key.rules(p, queue), 'version')) + 1))
  w:call('HSET', key.rules(p, queue), 'version', version)
  return version
end

local function write_limit(w, p, queue, rule)
  if rule == '' then return w:call('HDEL', key.rules(p, queue), 'queue', 'version') end
  w:call('HSET', key.rules(p, queue), 'queue', rule)
  add_side_queue(w, p, queue)
end

local function limit(p, argv)
  local queue, version, now, w = argv[1], argv[2], now_ms(), writes()
  if argv[4] ~= '1' and not is_listed(p, queue) then return 0 end
  if version ~= '' and redis.call('HGET', key.rules(p, queue), 'version') ~= version then return -1 end
  use_feature(w, p, 'limits')
  list_queue(w, p, now, queue)
  if version == '' then version = begin(w, p, now, queue) else write_limit(w, p, queue, argv[3]) end
  w:commit()
  wake(w, p, { queue }, is_claimable)
  w:commit()
  return tonumber(version)
end

local function confine(p, argv)
  local queue, version, w = argv[1], argv[2], writes()
  local known = string.match(redis.call('HGET', key.confined(p), queue) or '', '^%d+')
  if num(known) > num(version) then return -1 end
  use_feature(w, p, 'limits')
  list_queue(w, p, now_ms(), queue)
  w:call('HSET', key.confined(p), queue, version .. ' ' .. argv[3])
  if argv[3] ~= '-' then add_side_queue(w, p, queue) end
  w:commit()
  return count_live(p, queue)
end

register('limit', limit, { 'allow-oom' })
register('confine', confine, { 'allow-oom' })
