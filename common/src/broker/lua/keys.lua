-- The only place in Lua where keys are spelled; `broker/keys.rs` spells the same in Rust, and a test compares the two. `p` is
-- the partition's root, e.g. `crunch:{0}`: it has the hash tag, so all keys of one partition are on one node. Names and ids
-- were validated by the callers.

local key = {}

function key.layout(p) return p .. ':layout' end
-- Two keys that never exist, 1 and 2.
function key.absent(p, number) return p .. ':absent:' .. number end
function key.sweep(p) return p .. ':sweep' end
function key.queues(p) return p .. ':queues' end
function key.names(p) return p .. ':queues:names' end
function key.paused(p) return p .. ':paused' end
function key.side_queues(p) return p .. ':queues:side' end
function key.ended_queues(p) return p .. ':queues:ended' end
function key.confined(p) return p .. ':queues:confined' end
function key.due(p) return p .. ':due' end
function key.workers(p) return p .. ':workers' end
function key.leases(p) return p .. ':leases' end
function key.worker(p, worker) return p .. ':worker:' .. worker end
function key.control(p, worker) return p .. ':worker:' .. worker .. ':control' end
function key.reserved(p) return p .. ':reserved' end
function key.tasks(p) return p .. ':tasks' end
function key.tasks_seen(p) return p .. ':tasks:seen' end
function key.tasks_version(p) return p .. ':tasks:version' end
function key.quarantine(p) return p .. ':quarantine' end
function key.changes(p) return p .. ':changes' end
function key.recent(p) return p .. ':recent' end
function key.audit(p) return p .. ':audit' end
function key.errors(p) return p .. ':errors' end
function key.error(p, group) return p .. ':error:' .. group end
function key.error_jobs(p, group) return p .. ':error:' .. group .. ':jobs' end
function key.index(p, index) return p .. ':index:' .. index end
function key.actions(p) return p .. ':actions' end
function key.history(p, unit, span) return p .. ':history:' .. unit .. ':' .. span end
function key.history_queues(p, unit, span) return p .. ':history:' .. unit .. ':' .. span .. ':queues' end
function key.limits(p) return p .. ':limits' end
function key.limit_rates(p) return p .. ':limits:rates' end
function key.schedules(p) return p .. ':schedules' end
function key.schedule_names(p) return p .. ':schedules:names' end
function key.schedule(p, name) return p .. ':schedule:' .. name end
function key.lock(p, digest) return p .. ':lock:' .. digest end
function key.idempotency(p, digest) return p .. ':idempotency:' .. digest end

function key.job(p, id) return p .. ':job:' .. id end
function key.log(p, id) return p .. ':job:' .. id .. ':log' end
function key.events(p, id) return p .. ':job:' .. id .. ':events' end

function key.ready(p, queue, lane) return p .. ':queue:' .. queue .. ':ready:' .. lane end
function key.parked(p, queue) return p .. ':queue:' .. queue .. ':parked' end
function key.deadlines(p, queue) return p .. ':queue:' .. queue .. ':deadlines' end
function key.ghosts(p, queue) return p .. ':queue:' .. queue .. ':ghosts' end
function key.delayed(p, queue) return p .. ':queue:' .. queue .. ':delayed' end
function key.running(p, queue) return p .. ':queue:' .. queue .. ':running' end
function key.failed(p, queue) return p .. ':queue:' .. queue .. ':failed' end
function key.finished(p, queue) return p .. ':queue:' .. queue .. ':finished' end
function key.group(p, queue, group) return p .. ':queue:' .. queue .. ':group:' .. group end
function key.grouped_running(p, queue) return p .. ':queue:' .. queue .. ':grouped_running' end
function key.grouped(p, queue) return p .. ':queue:' .. queue .. ':grouped' end
function key.runnable(p, queue) return p .. ':queue:' .. queue .. ':runnable' end
function key.idle_groups(p, queue) return p .. ':queue:' .. queue .. ':idle_groups' end
function key.turns(p, queue) return p .. ':queue:' .. queue .. ':turns' end
function key.rules(p, queue) return p .. ':queue:' .. queue .. ':rules' end
function key.rates(p, queue) return p .. ':queue:' .. queue .. ':rates' end
function key.delayed_groups(p, queue) return p .. ':queue:' .. queue .. ':delayed_groups' end
function key.blocked_groups(p, queue) return p .. ':queue:' .. queue .. ':blocked_groups' end
function key.wake(p, queue) return p .. ':queue:' .. queue .. ':wake' end
function key.ended(p, queue, bucket) return p .. ':queue:' .. queue .. ':ended:' .. bucket end

-- Caches what is made of a queue's name: every call needs it. At most this many at a time.
local NAMES_KEPT = 4096
local function cached(make)
  local partitions, count = {}, 0
  return function(p, queue, lane)
    local queues = partitions[p]
    local names, which = queues and queues[queue], lane or 1
    local made = names and names[which]
    if made then return made end
    if count >= NAMES_KEPT then partitions, count, queues, names = {}, 0, nil, nil end
    if not queues then
      queues = {}
      partitions[p] = queues
    end
    if not names then
      names = {}
      queues[queue] = names
    end
    made, count = make(p, queue, lane), count + 1
    names[which] = made
    return made
  end
end

key.ready, key.ghosts, key.delayed, key.wake = cached(key.ready), cached(key.ghosts), cached(key.delayed), cached(key.wake)
key.running, key.finished, key.failed = cached(key.running), cached(key.finished), cached(key.failed)
key.runnable, key.grouped = cached(key.runnable), cached(key.grouped)
key.grouped_running = cached(key.grouped_running)
