-- delete: forget a finished job, leaving a tombstone without payload for 24 h.
--
-- KEYS 1  the partition's root
-- ARGV 1  id
-- Returns 1 deleted · 0 not finished · -2 no such job
-- Touches the job's hash and log, and its queue's failed and finished.
local TOMBSTONE_KEPT_MS = 86400000

local function delete(keys, argv)
  local p, id, w = keys[1], argv[1], writes()
  local job = read_job(p, id, { 'status', 'queue' })
  if not job then return -2 end
  if job.status ~= 'succeeded' and job.status ~= 'failed' and job.status ~= 'canceled' then return 0 end
  w:call('DEL', key.job(p, id), key.log(p, id))
  w:call('ZREM', key.finished(p, job.queue), id)
  w:call('ZREM', key.failed(p, job.queue), id)
  w:call('HSET', key.job(p, id), 'gone', 'deleted')
  w:call('PEXPIRE', key.job(p, id), TOMBSTONE_KEPT_MS)
  w:commit()
  return 1
end

register('delete', delete, { 'allow-oom' })
