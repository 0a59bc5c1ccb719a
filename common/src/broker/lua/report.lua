-- report: progress and log lines of many running jobs.
--
-- KEYS 1  the partition's root
-- ARGV 1  worker
--      then five a job: id, epoch, progress (0–1) or '', its message, log lines joined by '\n' or ''
-- Returns {1 | -1, …}, one a job in its order: -1 is stale, nothing was written.
-- Touches the jobs' hashes, events and logs: the newest 256 lines, at most 64 KiB. Without `allow-oom`: a full Redis
-- drops it.
local LOG_LINES, LOG_BYTES = 256, 65536

-- Appends lines and forgets the oldest beyond the limits. A line is kept as `<at, ms> <attempt> <text>`.
local function append_log(w, p, now, id, job, text)
  local name, bytes, lines = key.log(p, id), num(job.log_bytes), num(job.log_lines)
  local kept = redis.call('LLEN', name)
  for line in string.gmatch(text, '[^\n]+') do
    local entry = int(now) .. ' ' .. job.attempt .. ' ' .. line
    bytes, kept, lines = bytes + #entry, kept + 1, lines + 1
    w:add('RPUSH', name, entry)
  end
  w:commit()
  while kept > LOG_LINES or (bytes > LOG_BYTES and kept > 0) do
    bytes, kept = bytes - #redis.call('LINDEX', name, 0), kept - 1
    redis.call('LPOP', name)
  end
  job.rare = rare_with(job.rare, 'log_bytes', bytes, 'log_lines', lines)
  w:call('HSET', job.key, 'rare', job.rare, 'log_bytes', int(bytes), 'log_lines', int(lines))
  if job.watched then tell(w, p, id, job) end
end

local function report_one(w, p, now, worker, id, epoch, progress, message, lines)
  local job = read_job(p, id)
  if not holds(job, epoch, worker) then return -1 end
  if progress ~= '' then change(w, p, id, job, 'progress', progress, 'progress_message', message) end
  if lines ~= '' then append_log(w, p, now, id, job, lines) end
  w:commit()
  return 1
end

local function report(keys, argv)
  local p, now, w, replies = keys[1], now_ms(), writes(), {}
  for at = 2, #argv, 5 do
    replies[#replies + 1] = report_one(w, p, now, argv[1], unpack(argv, at, at + 4))
  end
  return replies
end

register('report', report, {})
