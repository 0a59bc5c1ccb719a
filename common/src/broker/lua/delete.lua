-- delete: remove an ended job; a tombstone without payload stays for 24 h.
--
-- Uses: register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
-- Returns  1  deleted
--          0  not ended
--         -2  no such job, or only its tombstone
-- Touches the job's hash, log and events, its error group, its indexes, its lock, and its queue's failed and finished.
local function delete(p, argv)
  local id, w = argv[1], writes()
  local job = read_job(p, id)
  if not job then return -2 end
  if job.status ~= 'succeeded' and job.status ~= 'failed' and job.status ~= 'canceled' then return 0 end
  to_tombstone(w, p, id, job, 'deleted')
  w:commit()
  return 1
end

register('delete', delete, { 'allow-oom' })
