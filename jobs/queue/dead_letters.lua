-- The runs of each job: a crash or an unexpected error is counted against the job, unless a prompt of its shard was
-- settled meanwhile. A job with too many crashed runs is a dead letter: set aside until `retry` brings it back.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] HASH    job -> JSON {run, settled, deaths, former?, reason?}: run is '' after an orderly end, former the run
--                 that was counted as dead, reason makes it a dead letter
-- KEYS[2] HASH    the batch, of which `total` is read
-- KEYS[3] BITMAP  settled prompts
-- ARGV    'begin', job, run, first index, last index, most deaths, reason, ttl in seconds
-- ARGV    'end', job, run, 'over' | 'open'
-- ARGV    'blame', job, run
-- ARGV    'bury', job, reason, ttl in seconds
-- returns the reason of a dead letter, else ''

local op, job = ARGV[1], ARGV[2]
local stored = redis.call('HGET', KEYS[1], job)
local note = stored and cjson.decode(stored) or {run = '', settled = 0, deaths = 0}

local function keep(ttl)
  redis.call('HSET', KEYS[1], job, cjson.encode(note))
  if ttl then
    redis.call('EXPIRE', KEYS[1], ttl)
  end
end

local function settled(first, last)
  local count = 0
  for index = first, last do
    count = count + redis.call('GETBIT', KEYS[3], index)
  end
  return count
end

local function begin(run, first, last, most, reason, ttl)
  last = math.min(last, (tonumber(redis.call('HGET', KEYS[2], 'total')) or 0) - 1)
  local now = settled(first, last)
  if note.run ~= '' and note.run ~= run then
    note.deaths, note.former = note.deaths + 1, note.run
  end
  if now > note.settled then
    note.deaths = 0
  end
  note.run, note.settled = run, now
  if note.deaths >= most and now <= last - first then -- else all is settled: its batch may have to be finished
    note.reason = reason
  end
  keep(ttl)
end

-- An end that arrives late, when another worker has started a run, takes back the crash that was counted for it.
local function finish(run, over)
  if note.run == run and (over or note.deaths == 0) then
    redis.call('HDEL', KEYS[1], job)
  elseif note.run == run then
    note.run = ''
    keep()
  elseif note.former == run then
    note.deaths, note.former = math.max(note.deaths - 1, 0), nil
    keep()
  end
end

if note.reason or redis.call('EXISTS', KEYS[2]) == 0 then
  return note.reason or ''
end
if op == 'begin' then
  begin(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8])
elseif op == 'end' then
  finish(ARGV[3], ARGV[4] == 'over')
elseif op == 'blame' and note.run == ARGV[3] then
  note.run = 'failed ' .. ARGV[3]
  keep()
elseif op == 'bury' then
  note.reason = ARGV[3]
  keep(ARGV[4])
end
return note.reason or ''
