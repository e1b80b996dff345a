-- Change the priority of a batch: its shards that no worker has started move in the queue, as if their virtual times
-- from now on had been reckoned with it. Now is the lowest virtual time of a shard that is not started.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] ZSET  the queue
-- KEYS[2] HASH  the batch
-- arq:in-progress:<id> STRING, for each shard in the queue
-- ARGV    batch id, '<batch>:', priority, prefix of in-progress keys
-- Returns how many shards moved; -1 when the batch no longer exists.

local old = redis.call('HMGET', KEYS[2], 'id', 'priority')
if old[1] ~= ARGV[1] then
  return -1
end
redis.call('HSET', KEYS[2], 'priority', ARGV[3])

local ratio, prefix = tonumber(old[2]) / tonumber(ARGV[3]), ARGV[2]
if ratio == 1 then
  return 0
end

local queue = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local now, moved = nil, 0
for i = 1, #queue, 2 do
  local job, score = queue[i], tonumber(queue[i + 1])
  local is_own = job:sub(1, #prefix) == prefix
  if (not now or is_own) and redis.call('EXISTS', ARGV[4] .. job) == 0 then
    now = now or score
    if is_own then
      redis.call('ZADD', KEYS[1], 'XX', now + (score - now) * ratio, job)
      moved = moved + 1
    end
  end
end
return moved
