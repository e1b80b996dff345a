-- The outbox of notifications: an event is posted once, and each of its deliveries is claimed before it is sent.
-- Times are Unix seconds of the server's clock.
--
-- KEYS[1] STRING  JSON of the event
-- KEYS[2] ZSET    delivery `<receiver>/<event id>` -> when it is due
-- KEYS[3] HASH    delivery -> how often it was tried
-- KEYS[4] LIST    JSON of the tries that ended, newest first
-- KEYS[5] HASH    the batch that has to be finished ('post' with a time only)
-- ARGV    'post', event, seconds that it is kept, finished_at ('' = whatever), receivers…  returns 1 when it is new, else 0
-- ARGV    'claim', delivery, seconds         returns {tries with this one, event}; {0, ''}: not due, or expired
-- ARGV    'end', delivery, record, most records
-- ARGV    'postpone', delivery, record, most records, seconds

local op, delivery = ARGV[1], ARGV[2]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

local function at(seconds)
  return string.format('%.3f', now + seconds)
end

local function forget()
  redis.call('ZREM', KEYS[2], delivery)
  redis.call('HDEL', KEYS[3], delivery)
end

local function log(record, most)
  redis.call('LPUSH', KEYS[4], record)
  redis.call('LTRIM', KEYS[4], 0, most - 1)
end

if op == 'post' then
  if ARGV[4] ~= '' and redis.call('HGET', KEYS[5], 'finished_at') ~= ARGV[4] then
    return 0
  end
  if not redis.call('SET', KEYS[1], ARGV[2], 'NX', 'EX', ARGV[3]) then
    return 0
  end
  local id = cjson.decode(ARGV[2]).id
  for i = 5, #ARGV do
    redis.call('ZADD', KEYS[2], at(0), ARGV[i] .. '/' .. id)
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, at(-tonumber(ARGV[3]))) -- of receivers that no worker knows any more
  return 1
elseif op == 'claim' then
  local due = redis.call('ZSCORE', KEYS[2], delivery)
  if not due or tonumber(due) > now then
    return {0, ''}
  end
  local event = redis.call('GET', KEYS[1])
  if not event then
    forget()
    return {0, ''}
  end
  redis.call('ZADD', KEYS[2], at(ARGV[3]), delivery)
  return {redis.call('HINCRBY', KEYS[3], delivery, 1), event}
elseif op == 'end' then
  forget()
  log(ARGV[3], tonumber(ARGV[4]))
else
  redis.call('ZADD', KEYS[2], 'XX', at(ARGV[5]), delivery)
  log(ARGV[3], tonumber(ARGV[4]))
end
return 1
