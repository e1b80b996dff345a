-- A batch's concurrency limit: the prompts with a prediction in flight, shared by all workers. Idempotent for a prompt.
-- Nothing is counted for a batch with another id or without a limit, nor for a prompt that has its result.
--
-- KEYS[1] ZSET    index of a prompt in flight -> until when it counts, ms
-- KEYS[2] HASH    the batch; max_in_flight is its limit
-- KEYS[3] BITMAP  settled prompts
-- ARGV    'acquire', batch's id, index, ms it counts at most  returns 0 when the limit is reached, else 1
-- ARGV    'count', batch's id, index, ms it counts at most    counts it even then; returns 1
-- ARGV    'release', batch's id, index                        returns 1

local op, index = ARGV[1], ARGV[3]
local id, most = unpack(redis.call('HMGET', KEYS[2], 'id', 'max_in_flight'))

if id ~= ARGV[2] then
  return 1
end
if op == 'release' then
  redis.call('ZREM', KEYS[1], index)
  return 1
end
if not most or redis.call('GETBIT', KEYS[3], index) == 1 then
  return 1
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if op == 'acquire' and not redis.call('ZSCORE', KEYS[1], index) and redis.call('ZCARD', KEYS[1]) >= tonumber(most) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[4], index)
return 1
