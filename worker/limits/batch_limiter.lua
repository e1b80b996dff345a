-- The limit of one batch's predictions in flight, shared by all workers. Idempotent for a prompt.
-- A batch of the same name and another id, one without a limit, and a prompt with a result take no place.
--
-- KEYS[1] ZSET    index of a prompt that has a place -> until when it counts, ms
-- KEYS[2] HASH    the batch; max_in_flight is its limit
-- KEYS[3] BITMAP  settled prompts
-- ARGV    'take', batch's id, index, ms it counts at most     returns 0 when all places are taken, else 1
-- ARGV    'count', batch's id, index, ms it counts at most    takes a place even then; returns 1
-- ARGV    'give', batch's id, index                           returns 1

local op, index = ARGV[1], ARGV[3]
local id, most = unpack(redis.call('HMGET', KEYS[2], 'id', 'max_in_flight'))

if id ~= ARGV[2] then
  return 1
end
if op == 'give' then
  redis.call('ZREM', KEYS[1], index)
  return 1
end
if not most or redis.call('GETBIT', KEYS[3], index) == 1 then
  return 1
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if op == 'take' and not redis.call('ZSCORE', KEYS[1], index) and redis.call('ZCARD', KEYS[1]) >= tonumber(most) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[4], index)
return 1
