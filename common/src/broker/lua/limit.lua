-- limit: set or remove the limit of a queue, at its home: how many of its jobs run, and start in a time. It applies at once; what
-- runs beyond a lower limit runs on.
-- confine: let a partition that is not the home of a queue with a limit refuse its jobs, or accept them again.
-- share: set or remove a limit that queues share, at its home, which is theirs.
--
-- Uses: keys, register, core, limits, lifecycle
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
--          Returns the version; 0 if the queue is not known here; -1 if another change began since; -2 if there is no limit of a
--          name that the rule has; -3 if as many queues as may share one of them. Then nothing was changed.
-- confine  KEYS 1  the partition's layout
--          ARGV 1  queue   2  version of the change   3  number of its home, or '-' to accept its jobs again
--          Returns how many jobs of the queue wait or run here; -1 if it knows a later change.
-- share    KEYS 1  the layout of the limit's home
--          ARGV 1  name   2  the rule, or '' for none
--          Returns {1, queue, …}, with the queues that share it, or did; {0} if there was none to remove; {-1} if there are as
--          many limits as may be. The queues of a removed limit are not limited by it any more.
-- Touches `limits`, `limits:rates`, `rules` and `wake` of the queues, `queues:confined`, `queues`, `queues:names`, `queues:side`,
-- `layout`. Repeating a call changes nothing.

-- How many limits may be shared in a partition, and by how many queues each: what is counted is counted in each claim.
local SHARED_MOST, SHARING_MOST = 100, 16

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

-- The names without that one, which is their last if it `stays`.
local function with(names, name, stays)
  local others = {}
  for _, other in ipairs(names) do
    if other ~= name then others[#others + 1] = other end
  end
  if stays then others[#others + 1] = name end
  return others
end

-- What becomes of the shared limits when a queue has this rule: by name, their rules. Or why it cannot have it.
local function shared_with(p, queue, rule)
  local changed = {}
  for _, name in ipairs(limits.names_of(redis.call('HGET', key.rules(p, queue), 'queue') or '')) do
    local text = redis.call('HGET', key.limits(p), name)
    if text then changed[name] = limits.with_names(text, with(limits.names_of(text), queue)) end
  end
  for _, name in ipairs(limits.names_of(rule)) do
    local text = redis.call('HGET', key.limits(p), name)
    if not text then return nil, -2 end
    local queues = with(limits.names_of(text), queue, true)
    if #queues > SHARING_MOST then return nil, -3 end
    changed[name] = limits.with_names(text, queues)
  end
  return changed
end

local function write_limit(w, p, queue, rule, shared)
  for name, text in pairs(shared) do w:call('HSET', key.limits(p), name, text) end
  if rule == '' then return w:call('HDEL', key.rules(p, queue), 'queue', 'version') end
  w:call('HSET', key.rules(p, queue), 'queue', rule)
  add_side_queue(w, p, queue)
end

local function limit(p, argv)
  local queue, version, now, w = argv[1], argv[2], now_ms(), writes()
  if argv[4] ~= '1' and not is_listed(p, queue) then return 0 end
  if version ~= '' and redis.call('HGET', key.rules(p, queue), 'version') ~= version then return -1 end
  local shared, refusal = shared_with(p, queue, argv[3])
  if refusal then return refusal end
  use_feature(w, p, 'limits')
  list_queue(w, p, now, queue)
  if version == '' then version = begin(w, p, now, queue) else write_limit(w, p, queue, argv[3], shared) end
  w:commit()
  local queues = { queue }
  for _, text in pairs(shared) do
    for _, other in ipairs(with(limits.names_of(text), queue)) do queues[#queues + 1] = other end
  end
  wake(w, p, queues, is_claimable)
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

local function share(p, argv)
  local name, rule, w = argv[1], argv[2], writes()
  local text = redis.call('HGET', key.limits(p), name)
  if not text and rule == '' then return { 0 } end
  if not text and redis.call('HLEN', key.limits(p)) >= SHARED_MOST then return { -1 } end
  local queues = limits.names_of(text or '')
  if rule == '' then
    w:call('HDEL', key.limits(p), name)
    w:call('ZREM', key.limit_rates(p), name)
    for _, queue in ipairs(queues) do
      local own = redis.call('HGET', key.rules(p, queue), 'queue')
      if own then w:call('HSET', key.rules(p, queue), 'queue', limits.with_names(own, with(limits.names_of(own), name))) end
    end
  else
    use_feature(w, p, 'limits')
    w:call('HSET', key.limits(p), name, limits.with_names(rule, queues))
  end
  w:commit()
  wake(w, p, queues, is_claimable)
  w:commit()
  return { 1, unpack(queues) }
end

register('limit', limit, { 'allow-oom' })
register('confine', confine, { 'allow-oom' })
register('share', share, { 'allow-oom' })
