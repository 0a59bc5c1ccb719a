-- mute: report no further ends of this job: the receiver of its webhook answered that it no longer exists.
--
-- Uses: register, core
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
-- Returns 1 muted, now or before · 0 it has no webhook · -2 no such job
-- Touches the job's hash. Deliveries that exist already remain.
local function mute(p, argv)
  local id, w = argv[1], writes()
  local job = read_job(p, id)
  if not job then return -2 end
  if not job.webhook then return 0 end
  -- Without the first line no end is reported; the others still show which deliveries there were. The version stays: nothing
  -- visible of the job has changed.
  local muted = string.gsub(job.webhook, '^[^\n]*', '')
  w:call('HSET', job.key, 'webhook', muted)
  w:commit()
  return 1
end

register('mute', mute, { 'allow-oom' })
