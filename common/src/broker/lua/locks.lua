-- Locks: while one job holds a lock, another one of the same lock is not simply added: it is answered with the first, refused, takes
-- its place, or waits until it has ended.
--
-- Uses: keys, core
--
-- A lock points to its holder: `lock:<digest>` contains the id of that job, and behind it the id of its follower if it has one, a
-- job that waits for the holder. The holder's field `unique` has the digest, and until when it holds the lock: until it first
-- starts (`start`), until it ends (`end`), or for a time (`time`: Redis expires the key). The step that starts or ends the holder
-- frees the lock. One whose holder cannot hold it is free, so no record that is lost keeps others out.

local locks = {}
do
  -- The lock of a job, and until when it is held; nil if it has none.
  function locks.of(job) return string.match(job.unique or '', '^(%x+) (%l+)') end

  -- The holder of a lock and its follower, or nil: what the key contains.
  function locks.named(p, digest)
    local holder, follower = string.match(redis.call('GET', key.lock(p, digest)) or '', '^(%S+) ?(%S*)$')
    return holder, follower ~= '' and follower or nil
  end

  -- Whether a job that a lock names may hold it.
  function locks.may_hold(job, digest)
    local own, ends = locks.of(job)
    if own ~= digest then return false end
    if ends == 'time' then return true end
    if job.finished_at then return false end
    return ends == 'end' or job.status ~= 'running'
  end

  -- The holder of a lock, its record and its follower; nil if the lock is free.
  function locks.holder(p, digest)
    local id, follower = locks.named(p, digest)
    local job = id and read_job(p, id, SPEC)
    if job and locks.may_hold(job, digest) then return id, job, follower end
  end

  -- The job that keeps this one, which has ended, from running again; nil if there is none. A time began with the submission.
  function locks.conflict(p, id, job)
    local digest, ends = locks.of(job)
    if not digest or ends == 'time' then return nil end
    local holder = locks.holder(p, digest)
    return holder ~= id and holder or nil
  end

  -- Gives a lock to a job, for that many ms if it is held for a time.
  function locks.take(w, p, id, job, ms)
    local digest, ends = locks.of(job)
    if not digest then return end
    if ends ~= 'time' then return w:call('SET', key.lock(p, digest), id) end
    if ms then w:call('SET', key.lock(p, digest), id, 'PX', ms) end
  end

  -- Whether a job waits for the holder of its lock.
  function locks.follows(job)
    return job and job.status == 'scheduled' and string.find(job.waiting_for or '', '^%d+ lock ') ~= nil
  end

  -- The lock names a job no longer: its follower gets it, and waits no longer. Called when everything is written.
  local function let_go(p, digest, id)
    local holder, follower = locks.named(p, digest)
    if id == follower then
      redis.call('SET', key.lock(p, digest), holder)
    elseif id == holder and follower then
      redis.call('SET', key.lock(p, digest), follower)
      locks.make_ready(p, follower)
    elseif id == holder then
      redis.call('DEL', key.lock(p, digest))
    end
  end

  -- Frees the lock of a job that holds it no longer, or waits for it no longer.
  function locks.free(w, p, digest, id)
    if w.freed == NONE then w.freed = {} end
    w.freed[#w.freed + 1] = function() let_go(p, digest, id) end
  end

  -- A job starts.
  function locks.started(w, p, id, job)
    local digest, ends = locks.of(job)
    if ends == 'start' then locks.free(w, p, digest, id) end
  end

  -- A job ended.
  function locks.ended(w, p, id, job)
    local digest, ends = locks.of(job)
    if digest and ends ~= 'time' then locks.free(w, p, digest, id) end
  end

  -- A job is deleted: then nothing holds its lock any more, whatever time is left.
  function locks.deleted(w, p, id, job)
    local digest = locks.of(job)
    if digest then locks.free(w, p, digest, id) end
  end

  -- Whether a live job has the lock that it should have, as its holder or its follower.
  function locks.is_named(p, id, job)
    local digest, ends = locks.of(job)
    if not digest or ends == 'time' or (ends == 'start' and job.epoch) then return true end
    local holder, follower = locks.named(p, digest)
    return holder == id or follower == id
  end

  -- Whether a job that ended holds its lock still, for a time.
  function locks.outlives(p, id, job)
    local digest, ends = locks.of(job)
    return ends == 'time' and (locks.named(p, digest)) == id
  end

  -- What a lock names that it should not: its holder, or its follower; nil if all is well. A time ends, anything else does not.
  function locks.wrongly_named(p, digest)
    local holder, follower = locks.named(p, digest)
    if not holder then return nil end
    local job = read_job(p, holder)
    if not (job and locks.may_hold(job, digest)) then return holder end
    local _, ends = locks.of(job)
    if (redis.call('PTTL', key.lock(p, digest)) >= 0) ~= (ends == 'time') then return holder end
    local other = follower and read_job(p, follower)
    return follower and not (locks.follows(other) and locks.of(other) == digest) and follower or nil
  end
end
