-- The pause of an account: a manual one stays until a person lifts it; workers check their own again.
--
-- KEYS[1] STRING  why nothing may be created
-- KEYS[2] HASH    of a pause by a worker: by (401 | 402), next (ms of the server's clock: when it is checked again);
--                 of a manual one: person, written after the call
-- ARGV    'pause', reason, by ('' = manual), ms until it is checked again
-- ARGV    'check', by, ms until the next check: 1 for the first caller when a pause of that kind is due for a check
-- ARGV    'lift', by
-- returns 1 when it had an effect, else 0

local op = ARGV[1]
local paused = redis.call('EXISTS', KEYS[1]) == 1
local own = redis.call('HMGET', KEYS[2], 'by', 'next')
local by, due = own[1], tonumber(own[2] or 0)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function schedule_check(ms)
  redis.call('HSET', KEYS[2], 'next', string.format('%.0f', now + ms))
end

if op == 'pause' and ARGV[3] == '' then
  if paused and not by then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[2])
  return 1
elseif op == 'pause' then
  if not paused then
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('DEL', KEYS[2])
    redis.call('HSET', KEYS[2], 'by', ARGV[3])
  end
  if not paused or by == ARGV[3] then
    schedule_check(tonumber(ARGV[4]))
  end
  return paused and 0 or 1
elseif not paused or by ~= ARGV[2] then
  return 0
elseif op == 'check' then
  if now < due then
    return 0
  end
  schedule_check(tonumber(ARGV[3]))
  return 1
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
