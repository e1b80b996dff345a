-- The limits of one model, shared by all workers: predictions in flight, and creates a minute (GCRA, see jobs/account/rate_limit.lua).
-- A create may start half an interval early, and a minute has one interval less than the creates it allows, so no minute
-- sees more than the limit. Idempotent for a prompt, except for the rate: each call is another request.
--
-- KEYS[1] ZSET    `<batch>/<prompt id>` with a prediction in flight -> until when it is counted, ms
-- KEYS[2] STRING  tat of the creates, in microseconds
-- KEYS[3] SET     models with a limit, so that a batch's predictions can be released (jobs/state/release.lua)
-- KEYS[4] HASH    the prompt's batch; nothing is counted for one that was deleted
-- ARGV    'start', prompt, ms it is counted at most, most in flight ('' = any), creates a minute ('' = any), model
-- ARGV    'release', prompt
-- 'start' returns 0, or after how many microseconds to ask again.

local RETRY_AFTER = 250000 -- a prediction of another worker may end at any moment

if ARGV[1] == 'release' then
  return redis.call('ZREM', KEYS[1], ARGV[2])
end

if redis.call('EXISTS', KEYS[4]) == 0 then
  return 0
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local ttl, most, rate = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now / 1000)
if most and not redis.call('ZSCORE', KEYS[1], ARGV[2]) and redis.call('ZCARD', KEYS[1]) >= most then
  return RETRY_AFTER
end
if rate then
  local interval = 60000000 / math.max(rate - 1, rate / 2)
  local tat = tonumber(redis.call('GET', KEYS[2]) or 0)
  if now < tat - interval / 2 then
    return math.ceil(tat - interval / 2 - now)
  end
  redis.call('SET', KEYS[2], string.format('%.0f', math.max(tat, now) + interval), 'PX', math.ceil(interval / 500))
end
if most then
  redis.call('ZADD', KEYS[1], now / 1000 + ttl, ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('SADD', KEYS[3], ARGV[6])
end
return 0
