-- Count a result exactly once, take it back for another try, or close the batch when all are counted.
-- Idempotent: a call whose answer was lost may be made again.
--
-- KEYS[1] HASH    the batch
-- KEYS[2] BITMAP  settled prompts
-- KEYS[3] BITMAP  prompts whose result is not succeeded
-- KEYS[4] HASH    the batch's ledger
-- KEYS[5] STRING  results of this span of seconds
-- ARGV    'settle' | 'unsettle', batch's id ('' = any), index, outcome   returns 1 when the count changed, else 0
-- ARGV    'finish', '', Unix seconds, ttl                               returns 1 when the batch is finished, else 0
-- ARGV    'cancel', ''                                                  returns 1 when there is such a batch, else 0

local op, id = ARGV[1], redis.call('HGET', KEYS[1], 'id')

if not id or ARGV[2] ~= '' and ARGV[2] ~= id then
  return 0
end

if op == 'cancel' then
  redis.call('HSET', KEYS[1], 'cancel_requested', 1)
  return 1
end

if op == 'finish' then
  local sum = 0
  for _, n in ipairs(redis.call('HMGET', KEYS[1], 'succeeded', 'failed', 'canceled')) do
    sum = sum + tonumber(n or 0)
  end
  if sum < tonumber(redis.call('HGET', KEYS[1], 'total')) then
    return 0
  end
  redis.call('HSETNX', KEYS[1], 'finished_at', ARGV[3])
  for i = 1, 4 do
    redis.call('EXPIRE', KEYS[i], ARGV[4])
  end
  return 1
end

local index, outcome = ARGV[3], ARGV[4]

if op == 'unsettle' then
  if redis.call('SETBIT', KEYS[2], index, 0) == 0 then
    return 0
  end
  redis.call('SETBIT', KEYS[3], index, 0)
  redis.call('HINCRBY', KEYS[1], outcome, -1)
  return 1
end

redis.call('HDEL', KEYS[4], index)
if redis.call('SETBIT', KEYS[2], index, 1) == 1 then
  return 0
end
if outcome ~= 'succeeded' then
  redis.call('SETBIT', KEYS[3], index, 1)
end
redis.call('HINCRBY', KEYS[1], outcome, 1)
redis.call('INCR', KEYS[5])
redis.call('EXPIRE', KEYS[5], 180)
return 1
