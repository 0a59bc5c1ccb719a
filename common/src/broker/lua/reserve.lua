-- reserve: claim an idempotency key for a job that lives in another partition, before the job is submitted there.
--
-- Uses: keys, register, core
--
-- KEYS 1  the layout of the key's partition
-- ARGV 1  digest of the key   2  the job's id   3  fingerprint of the request   4  how long the key is kept, ms
--      5  an id under which there is no job, or '': a key that names it gets the new one
-- Returns {1, id}   claimed for this id, now or by an earlier call with it
--         {3, id}   the same key with the same fingerprint is claimed for that job
--         {-1, id}  the same key was used for another request
-- Touches the idempotency key. Repeating the call changes nothing.
--
-- The one exception to "one change is one step": a function sees one partition only. If the process dies between the two steps,
-- the key names a job that does not exist; the repeated request gets the same id, and submits it.
-- Without `allow-oom`: a full Redis rejects the call before it starts.
local function reserve(p, argv)
  local name, w = key.idempotency(p, argv[1]), writes()
  local claimed = redis.call('GET', name)
  if claimed then
    local id, print = string.match(claimed, '^(%S+) (%S+)$')
    if print ~= argv[3] then return { -1, id } end
    if id ~= argv[5] then return { id == argv[2] and 1 or 3, id } end
  end
  use_feature(w, p, 'groups')
  w:call('SET', name, argv[2] .. ' ' .. argv[3], 'PX', argv[4])
  w:commit()
  return { 1, argv[2] }
end

register('reserve', reserve, {})
