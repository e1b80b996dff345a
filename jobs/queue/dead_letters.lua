-- The runs of each job. A run that crashes or ends with an unexpected error counts, until a prompt of its shard is settled.
-- A job with too many such runs is a dead letter until `retry` brings it back.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] HASH    job -> JSON {run, settled, deaths, former?, reason?}: run is '' after a normal end, former the run
--                 that was counted as crashed, reason makes it a dead letter
-- KEYS[2] HASH    the batch, of which `total` is read
-- KEYS[3] BITMAP  settled prompts
-- KEYS[4] STREAM  events of the batch (jobs/events/log.py)
-- ARGV    'begin', job, run, first index, last index, most deaths, reason, ttl in seconds
-- ARGV    'end', job, run, 'over' | 'open'
-- ARGV    'record_crash', job, run
-- ARGV    'move_to_dead_letters', job, reason, ttl in seconds
-- returns the reason of a dead letter, else ''

local op, job = ARGV[1], ARGV[2]
local stored = redis.call('HGET', KEYS[1], job)
local note = stored and cjson.decode(stored) or {run = '', settled = 0, deaths = 0}

local function save(ttl)
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

-- One event for a worker, though several of its shards find out. A log never stops a run.
local function record_lost(run, ttl)
  local event = '{"event":"worker_lost","worker":' .. cjson.encode((run:gsub(':[^:]*$', ''))) .. '}'
  local last = redis.pcall('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 50)
  for _, entry in ipairs(last) do
    if entry[2][2] == event then
      return
    end
  end
  redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', 1000, '*', 'event', event)
  redis.pcall('EXPIRE', KEYS[4], ttl)
end

local function begin(run, first, last, most, reason, ttl)
  last = math.min(last, (tonumber(redis.call('HGET', KEYS[2], 'total')) or 0) - 1)
  local now = settled(first, last)
  if note.run ~= '' and note.run ~= run then
    note.deaths, note.former = note.deaths + 1, note.run
    if note.run:sub(1, 7) ~= 'failed ' then
      record_lost(note.run, ttl)
    end
  end
  if now > note.settled then
    note.deaths = 0
  end
  note.run, note.settled = run, now
  if note.deaths >= most and now <= last - first then -- otherwise all is settled, but its batch may not be finished
    note.reason = reason
  end
  save(ttl)
end

-- An end that arrives late, after another worker has started a run, removes the crash that was counted for it.
local function finish(run, over)
  if note.run == run and (over or note.deaths == 0) then
    redis.call('HDEL', KEYS[1], job)
  elseif note.run == run then
    note.run = ''
    save()
  elseif note.former == run then
    note.deaths, note.former = math.max(note.deaths - 1, 0), nil
    save()
  end
end

if note.reason or redis.call('EXISTS', KEYS[2]) == 0 then
  return note.reason or ''
end
if op == 'begin' then
  begin(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8])
elseif op == 'end' then
  finish(ARGV[3], ARGV[4] == 'over')
elseif op == 'record_crash' and note.run == ARGV[3] then
  note.run = 'failed ' .. ARGV[3]
  save()
elseif op == 'move_to_dead_letters' then
  note.reason = ARGV[3]
  save(ARGV[4])
end
return note.reason or ''
