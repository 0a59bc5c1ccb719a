-- report: write progress and log lines of many running jobs.
--
-- Uses: keys, register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  worker   2  'last' if the attempts have ended and nothing follows, else ''
--      then seven for each job: id, epoch, progress (0–1) or '', its message, its number; the number of the first log
--      line, and the lines, each followed by '\n'
-- Returns {code, …}, one for each job, in order:
--    1  written, now or when it was first sent
--   -1  stale, nothing was written
--   -2  Redis is nearly full, nothing was written: send it again later. Never for the last report of an attempt.
-- Touches the jobs' hashes, events and logs: the newest 256 lines, at most 64 KiB.
--
-- An attempt numbers its progress and its lines from 1. What is sent again is recognized by its number, and a gap in the
-- numbers is a loss: a line of the log states how many lines are missing. The same happens to lines for which a nearly full
-- Redis has no room when an attempt ends.
local LOG_LINES, LOG_BYTES = 256, 65536

-- The numbers of the last line and the last progress of this attempt that are written.
local function reported(job, epoch)
  local attempt, line, progress = string.match(job.reported or '', '^(%S+) (%d+) (%d+)$')
  if attempt ~= epoch then return 0, 0 end
  return num(line), num(progress)
end

-- The lines after `known`, with a line for those that are missing before them; and the number of the last.
local function new_lines(first, text, known, full)
  local lines, number, missing = {}, first - 1, math.max(first - 1 - known, 0)
  for line in string.gmatch(text, '([^\n]*)\n') do
    number = number + 1
    if number > known then lines[#lines + 1] = line end
  end
  if full then missing, lines = missing + #lines, {} end
  if missing > 0 then
    table.insert(lines, 1, '[' .. int(missing) .. ' lines are missing' .. (full and ': Redis is full]' or ']'))
  end
  return lines, math.max(number, known)
end

-- Appends lines and removes the oldest beyond the limits. A line is kept as `<at, ms> <attempt> <text>`.
local function append_log(w, p, now, id, job, texts)
  local name, bytes, lines = key.log(p, id), num(job.log_bytes), num(job.log_lines)
  local kept = redis.call('LLEN', name)
  for _, text in ipairs(texts) do
    local entry = int(now) .. ' ' .. job.attempt .. ' ' .. text
    bytes, kept, lines = bytes + #entry, kept + 1, lines + 1
    w:add('RPUSH', name, entry)
  end
  w:commit()
  while kept > LOG_LINES or (bytes > LOG_BYTES and kept > 0) do
    bytes, kept = bytes - #redis.call('LINDEX', name, 0), kept - 1
    redis.call('LPOP', name)
  end
  job.optional = optional_with(job.optional, 'log_bytes', bytes, 'log_lines', lines, 'reported', job.reported)
  w:call('HSET', job.key, 'optional', job.optional, 'log_bytes', int(bytes), 'log_lines', int(lines), 'reported', job.reported)
  if job.watched then publish_change(w, p, id, job) end
end

local function report_one(w, p, now, worker, last, id, epoch, progress, message, number, first, text)
  local job = read_job(p, id)
  if not holds(job, epoch, worker) then return -1 end
  local full = memory(w, p).used >= MEMORY_ALL_BUT_FULL
  if full and last == '' then return -2 end
  local line, known = reported(job, epoch)
  local lines, last_line = new_lines(num(first), text, line, full)
  local is_new = num(number) > known
  job.reported = epoch .. ' ' .. int(last_line) .. ' ' .. int(math.max(num(number), known))
  if is_new then
    change(w, p, id, job, 'progress', progress, 'progress_message', message, 'reported', job.reported)
  end
  if #lines > 0 then append_log(w, p, now, id, job, lines) end
  w:commit()
  return 1
end

local function report(p, argv)
  local now, w, replies = now_ms(), writes(), {}
  for at = 3, #argv, 7 do
    replies[#replies + 1] = report_one(w, p, now, argv[1], argv[2], unpack(argv, at, at + 6))
  end
  return replies
end

register('report', report, { 'allow-oom' })
