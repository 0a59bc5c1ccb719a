-- Every key a function touches is spelled here, and nowhere else in Lua; `broker/keys.rs` spells the same in Rust, and
-- a test compares the two. `p` is the partition's root, e.g. `crunch:{0}`: it carries the hash tag, so all keys of one
-- partition live on one node. Names and ids were validated before they came here.

local key = {}

function key.layout(p) return p .. ':layout' end
function key.sweep(p) return p .. ':sweep' end
function key.queues(p) return p .. ':queues' end
function key.paused(p) return p .. ':paused' end
function key.workers(p) return p .. ':workers' end
function key.leases(p) return p .. ':leases' end
function key.worker(p, worker) return p .. ':worker:' .. worker end
function key.control(p, worker) return p .. ':worker:' .. worker .. ':control' end
function key.reserved(p) return p .. ':reserved' end
function key.tasks(p) return p .. ':tasks' end
function key.tasks_seen(p) return p .. ':tasks:seen' end
function key.quarantine(p) return p .. ':quarantine' end
function key.changes(p) return p .. ':changes' end
function key.audit(p) return p .. ':audit' end
function key.idempotency(p, digest) return p .. ':idempotency:' .. digest end

function key.job(p, id) return p .. ':job:' .. id end
function key.log(p, id) return p .. ':job:' .. id .. ':log' end
function key.events(p, id) return p .. ':job:' .. id .. ':events' end

function key.ready(p, queue, lane) return p .. ':queue:' .. queue .. ':ready:' .. lane end
function key.ghosts(p, queue) return p .. ':queue:' .. queue .. ':ghosts' end
function key.delayed(p, queue) return p .. ':queue:' .. queue .. ':delayed' end
function key.running(p, queue) return p .. ':queue:' .. queue .. ':running' end
function key.failed(p, queue) return p .. ':queue:' .. queue .. ':failed' end
function key.finished(p, queue) return p .. ':queue:' .. queue .. ':finished' end
function key.wake(p, queue) return p .. ':queue:' .. queue .. ':wake' end
function key.ended(p, queue, bucket) return p .. ':queue:' .. queue .. ':ended:' .. bucket end
